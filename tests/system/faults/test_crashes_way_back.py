"""Killed while people and customs brokers act on an export: each act happens once, and no act is lost."""

import json
import ssl
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from kombu import Connection, Producer

from config import queues
from pipeline.accounts import api_keys
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.simulation.partners.server import create_self_signed
from tests.deliveries.test_mail_replies import compose
from tests.support import factories, failpoints
from tests.support.imap_server import KeptMail, MailboxServer
from tests.support.mail_server import DESK, Certificate, MailServer
from tests.support.ports import LOOPBACK
from tests.support.sftp_server import PASSWORD, SftpServer
from tests.system.faults.case import Case
from tests.system.faults.client import Json
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import EMBEDDED, RABBITMQ, REDIS, SERVED, STACKS, fault
from tests.system.faults.points import (
    AMEND_POINTS,
    ANSWER_POINTS,
    CALENDAR_POINTS,
    CLOCK_POINTS,
    FEED_POINTS,
    FILE_POINTS,
    HOLD_POINTS,
    LATE_POINTS,
    RESET_POINTS,
    WAY_BACK_POINTS,
)
from tests.system.faults.site import Site
from tests.system.faults.test_crashes import set_kills

REPORT = "Entry Summary Number,HTS Number - Full,Line Tariff Duty Amount\nABC-1234567-8,9903.88.03,62.50\n"


def act(one: Case, path: str, body: Json | bytes) -> None:
    """Repeat a request until it is answered."""

    def is_done() -> bool:
        answer = one.client.post(path, body)
        if answer is None or answer.status_code == 503:
            return False
        assert answer.is_success, answer.text
        return True

    one.site.wait_until(is_done, 300, f"{path} was not answered")


def repeat(one: Case, method: str, path: str, **parts: Any) -> httpx.Response:
    """Repeat a request without a body until it is answered, and return the answer."""
    answers: list[httpx.Response] = []

    def is_done() -> bool:
        with suppress(httpx.HTTPError):
            answers.append(one.client.http.request(method, path, **parts))
        return bool(answers) and answers[-1].is_success

    one.site.wait_until(is_done, 120, f"{path} was not answered")
    return answers[-1]


def inspect(one: Case, export_id: str) -> Json:
    """Return the export when the API answers."""
    views: list[Json] = []

    def is_answered() -> bool:
        view = one.client.inspect(export_id)
        views.extend([view] if view else [])
        return bool(views)

    one.site.wait_until(is_answered, 300, "the API has no export")
    return views[0]


@fault("F4", everyday=(EMBEDDED, REDIS), long=STACKS)
def test_api_killed_in_each_act_after_the_handoff(site: Site, case: OpenCase) -> None:
    with case() as one:
        site.start("worker")
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        answers = f"/api/broker-submissions/{inspect(one, export_id)['broker_submission']['id']}/acknowledgements"
        one.arm("web", set_kills(*WAY_BACK_POINTS))
        act(one, answers, {"id": "a-1", "status": "query", "message": "Which alloy?"})
        act(one, f"/api/exports/{export_id}/messages", {"id": "m-1", "text": "304.", "inReplyTo": "a-1"})
        act(one, f"/api/exports/{export_id}/withdraw", {"reason": "sold elsewhere"})
        act(one, answers, {"id": "a-2", "status": "withdrawn"})
        assert one.count_fired() == dict.fromkeys(sorted(WAY_BACK_POINTS), 1)
        site.start("worker")
        one.wait_until_finished([export_id])
        counted = Counter(one.list_event_types())
        happened = ("BROKER_QUERIED", "MESSAGE_WRITTEN", "EXPORT_WITHDRAWAL_REQUESTED", "BROKER_ACKNOWLEDGED")
        assert [counted[each] for each in happened] == [1, 1, 1, 1]
        assert inspect(one, export_id)["outcome"] == "withdrawn"
        one.check(again=[export_id])


