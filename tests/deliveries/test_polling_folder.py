"""Polls of in/ on a customs broker's SFTP server: each file is recorded once and moved, whatever it contains."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from kombu import Connection
from sqlalchemy import update
from sqlmodel import col, select

from config import queues
from pipeline.accounts import partners
from pipeline.accounts.models import PartnerChannel
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime
from pipeline.deliveries import polling
from pipeline.deliveries.channels import sftp_inbox
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.streams import sender
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact
from pipeline.workflow import dispatch
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.own_logs import capture_own_logs
from tests.support.sftp_server import PASSWORD, SftpServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpServer]:
    root = tmp_path / "partner"
    (root / "in").mkdir(parents=True)
    with SftpServer(root) as running:
        yield running


@pytest.fixture
def runtime(make_runtime: OpenRuntime, server: SftpServer) -> Runtime:
    """A runtime whose customs broker receives handoffs by SFTP."""
    runtime = make_runtime(delivery_timeout_seconds=5)
    exports.register(
        runtime, factories.BROKER, "customs_broker", path="byob", channels=[server.endpoint() | {"password": PASSWORD}]
    )
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    return runtime


def hand_over(runtime: Runtime) -> BrokerSubmission:
    """Hand off an export and return its submission."""
    export = exports.prepare_export(runtime)
    stored.change(runtime, update(Artifact).values(sha256=runtime.store.put(b"doc")))
    exports.hand_off(runtime, export)
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    return read_submission(runtime)


def read_submission(runtime: Runtime) -> BrokerSubmission:
    return stored.one(runtime, select(BrokerSubmission))


def list_answers(runtime: Runtime) -> list[tuple[str, str]]:
    return [
        (row.id, row.status) for row in stored.rows(runtime, select(Acknowledgement).order_by(col(Acknowledgement.id)))
    ]


def build_answer(submission_id: str, status: str = "accepted", number: int = 1, **more: Any) -> bytes:
    return json.dumps({"submissionId": submission_id, "id": f"A-{number}", "status": status} | more).encode()


def write_inbox_file(server: SftpServer, name: str, body: bytes) -> None:
    (server.root / "in" / name).write_bytes(body)


def list_inbox(server: SftpServer) -> dict[str, bytes]:
    return {path.removeprefix("in/"): body for path, body in server.files().items() if path.startswith("in/")}


def read_inbox(runtime: Runtime) -> polling.PollResult:
    return polling.poll_folder(runtime, factories.ACCOUNT, factories.BROKER, "sftp")


def test_handoff_is_uploaded_with_documents_and_its_answer_is_recorded(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    assert (sent.state, sent.channel) == ("delivered", "sftp")
    (folder,) = (server.root / "out").iterdir()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert {Path(each["name"]).name for each in manifest["files"]} >= {"cci_json.bin", "cci_pdf.bin", "message.json"}
    assert json.loads((folder / "message.json").read_bytes())["data"]["submissionId"] == sent.id
    write_inbox_file(server, "a1.json", build_answer(sent.id, "filed", entryNumber="ABC-1234567-8"))
    assert read_inbox(runtime) == polling.PollResult(recorded=1)
    assert read_submission(runtime).state == "filed"
    assert list_inbox(server) == {"done/a1.json": build_answer(sent.id, "filed", entryNumber="ABC-1234567-8")}
    event = stored.one(runtime, select(Event).where(col(Event.type) == "BROKER_ACKNOWLEDGED"))
    assert (event.actor, event.data["entryNumber"]) == (f"partner:{factories.BROKER}", "ABC-1234567-8")


def test_folder_with_unreadable_credential_is_read_later(
    runtime: Runtime, make_runtime: OpenRuntime, server: SftpServer
) -> None:
    sent = hand_over(runtime)
    write_inbox_file(server, "a1.json", build_answer(sent.id))
    with capture_own_logs() as logs:
        assert read_inbox(make_runtime(secret_key="lost")) == polling.PollResult()
    assert [(line["event"], "EXPORTS_SECRET_KEY " in line["reason"]) for line in logs] == [("answers_not_read", True)]
    assert read_inbox(runtime) == polling.PollResult(recorded=1)


def test_rejection_file_names_its_fields(runtime: Runtime, server: SftpServer) -> None:
    fields = [{"pointer": "/units/0/lines/0/htsCode", "message": "The code has expired."}]
    write_inbox_file(server, "a.json", build_answer(hand_over(runtime).id, "rejected", fields=fields))
    read_inbox(runtime)
    assert stored.one(runtime, select(Acknowledgement)).fields == fields
    assert read_submission(runtime).state == "rejected"


def test_file_about_what_the_plan_lacks_and_a_changed_answer_are_refused(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    nowhere = build_answer(sent.id, "query", 2, fields=[{"pointer": "/units/9", "message": "Which?"}])
    for name, body in [("a", build_answer(sent.id)), ("b", build_answer(sent.id, "rejected")), ("c", nowhere)]:
        write_inbox_file(server, f"{name}.json", body)
    assert read_inbox(runtime) == polling.PollResult(recorded=1, refused=2)
    reasons = [list_inbox(server)[f"refused/{name}.json.reason.txt"].split(b";")[0] for name in "bc"]
    assert reasons == [b"the answer A-1 was recorded with another status", b"/units/9 leads to no place of the plan"]


def test_recorded_but_unmoved_file_is_moved_without_effect(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    for _ in range(2):
        write_inbox_file(server, "a.json", build_answer(sent.id))
        read_inbox(runtime)
    assert list_answers(runtime) == [("A-1", "accepted")]
    names = sorted(list_inbox(server))
    assert names[1] == "done/a.json"
    assert names[0].startswith("done/a-"), "the second file of that name does not overwrite the first"
    log = exports.read_event_types(runtime, sent.export_id)
    assert log.count("BROKER_ACKNOWLEDGED") == 1


def test_answers_in_a_read_only_folder_are_recorded(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    write_inbox_file(server, "a.json", build_answer(sent.id, "received", 1))
    write_inbox_file(server, "b.json", build_answer(sent.id, "accepted", 2))
    (server.root / "in" / "done").write_text("a file where the folder should be")
    with capture_own_logs() as logs:
        assert read_inbox(runtime) == polling.PollResult(recorded=2)
        assert read_inbox(runtime) == polling.PollResult(repeated=2)
    assert [each["event"] for each in logs].count("answer_file_not_moved") == 4
    assert read_submission(runtime).state == "accepted"


def test_concurrent_polls_record_each_answer_once(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    for number in range(5):
        write_inbox_file(server, f"a{number}.json", build_answer(sent.id, "received", number))
    found: list[polling.PollResult] = []
    threads = [threading.Thread(target=lambda: found.append(read_inbox(runtime))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.recorded for each in found) == 5
    assert len(list_answers(runtime)) == 5
    assert sorted(list_inbox(server)) == [f"done/a{number}.json" for number in range(5)]


def test_partial_file_is_left_until_it_is_renamed(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    write_inbox_file(server, "a.json.part", build_answer(sent.id))
    assert read_inbox(runtime) == polling.PollResult()
    (server.root / "in" / "a.json.part").rename(server.root / "in" / "a.json")
    assert read_inbox(runtime) == polling.PollResult(recorded=1)


BROKEN = {
    "nothing": b"",
    "text": b"accepted, thanks",
    "half": b'{"submissionId": "sub_',
    "list": b"[]",
    "latin": '{"message": "é"}'.encode("latin-1"),
    "unknown-member": b'{"submissionId":"sub_%s","id":"A-1","status":"accepted","extra":1}' % (b"0" * 32),
    "unknown-status": b'{"submissionId":"sub_%s","id":"A-1","status":"maybe"}' % (b"0" * 32),
    "no-submission": b'{"id":"A-1","status":"accepted"}',
    "nobody's": b'{"submissionId":"sub_%s","id":"A-1","status":"accepted"}' % (b"0" * 32),
    "deep": b"[" * 60_000,
    "twice": b'{"id":"A-1","id":"A-2","status":"accepted","submissionId":"sub_%s"}' % (b"0" * 32),
    "huge": b" " * (sftp_inbox.MAX_BYTES + 1),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_invalid_answer_file_is_moved_to_refused_and_logged(runtime: Runtime, server: SftpServer, body: bytes) -> None:
    sent = hand_over(runtime)
    write_inbox_file(server, "a.json", body)
    write_inbox_file(server, "b.json", build_answer(sent.id))
    with capture_own_logs() as logs:
        assert read_inbox(runtime) == polling.PollResult(recorded=1, refused=1)
    found = list_inbox(server)
    assert found.keys() == {"refused/a.json", "refused/a.json.reason.txt", "done/b.json"}
    assert found["refused/a.json"] == body, "it is not lost"
    assert found["refused/a.json.reason.txt"].strip()
    assert "answer_file_refused" in [each["event"] for each in logs]
    assert list_answers(runtime) == [("A-1", "accepted")]


def test_answer_for_another_partner_is_refused_as_unknown(
    make_runtime: OpenRuntime, server: SftpServer, tmp_path: Path
) -> None:
    runtime = make_runtime()
    other = [server.endpoint() | {"password": PASSWORD}]
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, "br_other", "customs_broker", path="byob", channels=other)
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    sent = hand_over(runtime)
    write_inbox_file(server, "theirs.json", build_answer(sent.id))
    write_inbox_file(server, "nobodys.json", build_answer("sub_" + "0" * 32))
    assert polling.poll_folder(runtime, factories.ACCOUNT, "br_other", "sftp") == polling.PollResult(refused=2)
    assert list_answers(runtime) == []
    found = list_inbox(server)
    reason = found["refused/theirs.json.reason.txt"].decode().replace(sent.id, "X")
    assert reason == found["refused/nobodys.json.reason.txt"].decode().replace("sub_" + "0" * 32, "X")


def test_links_and_folders_are_moved_to_refused_unread(runtime: Runtime, server: SftpServer, tmp_path: Path) -> None:
    sent = hand_over(runtime)
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(build_answer(sent.id))
    (server.root / "in" / "link.json").symlink_to(elsewhere)
    (server.root / "in" / "dangling.json").symlink_to(tmp_path / "nothing")
    (server.root / "in" / "folder.json").mkdir()
    assert read_inbox(runtime) == polling.PollResult(refused=3)
    assert list_answers(runtime) == []
    assert {path.name for path in (server.root / "in" / "refused").iterdir()} == {
        name for stem in ("link", "dangling", "folder") for name in (f"{stem}.json", f"{stem}.json.reason.txt")
    }
    assert elsewhere.exists()


def test_unsafe_names_are_ignored_and_counted(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    (server.root / "secret.json").write_bytes(build_answer(sent.id))
    tricks = [b"../secret.json", b"/secret.json", b"..", b"a\x00.json", b"a\n.json", b"\xff\xfe.json", b"in/../x.json"]
    server.faults.names = tricks
    write_inbox_file(server, "answer.txt", b"accepted")
    write_inbox_file(server, "réponse.json", build_answer(sent.id))
    with capture_own_logs() as logs:
        assert read_inbox(runtime) == polling.PollResult(ignored=len(tricks) - 1 + 2), (
            "all but the entry that servers list themselves"
        )
    assert {"event": "answer_files_ignored", "count": 8, "log_level": "warning"}.items() <= logs[-1].items()
    assert list_answers(runtime) == []
    assert list_inbox(server).keys() == {"answer.txt", "réponse.json"}


def test_file_gone_after_listing_is_skipped(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    server.faults.names = [b"gone.json"]
    write_inbox_file(server, "a.json", build_answer(sent.id))
    assert read_inbox(runtime) == polling.PollResult(recorded=1)


def test_unreadable_file_is_moved_to_refused(runtime: Runtime, server: SftpServer) -> None:
    def refuse(path: str) -> None:
        if path.endswith("a.json"):
            raise asyncssh.SFTPPermissionDenied("not yours")

    sent = hand_over(runtime)
    server.faults.read = refuse
    write_inbox_file(server, "a.json", build_answer(sent.id))
    write_inbox_file(server, "b.json", build_answer(sent.id))
    assert read_inbox(runtime) == polling.PollResult(recorded=1, refused=1)
    assert b"PermissionDenied" in list_inbox(server)["refused/a.json.reason.txt"]


def test_poll_takes_a_bounded_number_oldest_first(
    runtime: Runtime, server: SftpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp_inbox, "MAX_FILES", 4)
    sent = hand_over(runtime)
    for number in range(6):
        name = f"a{9 - number}.json"
        write_inbox_file(server, name, build_answer(sent.id, "received", number))
        os.utime(server.root / "in" / name, (number, number))
    assert read_inbox(runtime) == polling.PollResult(recorded=4)
    assert [number for number, _ in list_answers(runtime)] == ["A-0", "A-1", "A-2", "A-3"]
    assert read_inbox(runtime) == polling.PollResult(recorded=2)


def test_unreachable_or_unpinned_server_is_only_logged(runtime: Runtime, server: SftpServer, tmp_path: Path) -> None:
    sent = hand_over(runtime)
    write_inbox_file(server, "a.json", build_answer(sent.id))
    server.password = PASSWORD[::-1]
    with capture_own_logs() as logs:
        assert read_inbox(runtime) == polling.PollResult()
    server.password = PASSWORD
    with runtime.db.write() as session:
        row = session.exec(select(PartnerChannel).where(col(PartnerChannel.channel) == "sftp")).one()
        key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        row.endpoint = row.endpoint | {"hostKeys": [key]}
    with capture_own_logs() as more:
        assert read_inbox(runtime) == polling.PollResult()
    assert [each["event"] for each in [*logs, *more]] == ["answers_not_read", "answers_not_read"]
    assert "pinned" in more[0]["reason"]
    assert list(list_inbox(server)) == ["a.json"]


# Which partners are polled, and when


FOLDER = polling.Poll(factories.ACCOUNT, factories.BROKER, "sftp")


def test_partner_is_polled_only_with_open_submissions_at_the_set_interval(runtime: Runtime, clock: Clock) -> None:
    assert polling.take_due_polls(runtime) == [], "nothing was sent"
    hand_over(runtime)
    clock.pass_seconds(60)
    assert polling.take_due_polls(runtime) == [FOLDER]
    assert polling.take_due_polls(runtime) == []
    clock.pass_seconds(59)
    assert polling.take_due_polls(runtime) == []
    clock.pass_seconds(1)
    assert polling.take_due_polls(runtime) == [FOLDER]


@pytest.mark.parametrize("state", ["accepted", "held", "released"])
def test_partner_is_polled_also_after_a_release(runtime: Runtime, state: str) -> None:
    hand_over(runtime)
    stored.change(runtime, update(BrokerSubmission).values(state=state))
    assert polling.take_due_polls(runtime) == [FOLDER]


def test_submission_without_change_for_a_month_is_not_polled(runtime: Runtime, clock: Clock) -> None:
    hand_over(runtime)
    clock.pass_seconds(30 * 86_400)
    assert polling.take_due_polls(runtime) == []


def test_paused_partner_or_open_breaker_is_not_polled(runtime: Runtime, server: SftpServer) -> None:
    sent = hand_over(runtime)
    write_inbox_file(server, "a.json", build_answer(sent.id))
    stored.change(runtime, update(PartnerChannel).values(open_until=database_now(30)))
    assert polling.take_due_polls(runtime) == []
    stored.change(runtime, update(PartnerChannel).values(open_until=None))
    partners.pause_partner(runtime, factories.ACCOUNT, factories.BROKER)
    assert polling.take_due_polls(runtime) == []
    assert read_inbox(runtime) == polling.PollResult()


def test_concurrent_sweeps_poll_a_partner_once(
    make_runtime: OpenRuntime, server: SftpServer, database_url: str
) -> None:
    runtime = make_runtime(database_url=database_url)
    endpoint = server.endpoint() | {"password": PASSWORD}
    exports.register(runtime, factories.BROKER, "customs_broker", path="byob", channels=[endpoint])
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    hand_over(runtime)
    found: list[polling.Poll] = []
    threads = [threading.Thread(target=lambda: found.extend(polling.take_due_polls(runtime))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FOLDER]


def test_each_poll_is_a_separate_task_on_the_deliveries_queue() -> None:
    with Connection("memory://") as connection, connection.SimpleQueue(queues.DELIVERIES) as waiting:
        waiting.clear()
        dispatch.publish_polls([FOLDER, polling.Poll(factories.ACCOUNT, factories.BROKER, "borderbuddy", "sub_1")])
        sent = [waiting.get(timeout=1) for _ in range(2)]
        for each in sent:
            each.ack()
    assert [(each.headers["task"], each.payload[0]) for each in sent] == [
        ("exports.poll_folder", [factories.ACCOUNT, factories.BROKER, "sftp"]),
        ("exports.poll_endpoint", ["sub_1"]),
    ]
