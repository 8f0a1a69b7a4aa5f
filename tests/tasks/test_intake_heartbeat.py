"""Tests of the intake's heartbeat: it binds its queues again, and readiness shows an intake that receives nothing."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import redis
from kombu import Connection, Producer, Queue

from config import queues
from pipeline.core import heartbeats
from pipeline.core.errors import DatabaseBusy
from pipeline.core.heartbeats import Heartbeat
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Acknowledgement
from pipeline.exports.models import Export
from pipeline.ops import readiness
from tasks import intake, sweeper
from tests.conftest import SERVERS
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories
from tests.support.servers import RabbitMQ, Redis, poll
from tests.system.faults.matrix import mark_own_stack
from tests.tasks.test_intake import IntakeHarness, request, run_intake

#: The Redis key of the exchange's bindings.
BINDINGS = f"_kombu.binding.{queues.EXCHANGE_NAME}"


#: Message brokers that do not answer.
DEAD = ("redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//")


class HeartbeatHarness(IntakeHarness):
    """An intake harness that counts the heartbeats that arrived; the row holds only the time of the last one."""

    heartbeat_count: int = 0

    def await_heartbeats(self, count: int = 1) -> None:
        """Wait until `count` more heartbeats have arrived and are recorded."""
        until = self.heartbeat_count + count
        poll(lambda: self.heartbeat_count >= until, 60, "no heartbeat arrives")

    def lose_heartbeats(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stop the sending of heartbeats, and wait until those that were sent are recorded."""
        lost: list[bool] = []

        def lose(_: intake.Intake) -> bool:
            lost.append(True)
            return True

        def more() -> Callable[[], bool]:
            until = len(lost) + 2
            return lambda: len(lost) >= until

        monkeypatch.setattr(intake.Intake, "_send_heartbeat", lose)
        poll(more(), 20, "the intake does not try to send")
        poll(lambda: is_waiting(self) == 0, 20, "the heartbeat is not read")
        poll(more(), 20, "the intake does not try to send")  # its thread has recorded what it had read


