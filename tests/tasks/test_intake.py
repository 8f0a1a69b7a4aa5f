"""Tests of the intake: it processes each message once, replies if asked, and no message blocks the next."""

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from amqp.exceptions import MessageNacked
from kombu import Connection, Consumer, Message, Producer, Queue
from sqlmodel import select
from structlog.testing import capture_logs

from config import queues
from pipeline.core.errors import DatabaseBusy, IdempotencyInProgress
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.exports.event_models import Event
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Export
from pipeline.workflow.acceptance import accept_plan
from tasks import intake
from tests.conftest import SERVERS, OwnServer
from tests.deliveries.conftest import OpenRuntime, empty_queues
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.servers import RabbitMQ, Redis, poll

Json = dict[str, Any]
OLD = datetime(2026, 1, 1, tzinfo=UTC)
MOST_BYTES = 64 * 1024


@pytest.fixture(params=["memory", pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)])
def harness(
    request: pytest.FixtureRequest, make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[IntakeHarness]":
    """A running intake on each message broker; it publishes no task messages."""
    url = "memory://"
    if request.param == "memory":
        empty_queues()
        with Connection(url) as connection:
            connection.default_channel.queue_purge("answers")
    else:
        server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
        url = server.fresh_url()
    monkeypatch.setattr("tasks.commands.dispatch.publish_export", lambda *_, **__: None)
    monkeypatch.setattr(intake, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(intake, "HEARTBEAT_SECONDS", 0.05)
    runtime = make_runtime(broker_url=url, max_body_bytes=MOST_BYTES)
    secret = exports.register(runtime, factories.BROKER, "customs_broker").secret
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    with run_intake(runtime):
        yield IntakeHarness(runtime, url, secret)


@contextmanager
def run_intake(runtime: Runtime) -> Iterator[intake.Intake]:
    running = intake.Intake(runtime)
    thread = threading.Thread(target=running.run, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "WAIT_SECONDS", 0.05)
        thread.start()
        try:
            yield running
        finally:
            running.end()
            thread.join(60)
            assert not thread.is_alive()


class IntakeHarness:
    """The queues as partners and upstream services use them."""

    def __init__(self, runtime: Runtime, url: str, secret: str) -> None:
        self.runtime, self.url, self.secret = runtime, url, secret

    def declare(self) -> None:
        """Declare the exchange and the queues, as an intake does when it starts."""
        with Connection(self.url) as connection:
            channel = connection.channel()
            for queue in queues.contract_queues(self.runtime.settings):
                queue.bind(channel).declare()

    def send(
        self, routing_key: str, body: bytes, *, headers: Json | None = None, declare: bool = True, **properties: Any
    ) -> None:
        """Publish one message to the exchange; without `declare` the sender declares no queue of the contract."""
        answers = Queue("answers", durable=True, queue_arguments=queues.queue_arguments(self.runtime.settings))
        with Connection(self.url) as connection:
            channel = connection.channel()
            queues.exchange(channel).declare()
            for queue in (*(queues.contract_queues(self.runtime.settings) if declare else ()), answers):
                queue.bind(channel).declare()
            Producer(channel).publish(
                body,
                exchange=queues.exchange,
                routing_key=routing_key,
                content_type="application/json",
                content_encoding="utf-8",
                headers=headers or {},
                **properties,
            )

    def command(self, body: Json | bytes, **properties: Any) -> None:
        self.send("execute", body if isinstance(body, bytes) else json.dumps(body).encode(), **properties)

    def acknowledge(
        self, body: Json, *, secret: str | None = None, at: datetime | None = None, declare: bool = True
    ) -> None:
        raw = json.dumps(body).encode()
        headers: Json = dict(build_signature_headers("msg-1", raw, secret or self.secret, at=at))
        self.send("acknowledgement", raw, headers=headers, declare=declare, reply_to="answers", correlation_id="c-1")

    def take_messages(self, queue: str, count: int = 1, seconds: float = 30) -> list[Message]:
        """Return `count` messages of the queue, or those that arrive within `seconds`."""
        found: list[Message] = []

        def take(each: Message) -> None:
            found.append(each)
            each.ack()

        until = time.monotonic() + seconds
        with Connection(self.url) as connection, Consumer(connection, [Queue(queue, no_declare=True)], on_message=take):
            while len(found) < count and time.monotonic() < until:
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    continue
        return found

    def rows(self, model: type[Any]) -> list[Any]:
        return [*stored.rows(self.runtime, select(model))]

    def submission(self) -> BrokerSubmission:
        export = exports.prepare_export(self.runtime)
        exports.hand_off(self.runtime, export)
        (row,) = self.rows(BrokerSubmission)
        assert isinstance(row, BrokerSubmission)
        return row


def request(**changes: Any) -> Json:
    made = factories.plan()
    return {"accountId": factories.ACCOUNT, "batchId": made["batchId"], "plan": made, "idempotencyKey": "k-1"} | changes


def test_command_with_reply_to_gets_its_export(harness: IntakeHarness) -> None:
    for _ in range(2):
        harness.command(request(), reply_to="answers", correlation_id="order-7")
    first, second = harness.take_messages("answers", 2)
    for each in (first, second):
        assert (each.properties["correlation_id"], each.content_type) == ("order-7", "application/json")
    (export,) = harness.rows(Export)
    assert json.loads(first.body)["exportId"] == json.loads(second.body)["exportId"] == export.id


@pytest.mark.parametrize(("given", "kept"), [("order-run-481", True), ("no\x00id", False), ("", False)])
def test_accepted_event_has_the_message_id(harness: IntakeHarness, given: str, *, kept: bool) -> None:
    harness.command(request(), reply_to="answers", correlation_id="c-1", message_id=given)
    assert len(harness.take_messages("answers")) == 1
    (accepted,) = [each for each in harness.rows(Event) if each.type == "EXPORT_ACCEPTED"]
    assert accepted.actor == "queue"
    assert (accepted.data["requestId"] == given) is kept


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


NOT_TRACES = (TRACE + "\n", TRACE.upper(), "00-" + "a" * 1003 + "\r\n", 7, [TRACE], "")


@pytest.mark.parametrize(("given", "kept"), [(TRACE, TRACE), *((each, None) for each in NOT_TRACES)])
def test_valid_trace_parent_of_a_command_is_kept(harness: IntakeHarness, given: object, kept: str | None) -> None:
    harness.command(request(), reply_to="answers", headers={"traceparent": given, "tracestate": "vendor=1, other=2"})
    assert len(harness.take_messages("answers")) == 1
    (export,) = harness.rows(Export)
    (accepted,) = [each for each in harness.rows(Event) if each.type == "EXPORT_ACCEPTED"]
    assert (export.trace_parent, accepted.data.get("traceParent")) == (kept, kept)
    state = "vendor=1,other=2" if kept else None
    assert (export.trace_state, accepted.data.get("traceState")) == (state, state)


def test_malformed_message_properties_do_not_end_the_intake(harness: IntakeHarness) -> None:
    if not harness.url.startswith("amqp"):
        # RabbitMQ's client cannot send these; a program that writes to Redis can.
        harness.command(request(), reply_to=["answers"], correlation_id={"a": 1}, message_id=["x"])
    harness.command(request(), headers={"id": {"a": ["b"]}, "traceparent": {"a": 1}})
    harness.command(request(), reply_to="answers")
    assert len(harness.take_messages("answers")) == 1
    assert len(harness.rows(Export)) == 1


PROPERTIES = {"delivery_tag": "1", "body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": ""}}


def build_envelope(**changes: Any) -> bytes:
    """Return the envelope that kombu would push, with the changes."""
    return json.dumps({"body": "e30=", "headers": {}, "properties": PROPERTIES} | changes).encode()


#: Bytes that any client of Redis may push into a list.
FOREIGN = {
    "no text": b"\xff\xfe",
    "no JSON": b"{",
    "JSON of another kind": b"7",
    "a command as it is": json.dumps(request()).encode(),
    "headers of another kind": build_envelope(headers="traceparent"),
    "properties of another kind": build_envelope(properties=[]),
    "no place": build_envelope(properties={"delivery_tag": "1", "body_encoding": "base64"}),
    "a tag of another kind": build_envelope(properties=PROPERTIES | {"delivery_tag": {}}),
    "a body in another encoding": build_envelope(properties=PROPERTIES | {"body_encoding": "7"}),
    "a value that is none": build_envelope(headers={"__type__": "decimal", "__value__": "much"}),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("harness", [pytest.param("redis", marks=SERVERS)], indirect=True)
def test_foreign_bytes_become_dead_letters_and_the_next_command_is_accepted(harness: IntakeHarness) -> None:
    with Connection(harness.url) as connection:
        for foreign in FOREIGN.values():
            connection.default_channel.client.lpush(queues.EXECUTE, foreign)
    harness.command(request(), reply_to="answers", correlation_id="c-1")
    (answer,) = harness.take_messages("answers")
    assert json.loads(answer.body)["state"] == "accepted"
    dead = harness.take_messages(queues.DEAD, len(FOREIGN))
    assert [bytes(each.body) for each in dead] == list(FOREIGN.values())
    assert {each.content_type for each in dead} == {"application/octet-stream"}


def test_answer_to_a_purged_export_is_refused_and_not_kept(harness: IntakeHarness) -> None:
    submission = harness.submission()
    exports.purge(harness.runtime, submission.export_id)
    harness.acknowledge({"submissionId": submission.id, "id": "late", "status": "query", "message": "canary"})
    (reply,) = harness.take_messages("answers")
    assert json.loads(reply.body)["errorCode"] == "INVALID_STATE"
    assert harness.take_messages(queues.DEAD, seconds=0.3) == []
    assert harness.rows(Acknowledgement) == []


def test_refused_command_is_answered_on_both_queues(harness: IntakeHarness) -> None:
    harness.command(request(idempotencyKey=None), reply_to="answers", correlation_id="order-8")
    (reply,), (refusal,) = harness.take_messages("answers"), harness.take_messages(queues.REFUSED)
    assert reply.content_type == refusal.content_type == "application/problem+json"
    assert json.loads(reply.body) == json.loads(refusal.body)
    assert json.loads(reply.body)["pointer"] == "/idempotencyKey"
    assert harness.rows(Export) == []


@pytest.mark.parametrize("harness", [pytest.param("rabbitmq", marks=SERVERS)], indirect=True)
@pytest.mark.parametrize("key", ["k-1", None], ids=["accepted", "refused"])
def test_reply_to_a_full_queue_is_dropped_and_the_next_command_is_accepted(
    harness: IntakeHarness, key: str | None
) -> None:
    full = Queue("full", durable=True, queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    with Connection(harness.url, transport_options={"confirm_publish": True}) as connection:
        full.bind(connection.default_channel).declare()
        fill(Producer(connection.default_channel))
    with capture_logs() as lines:
        harness.command(request(idempotencyKey=key), reply_to="full")
        harness.command(request(), reply_to="answers")
        assert len(harness.take_messages("answers")) == 1
    assert [line["error"] for line in lines if line["event"] == "reply_not_accepted"] == ["MessageNacked"]
    assert len(harness.take_messages(queues.REFUSED, seconds=30 if key is None else 0.3)) == (key is None)
    assert harness.take_messages(queues.DEAD, seconds=0.3) == []
    assert len(harness.rows(Export)) == 1


def fill(producer: Producer) -> None:
    """Publish to the queue `full` until it refuses a message."""
    with suppress(MessageNacked):
        for _ in range(10):  # a quorum queue accepts a few more than its limit
            producer.publish(b"full", exchange="", routing_key="full")
        raise AssertionError("the queue accepts every message")


def test_intake_reconnects_after_the_broker_dies_during_a_command(
    make_runtime: OpenRuntime, own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server(Redis)
    runtime = make_runtime(broker_url=server.fresh_url())
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    harness = IntakeHarness(runtime, runtime.settings.broker_url.get_secret_value(), "")
    noticed = threading.Event()
    monkeypatch.setattr(intake.Intake, "on_connection_error", lambda *_: noticed.set())
    monkeypatch.setattr("tasks.commands.dispatch.publish_export", lambda *_, **__: None)
    harness.command(request(idempotencyKey=None))
    with run_intake(runtime):
        assert len(harness.take_messages(queues.REFUSED)) == 1  # the intake now has a connection for replies
        monkeypatch.setattr("tasks.commands.dispatch.publish_export", lambda *_, **__: server.kill())
        harness.command(request(), reply_to="answers")
        assert noticed.wait(20)
        server.start()
        # The restarted Redis has lost the command, so its sender sends it again.
        harness.command(request(), reply_to="answers")
        (reply,) = harness.take_messages("answers", seconds=20)
    (export,) = harness.rows(Export)
    assert json.loads(reply.body)["exportId"] == export.id


@pytest.mark.parametrize("own", [queues.DEAD, queues.OPERATOR])
def test_reply_to_a_service_queue_is_not_sent(harness: IntakeHarness, own: str) -> None:
    harness.command(request(), reply_to=own)
    harness.command(request(), reply_to="answers")
    harness.take_messages("answers")
    assert harness.take_messages(own, seconds=0.3) == []


def test_poison_messages_are_refused_and_the_next_command_is_accepted(harness: IntakeHarness) -> None:
    large = (b" " * MOST_BYTES, b" " * (MOST_BYTES + 1))
    poison = (b"", b"\x80\x04N.", b"null", b"[" * 5000, b'{"a":1,"a":2}', b"\xff\xfe", *large)
    for each in poison:
        harness.command(each)
    harness.command(request(), reply_to="answers")
    assert len(harness.take_messages("answers")) == 1
    refused = [json.loads(each.body) for each in harness.take_messages(queues.REFUSED, len(poison))]
    codes = [each["errorCode"] for each in refused]
    assert (len(codes), set(codes)) == (len(poison), {"INVALID_REQUEST", "PAYLOAD_TOO_LARGE"})
    assert ["at most 65536 bytes" in each["message"] for each in refused].count(True) == 1
    assert len(harness.rows(Export)) == 1


@pytest.mark.parametrize("passing", [DatabaseBusy, IdempotencyInProgress])
def test_command_is_kept_while_the_database_is_busy_or_its_key_is_in_progress(
    harness: IntakeHarness, monkeypatch: pytest.MonkeyPatch, passing: type[Exception]
) -> None:
    tries: list[int] = []
    real = accept_plan

    def fail_at_first(*arguments: Any, **named: Any) -> Any:
        tries.append(1)
        if len(tries) <= 15:  # more than the delivery limit of a quorum queue
            raise passing("away")
        return real(*arguments, **named)

    monkeypatch.setattr("tasks.commands.accept_plan", fail_at_first)
    harness.command(request(), reply_to="answers")
    assert len(harness.take_messages("answers")) == 1
    assert len(tries) == 16
    assert harness.take_messages(queues.DEAD, seconds=0.3) == harness.take_messages(queues.REFUSED, seconds=0.3) == []


def test_old_signed_acknowledgement_advances_the_submission_once(harness: IntakeHarness) -> None:
    submission = harness.submission()
    files = [{"filename": "7501.pdf", "content": b64encode(b"%PDF-1.7").decode()}]
    answer_body = {
        "submissionId": submission.id,
        "id": "a-1",
        "status": "accepted",
        "reference": "REF-1",
        "files": files,
    }
    for _ in range(2):
        harness.acknowledge(answer_body, at=OLD)
    first, second = (json.loads(each.body) for each in harness.take_messages("answers", 2))
    assert (first["submissionStatus"], first["recorded"], second["recorded"]) == ("accepted", True, False)
    (kept,) = harness.rows(Acknowledgement)
    assert (kept.id, kept.status, kept.reference) == ("a-1", "accepted", "REF-1")
    (file,) = harness.rows(ConversationFile)
    assert (kept.attachments, file.filename, file.author) == ([file.id], "7501.pdf", f"partner:{factories.BROKER}")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body | {"submissionId": "sub_" + "0" * 32}, "INVALID_API_KEY"),
        (lambda body: body | {"status": "paid"}, "VALIDATION_ERROR"),
        (lambda body: body | {"submissionId": "../../x"}, "VALIDATION_ERROR"),
        (lambda body: body | {"fields": [{"pointer": "/units/9", "message": "x"}]}, "NOT_IN_HANDOFF"),
        (lambda body: body | {"files": [{"filename": "a.pdf"}]}, "VALIDATION_ERROR"),
        (lambda body: body | {"files": [{"filename": "a", "content": "J" * MOST_BYTES}]}, "INVALID_REQUEST"),
    ],
)
def test_refused_acknowledgement_becomes_a_dead_letter_without_effect(
    harness: IntakeHarness, change: Callable[[Json], Json], code: str
) -> None:
    submission = harness.submission()
    body = change({"submissionId": submission.id, "id": "a-1", "status": "accepted"})
    harness.acknowledge(body)
    (reply,), (dead,) = harness.take_messages("answers"), harness.take_messages(queues.DEAD)
    assert json.loads(reply.body)["errorCode"] == code
    assert json.loads(dead.body) == body
    assert harness.rows(Acknowledgement) == harness.rows(ConversationFile) == []


def test_forged_acknowledgement_has_no_effect_and_the_next_valid_one_counts(harness: IntakeHarness) -> None:
    submission = harness.submission()
    answer_body = {"submissionId": submission.id, "id": "a-1", "status": "accepted"}
    harness.acknowledge(answer_body | {"status": "rejected"}, secret="whsec_" + "AAAA" * 10)
    harness.send("acknowledgement", json.dumps(answer_body).encode())
    harness.acknowledge(answer_body)
    poll(lambda: len(harness.rows(Acknowledgement)) == 1, 60)
    assert [each.status for each in harness.rows(Acknowledgement)] == ["accepted"]
    assert len(harness.take_messages(queues.DEAD, 2)) == 2
