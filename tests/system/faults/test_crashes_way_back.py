"""Killed while people and customs brokers act on an export: each act happens once, and no act is lost."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

from kombu import Connection, Producer

from config import queues
from pipeline.deliveries.submissions.signature import build_signature_headers
from tests.support import factories
from tests.system.faults.case import Case
from tests.system.faults.client import Json
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import EMBEDDED, RABBITMQ, REDIS, SERVED, STACKS, fault
from tests.system.faults.points import (
    AMEND_POINTS,
    ANSWER_POINTS,
    CLOCK_POINTS,
    FILE_POINTS,
    HOLD_POINTS,
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
        assert [counted[each] for each in happened] == [1, 2, 1]
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