@pytest.fixture(params=[pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)])
def idle(
    request: pytest.FixtureRequest, make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> HeartbeatHarness:
    """An intake harness on its own message broker, without a running intake; it publishes no task messages."""
    server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    monkeypatch.setattr("tasks.commands.dispatch.publish_export", lambda *_, **__: None)
    monkeypatch.setattr(intake, "HEARTBEAT_SECONDS", 0.05)
    runtime = make_runtime(broker_url=server.fresh_url())
    secret = exports.register(runtime, factories.BROKER, "customs_broker").secret
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    harness = HeartbeatHarness(runtime, runtime.settings.broker_url.get_secret_value(), secret)
    receive = intake.Intake.receive_heartbeat

    def counted(self: intake.Intake, message: Any) -> None:
        receive(self, message)
        harness.heartbeat_count += 1

    monkeypatch.setattr(intake.Intake, "receive_heartbeat", counted)
    return harness


@pytest.fixture
def busy(idle: HeartbeatHarness) -> Iterator[HeartbeatHarness]:
    """The same with a running intake that has received its first heartbeat."""
    with run_intake(idle.runtime):
        idle.await_heartbeats()
        yield idle


on_redis = pytest.mark.parametrize("idle", [pytest.param("redis", marks=SERVERS)], indirect=True)


def flush(client: redis.Redis) -> None:
    client.flushdb()


def unbind(client: redis.Redis) -> None:
    assert client.delete(BINDINGS) == 1


def unbind_commands(client: redis.Redis) -> None:
    assert client.srem(BINDINGS, *(row for row in list_members(client) if row.endswith(queues.EXECUTE.encode()))) == 1


def list_members(client: redis.Redis) -> set[bytes]:
    found: Any = client.smembers(BINDINGS)
    return set(found)


def list_bound_queues(harness: IntakeHarness) -> set[str]:
    """Return the queues that are bound to the exchange in Redis."""
    with redis.Redis.from_url(harness.url) as client:
        return {row.rsplit(b"\x06\x16", 1)[1].decode() for row in list_members(client)}


def do_harm(harness: IntakeHarness, harm: Callable[[redis.Redis], None]) -> None:
    """Do the harm, and wait until the bindings are back; messages sent in between are lost without an answer."""
    with redis.Redis.from_url(harness.url) as client:
        harm(client)
    poll(
        lambda: list_bound_queues(harness) >= {*queues.BINDINGS, queues.HEARTBEAT}, 20, "the bindings do not come back"
    )


@mark_own_stack("F5")
@on_redis
@pytest.mark.parametrize("harm", [flush, unbind, unbind_commands])
def test_intake_rebinds_queues_after_redis_lost_bindings(
    busy: IntakeHarness, harm: Callable[[redis.Redis], None]
) -> None:
    submission = busy.submission()
    busy.command(request(idempotencyKey=None), correlation_id="c-0")
    assert (
        len(busy.take_messages(queues.REFUSED)) == 1
    )  # the intake's other connection has now declared the queue of refusals
    for _ in range(2):
        do_harm(busy, harm)
    body = json.dumps(request(batchId="by-queue", plan=factories.plan(batch="by-queue"))).encode()
    busy.send("execute", body, declare=False, reply_to="answers", correlation_id="c-2")
    (answer,) = busy.take_messages("answers")
    assert json.loads(answer.body)["state"] == "accepted"
    assert {export.batch_id for export in busy.rows(Export)} >= {"by-queue"}
    busy.send("execute", json.dumps(request(idempotencyKey=None)).encode(), declare=False)
    assert len(busy.take_messages(queues.REFUSED)) == 1
    busy.acknowledge({"submissionId": submission.id, "id": "a-1", "status": "accepted"}, declare=False)
    (receipt,) = busy.take_messages("answers")
    assert json.loads(receipt.body)["recorded"] is True
    assert [each.status for each in busy.rows(Acknowledgement)] == ["accepted"]


@mark_own_stack("F5")
@on_redis
def test_refusal_is_published_after_bindings_were_lost(idle: IntakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "HEARTBEAT_SECONDS", 3600)
    refusals = Queue(queues.REFUSED, no_declare=True)
    with run_intake(idle.runtime), Connection(idle.url) as connection:
        producer = Producer(connection)
        for _ in range(2):
            producer.publish(b"{}", exchange="", routing_key=queues.EXECUTE, content_type="application/json")
            poll(lambda: refusals(connection.default_channel).get(no_ack=True) is not None, 20, "no refusal arrives")
            with redis.Redis.from_url(idle.url) as client:
                assert client.delete(BINDINGS) == 1


@on_redis
def test_sweep_rebinds_queues_and_a_command_waits_for_the_intake(idle: IntakeHarness) -> None:
    runtime = idle.runtime
    for _ in range(2):
        with redis.Redis.from_url(idle.url) as client:
            client.flushdb()
        assert sweeper._declare_queues(runtime) == 0
        assert list_bound_queues(idle) == {*queues.BINDINGS, queues.DEAD}
    idle.send("execute", json.dumps(request()).encode(), declare=False)
    with redis.Redis.from_url(idle.url) as client:
        assert client.llen(queues.EXECUTE) == 1
    with run_intake(runtime):
        poll(lambda: len(idle.rows(Export)) == 1, 20, "the command was not accepted")


def expected(runtime: Runtime) -> bool:
    with runtime.db.read() as session:
        return session.get(Heartbeat, heartbeats.INTAKE) is not None


def intake_is_ready(runtime: Runtime) -> bool:
    (part,) = [part for part in readiness.check_parts(runtime) if part.name == "intake"]
    return part.ok


def check_red_after_a_minute(runtime: Runtime, clock: Clock) -> None:
    clock.pass_seconds(readiness.STALLED_AFTER_SECONDS - 1)
    assert intake_is_ready(runtime)
    clock.pass_seconds(1)
    assert not intake_is_ready(runtime)


@mark_own_stack("F5")
def test_intake_without_heartbeats_is_not_ready_until_one_arrives(busy: HeartbeatHarness, clock: Clock) -> None:
    with pytest.MonkeyPatch.context() as patch:
        busy.lose_heartbeats(patch)
        check_red_after_a_minute(busy.runtime, clock)
    poll(lambda: intake_is_ready(busy.runtime), 20, "the intake does not become ready")


@pytest.mark.parametrize("url", DEAD)
def test_intake_that_never_connected_is_not_ready_after_a_minute(
    make_runtime: OpenRuntime, clock: Clock, url: str
) -> None:
    runtime = make_runtime(broker_url=url)
    with run_intake(runtime):
        poll(lambda: expected(runtime), 20, "no heartbeat is expected")
        check_red_after_a_minute(runtime, clock)
    assert not expected(runtime), "an ended intake must expect no heartbeat"


def test_ended_intake_does_not_hide_another_without_heartbeats(
    busy: HeartbeatHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy.lose_heartbeats(monkeypatch)
    with run_intake(busy.runtime):
        pass
    poll(lambda: expected(busy.runtime), 20, "no heartbeat is expected")
    clock.pass_seconds(readiness.STALLED_AFTER_SECONDS)
    assert not intake_is_ready(busy.runtime)


@pytest.mark.parametrize("url", DEAD)
def test_ended_intake_does_not_hide_another_that_is_not_connected(
    make_runtime: OpenRuntime, clock: Clock, url: str
) -> None:
    runtime = make_runtime(broker_url=url)
    with run_intake(runtime):
        poll(lambda: expected(runtime), 20, "no heartbeat is expected")
        with run_intake(runtime):
            pass
        poll(lambda: expected(runtime), 20, "no heartbeat is expected")
        clock.pass_seconds(readiness.STALLED_AFTER_SECONDS)
        assert not intake_is_ready(runtime)


def test_intake_with_busy_database_at_start_still_expects_heartbeats(
    idle: HeartbeatHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Runtime] = []
    expect = heartbeats.expect

    def busy_once(runtime: Runtime, name: str) -> None:
        asked.append(runtime)
        if len(asked) == 1:
            raise DatabaseBusy("the database did not answer")
        expect(runtime, name)

    monkeypatch.setattr(heartbeats, "expect", busy_once)
    monkeypatch.setattr(intake.Intake, "_send_heartbeat", lambda _: True)
    with run_intake(idle.runtime):
        poll(lambda: expected(idle.runtime), 20, "no heartbeat is expected")


@on_redis
def test_intake_with_lost_bindings_is_not_ready(
    busy: IntakeHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake.Intake, "_declare_again", lambda _: True)
    with redis.Redis.from_url(busy.url) as client:
        client.flushdb()
    # A heartbeat that was on its way is recorded with the earlier time.
    clock.pass_seconds(readiness.STALLED_AFTER_SECONDS + 1)
    poll(lambda: not intake_is_ready(busy.runtime), 20, "the intake is ready although it receives nothing")


def test_ended_intake_puts_a_postponed_command_back_once(
    idle: HeartbeatHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def refuse(*_: Any, **__: Any) -> NoReturn:
        tries.append(time.monotonic())
        raise DatabaseBusy("away")

    monkeypatch.setattr("tasks.commands.accept_plan", refuse)
    monkeypatch.setattr(intake, "PAUSE_SECONDS", 60)
    with run_intake(idle.runtime):
        idle.command(request())
        poll(lambda: bool(tries), 30, "the intake did not take the command")
    assert len(tries) == 1, "each requeue counts as a delivery, and the queue allows ten"
    assert len(idle.take_messages(queues.EXECUTE)) == 1


def test_ended_intake_leaves_no_heartbeat_row(idle: HeartbeatHarness, clock: Clock) -> None:
    with run_intake(idle.runtime):
        idle.await_heartbeats()
    assert idle.rows(Heartbeat) == []
    clock.pass_seconds(3600)
    assert intake_is_ready(idle.runtime)


def test_two_intakes_leave_no_unread_heartbeats(idle: HeartbeatHarness) -> None:
    with run_intake(idle.runtime), run_intake(idle.runtime):
        idle.await_heartbeats(10)
        assert [row.name for row in idle.rows(Heartbeat)] == [heartbeats.INTAKE]
    assert is_waiting(idle) <= 2


def is_waiting(harness: IntakeHarness) -> int:
    with Connection(harness.url) as connection:
        bound_queue = queues.heartbeat_queue(harness.runtime.settings).bind(connection.default_channel)
        return int(bound_queue.queue_declare().message_count)


def test_unread_heartbeats_do_not_accumulate(idle: IntakeHarness) -> None:
    sender = intake.Intake(idle.runtime)
    with Connection(idle.url) as connection:
        sender._channel = connection.default_channel
        sender._declare()
        for _ in range(5):
            assert sender._send_heartbeat() is True
            poll(lambda: is_waiting(idle) >= 1, 10, "the heartbeat did not arrive")
    assert is_waiting(idle) == 1


def test_heartbeat_queue_accepts_no_commands_and_gets_no_replies(busy: IntakeHarness) -> None:
    busy.send("heartbeat", b"\x80 what anybody may write", reply_to=queues.EXECUTE)
    busy.command(request(), reply_to=queues.HEARTBEAT)
    busy.command(request(), reply_to="answers")
    assert len(busy.take_messages("answers")) == 1
    assert busy.take_messages(queues.DEAD, seconds=0.3) == busy.take_messages(queues.REFUSED, seconds=0.3) == []
    assert len(busy.rows(Export)) == 1