@fault("F4", everyday=(EMBEDDED, REDIS), long=STACKS)
def test_api_killed_with_a_file_amounts_a_correction_and_the_clock(site: Site, case: OpenCase) -> None:
    with case() as one:
        site.start("worker")
        plan = one.client.plan()
        export_id = one.accepted(plan)
        one.wait_until_finished([export_id])
        answers = f"/api/broker-submissions/{inspect(one, export_id)['broker_submission']['id']}/acknowledgements"
        act(one, answers, {"id": "a-1", "status": "filed", "entryNumber": "ABC-1234567-8"})
        points = (*FILE_POINTS, *ANSWER_POINTS, *AMEND_POINTS, *CLOCK_POINTS)
        one.arm("web", set_kills(*points))
        act(one, f"/api/exports/{export_id}/attachments?filename=7501.pdf", b"%PDF-1.7\n")
        act(one, "/api/filed-entries", {"text": REPORT})
        plan = factories.change_plan(plan, "/units/0/invoice/purchaseOrder", "PO-2")
        request = {"accountId": one.client.account, "batchId": plan["batchId"], "plan": plan}
        act(one, f"/api/exports/{export_id}/amend?afterFiling=correction", request)
        act(one, "/api/test-clock", {"at": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
        assert one.count_fired() == dict.fromkeys(sorted(points), 1)
        one.wait_until_finished([export_id])
        counted = Counter(one.list_event_types())
        happened = ("FILE_ATTACHED", "BROKER_ACKNOWLEDGED", "EXPORT_AMENDED")
        assert [counted[each] for each in happened] == [1, 2, 2]  # each revision names the other
        assert one.list_states() == ["superseded", "executed"]
        one.check()


@fault("F4", everyday=(EMBEDDED, RABBITMQ), long=STACKS)
def test_api_killed_in_hold_and_release(site: Site, case: OpenCase) -> None:
    with case() as one:
        export_id = one.accepted()
        one.arm("web", set_kills(*HOLD_POINTS))
        act(one, f"/api/exports/{export_id}/hold", {"reason": "the buyer may cancel"})
        site.start("worker")
        site.wait_until(
            lambda: "1 of 1 units" in inspect(one, export_id)["status"],
            300,
            "the units of the held export do not close",
        )
        act(one, f"/api/exports/{export_id}/release", {})
        assert one.count_fired() == dict.fromkeys(sorted(HOLD_POINTS), 1)
        site.start("worker")
        one.wait_until_finished([export_id])
        counted = Counter(one.list_event_types())
        assert (counted["HANDOFF_HELD"], counted["HANDOFF_HOLD_RELEASED"], counted["HANDED_OFF"]) == (1, 1, 1)
        assert one.list_states() == ["executed"]
        one.check(again=[export_id])


@fault("F4", everyday=(RABBITMQ,), long=SERVED)
def test_intake_killed_with_an_answer_records_it_once(site: Site, case: OpenCase) -> None:
    with case() as one:
        site.start("worker")
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        rotated = one.client.post(f"/api/partners/{factories.BROKER}/rotate-secret", {})
        assert rotated is not None
        secret = rotated.json()["secret"]
        site.canaries.append(secret)
        handoff = inspect(one, export_id)["broker_submission"]["id"]
        one.arm("intake", set_kills(*ANSWER_POINTS))
        body = json.dumps({"submissionId": handoff, "id": "a-1", "status": "accepted"}).encode()
        with Connection(site.stack.broker_url) as connection:
            Producer(connection).publish(
                body,
                exchange=queues.exchange,
                routing_key=queues.BINDINGS[queues.ACKNOWLEDGEMENTS][0],
                content_type="application/json",
                content_encoding="utf-8",
                headers=dict(build_signature_headers("a-1", body, secret)),
            )
        site.wait_until(
            lambda: one.count_fired() == dict.fromkeys(sorted(ANSWER_POINTS), 1), 300, "the intake was not killed twice"
        )
        one.mark_repaired()
        site.wait_until(
            lambda: site.waiting(queues.ACKNOWLEDGEMENTS) == 0 and site["intake"].running,
            300,
            "the answer is still queued",
        )
        one.wait_until_finished([export_id])
        assert Counter(one.list_event_types())["BROKER_ACKNOWLEDGED"] == 1
        assert inspect(one, export_id)["outcome"] == "accepted"
        one.check(again=[export_id])


@fault("F4", everyday=(EMBEDDED,), long=(REDIS,))
def test_api_killed_at_the_clock_the_calendar_the_feed_and_an_alarm(site: Site, case: OpenCase) -> None:
    with case() as one:
        site.start("worker")
        live = api_keys.create_key(site.runtime, one.client.account, "faults", mode="live", roles=[api_keys.ADMIN])
        site.canaries.append(live.bearer)
        ahead = {"at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
        act(one, "/api/test-clock", ahead)
        points = (*RESET_POINTS, *CALENDAR_POINTS, *FEED_POINTS, *(LATE_POINTS if site.embedded else ()))
        one.arm("web", set_kills(*points))
        repeat(one, "DELETE", "/api/test-clock")
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        listed = repeat(one, "GET", "/api/events", params={"limit": 200}).json()["items"]
        assert [each["seq"] for each in listed] == list(range(1, len(listed) + 1))
        for method in ("POST", "DELETE"):
            repeat(one, method, "/api/deadlines/calendar", headers={"Authorization": f"Bearer {live.bearer}"})
        act(one, "/api/test-clock", {"at": (datetime.now(UTC) + timedelta(days=300)).isoformat()})
        site.wait_until(lambda: "HANDOFF_OVERDUE" in one.list_event_types(), 300, "no alarm")
        site.wait_until(lambda: one.count_fired() == dict.fromkeys(sorted(points), 1), 60, "not every point fired")
        one.wait_until_finished([export_id])
        assert Counter(one.list_event_types())["HANDOFF_OVERDUE"] == 1
        acts = repeat(one, "GET", "/api/audit", params={"limit": 200}).json()["items"]
        # A repeated request for a link or its end is an act of its own; a repeated reset is none.
        counted = Counter(each["action"] for each in acts)
        assert (counted["test_clock_reset"], counted["test_clock_moved"]) == (1, 2)
        one.check(again=[export_id])


@fault("F4", everyday=(EMBEDDED,))
def test_killed_before_it_moves_an_answer_by_sftp_or_flags_one_by_email(
    site: Site, case: OpenCase, tmp_path: Path
) -> None:
    root = tmp_path / "partner"
    (root / "in").mkdir(parents=True)
    with SftpServer(root) as sftp, MailServer() as smtp, MailboxServer() as mailbox, case() as one:
        authority = tmp_path / "authority.pem"
        server, shown = create_self_signed(LOOPBACK)
        mailbox.certificate = Certificate(server, ssl.create_default_context())
        authority.write_bytes(shown)
        settings = {"imap_url": mailbox.url(), "smtp_url": f"smtp://127.0.0.1:{smtp.port}", "partner_poll_seconds": "1"}
        settings |= {"mail_from": "exports@maple.example"}

        def kill(times: int) -> None:
            variables = failpoints.build_variables(set_kills("answer.after", times=times), one.marks)
            one.marks.mkdir(exist_ok=True)
            site["web"].kill()
            site["web"].start({**variables, "SSL_CERT_FILE": str(authority)}, **settings)

        kill(0)
        handoffs = []
        for broker, channel in (
            ("br_sftp", sftp.endpoint() | {"password": PASSWORD}),
            ("br_mail", {"channel": "email", "addresses": [DESK]}),
        ):
            partner = {"id": broker, "kind": "customs_broker", "name": "Demo Brokers", "path": "byob"}
            act(one, "/api/partners", {**partner, "test": True, "live": True, "channels": [channel]})
            export_id = one.accepted(one.client.plan(broker=broker))
            one.wait_until_finished([export_id])
            handoffs.append(inspect(one, export_id)["broker_submission"]["id"])
        kill(1)
        answer = {"submissionId": handoffs[0], "id": "a-1", "status": "accepted"}
        (root / "in" / "a.json").write_text(json.dumps(answer))
        site.wait_until((root / "in" / "done" / "a.json").exists, 300, "the file is not moved")
        assert one.count_fired() == {"answer.after": 1}
        kill(2)
        mailbox.mails.append(KeptMail(compose(str(smtp.mails[0].parsed["Message-ID"])).as_bytes()))
        site.wait_until(lambda: mailbox.flags() == [{rb"\Seen"}], 300, "the e-mail is not marked")
        assert one.count_fired() == {"answer.after": 2}
        assert Counter(one.list_event_types())["BROKER_ACKNOWLEDGED"] == 2
