"""The message broker loses, doubles or delays messages, is killed, frozen or disconnected: no work is lost."""

import random
import time
from collections.abc import Callable
from typing import Any, Final

import psutil
import pytest
from celery import Celery
from kombu import Connection, Producer

from config import queues
from pipeline.workflow.steps import EXPORT_LEVEL, STEPS
from tests.support import factories
from tests.support.ports import LOOPBACK
from tests.support.servers import RabbitMQ, Redis
from tests.system.faults.bounds import measure_load, share
from tests.system.faults.case import Case
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import RABBITMQ, REDIS, SERVED, fault
from tests.system.faults.proxy import Proxy, proxy
from tests.system.faults.site import Site
from tests.system.faults.test_crashes import send_command
from tests.system.faults.upstream import await_heartbeat, check_intake

#: The longest requests while the message broker does not answer: half of them keep the target for 99 %, and 99 % keep
#: what a slow machine needs.
HALF_SECONDS, MOST_SECONDS = 0.5, 2.0


def message_broker(site: Site) -> Redis | RabbitMQ:
    assert site.message_broker is not None
    return site.message_broker


def check_executed(one: Case, exports: list[str]) -> None:
    one.wait_until_finished(exports)
    assert one.list_states() == ["executed"] * len(exports)
    one.check()


def accepted_at_once(one: Case, count: int) -> list[str]:
    """Return exports that were each accepted by the first request, without a wait for the message broker."""
    before = len(one.client.calls)
    exports = [one.accepted() for _ in range(count)]
    calls = one.client.calls[before:]
    assert [call.status for call in calls] == [202] * count
    check_quick(one, "accepted", [call.seconds for call in calls])
    return exports


def check_quick(one: Case, how: str, seconds: list[float]) -> None:
    """Assert that requests kept their limits, and record their times."""
    half, most = share(seconds, 0.5), share(seconds, 0.99)
    one.note(f"{len(seconds)} requests {how}: p50 and p99 in seconds", f"{half:.3f} {most:.3f}")
    # Of one or two it would be the slower, perhaps the first request of an API that has just started.
    if len(seconds) > 2:
        assert half <= HALF_SECONDS * measure_load()
    assert most <= MOST_SECONDS * measure_load()


def check_flushed(site: Site, case: OpenCase, count: int) -> None:
    # A new API: a test before may have killed the message broker, and the first message on a dead connection is not sent.
    site["web"].kill()
    with case() as one:
        site.start("intake")
        await_heartbeat(site, 60)
        exports = accepted_at_once(one, count)
        first_steps = (queues.STEPS, queues.BACKLOG)
        site.wait_until(
            lambda: sum(map(site.waiting, first_steps)) >= count, 60, "the task messages were not published"
        )
        server = message_broker(site)
        if isinstance(server, Redis):
            server.flush()
        else:
            with Connection(site.stack.broker_url) as connection:
                assert sum(map(connection.default_channel.queue_purge, first_steps)) >= count
        site.start("worker")
        one.mark_repaired()
        check_executed(one, exports)
        check_intake(one)


@fault("F5", everyday=SERVED)
def test_flushed_message_broker_loses_no_export(site: Site, case: OpenCase) -> None:
    check_flushed(site, case, 10)


@fault("F5", everyday=(), long=SERVED)
def test_flushed_message_broker_loses_none_of_a_hundred_exports(site: Site, case: OpenCase) -> None:
    check_flushed(site, case, 100)


def check_down(site: Site, case: OpenCase, down: Callable[[], None], up: Callable[[], None], seconds: float) -> None:
    """Send plans before, during and after an outage of the message broker of at least `seconds`."""
    with case() as one:
        site.start("worker", "intake")
        exports = accepted_at_once(one, 2)
        down()
        try:
            began, before = time.monotonic(), len(one.client.calls)
            exports += [one.accepted() for _ in range(6)]
            while time.monotonic() - began < seconds:
                one.client.inspect(exports[-1])
                exports.append(one.accepted())
                time.sleep(min(2.0, seconds / 4))  # the pause is the fault: the outage lasts
            meanwhile = [call for call in one.client.calls[before:] if call.method == "POST"]
            assert {call.status for call in meanwhile} == {202}
            check_quick(one, "without a message broker", [call.seconds for call in meanwhile])
        finally:
            up()
        one.mark_repaired()
        exports += accepted_at_once(one, 1)
        check_executed(one, exports)
        check_intake(one)


@fault("F6", everyday=SERVED)
def test_killed_message_broker_loses_no_export(site: Site, case: OpenCase) -> None:
    server = message_broker(site)
    check_down(site, case, server.kill, server.start, 0)  # type: ignore[arg-type]


@fault("F6", everyday=SERVED)
def test_message_broker_killed_while_the_intake_holds_a_command(site: Site, case: OpenCase) -> None:
    """The message broker is away when the command is done; a sender without an answer repeats its command."""
    server = message_broker(site)
    with case() as one:
        site.start("worker")
        first = one.accepted()
        one.wait_until_finished([first])
        plans = [one.client.plan() for _ in range(3)]
        one.arm("intake", "intake.mid=sleep:2000")
        for plan in plans:
            send_command(one, plan)
        site.wait_until(one.count_fired, 120, "the intake took no command")
        server.kill()
        time.sleep(4)  # the pause is the fault: it lasts longer than the command
        server.start()
        one.mark_repaired()
        for plan in plans:
            send_command(one, plan)
        site.wait_until(lambda: len(one.list_states()) == 1 + len(plans), 300, "a command was not accepted")
        one.wait_until_finished([first])
        site.wait_until(lambda: site.waiting(queues.EXECUTE) == 0, 300, "a command is still queued")
        assert site["intake"].running
        assert site.deaths == []
        assert one.list_states() == ["executed"] * (1 + len(plans))
        one.check()


@fault("F7", everyday=(RABBITMQ,), long=(REDIS,))
def test_stopped_message_broker_loses_no_export(site: Site, case: OpenCase) -> None:
    server = message_broker(site)
    check_down(site, case, server.stop, server.start, 4)  # type: ignore[arg-type]


@fault("F7", everyday=(), long=SERVED)
def test_message_broker_stopped_for_a_minute_loses_no_export(site: Site, case: OpenCase) -> None:
    server = message_broker(site)
    check_down(site, case, server.stop, server.start, 60)  # type: ignore[arg-type]


@fault("F8", everyday=SERVED)
def test_frozen_message_broker_loses_no_export(site: Site, case: OpenCase) -> None:
    server = message_broker(site)
    check_down(site, case, server.freeze, server.thaw, 4)


@fault("F8", everyday=(), long=SERVED)
def test_message_broker_frozen_for_a_minute_and_a_half_loses_no_export(site: Site, case: OpenCase) -> None:
    server = message_broker(site)
    check_down(site, case, server.freeze, server.thaw, 90)


def slow_down(between: Proxy, server: Redis | RabbitMQ) -> None:
    between.latency_seconds = 0.02


def swallow_connections(between: Proxy, server: Redis | RabbitMQ) -> None:
    between.blackhole = True


def refuse_connections(between: Proxy, server: Redis | RabbitMQ) -> None:
    between.refuse = True
    between.reset_all()


def cut_at_each_acknowledgement(between: Proxy, server: Redis | RabbitMQ) -> None:
    # The commands that acknowledge: ZREM on kombu's set of unacknowledged messages, and AMQP's basic.ack.
    between.cuts_left, between.cut_on = 4, b"ZREM" if isinstance(server, Redis) else b"\x00\x3c\x00\x50"


def cut_in_mid_word(between: Proxy, server: Redis | RabbitMQ) -> None:
    between.cuts_left, between.cut_after_bytes = 20, 2_000


@fault("F8", everyday=(REDIS,), long=SERVED)
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(slow_down, marks=pytest.mark.long),
        swallow_connections,
        refuse_connections,
        cut_in_mid_word,
        cut_at_each_acknowledgement,
    ],
)
def test_network_faults_lose_no_export(
    site: Site, case: OpenCase, harm: Callable[[Proxy, Redis | RabbitMQ], None]
) -> None:
    server = message_broker(site)
    port = server.port
    with proxy(port) as between, case() as one:
        url = site.stack.broker_url.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{between.port}")
        for role in ("web", "worker", "intake"):
            site[role].kill()
            site[role].start(broker_url=url)
        exports = [one.accepted() for _ in range(2)]
        harm(between, server)
        exports += [one.accepted() for _ in range(3)]
        if harm in {swallow_connections, refuse_connections}:
            between.blackhole = between.refuse = False
        one.mark_repaired()
        check_executed(one, exports)
        check_intake(one)
        assert between.cuts == between.cuts_left or between.cut_on is None


@fault("F38", everyday=(REDIS,))
@pytest.mark.parametrize("harm", ["memory", "demoted"])
def test_redis_refusing_writes_loses_no_export(site: Site, case: OpenCase, harm: str) -> None:
    server = message_broker(site)
    assert isinstance(server, Redis)
    files: list[int] = []
    with server.client() as client:

        def down() -> None:
            if harm == "memory":
                client.config_set("maxmemory", "1mb")
                client.config_set("maxmemory-policy", "noeviction")
            else:
                client.replicaof(LOOPBACK, "1")

        def up() -> None:
            child = site["worker"].child
            assert child is not None
            files.append(psutil.Process(child.pid).num_fds())
            client.config_set("maxmemory", "0")
            client.replicaof("NO", "ONE")

        check_down(site, case, down, up, 6)
    # Some twenty and those of a reconnection; a leak of half-open connections would make it a hundred.
    assert files[0] < 50


def all_tasks(export_id: str, units: int) -> list[tuple[str, list[Any]]]:
    """Return every possible task message of an export: its steps and its streams."""
    steps = [
        (f"exports.{spec.name}", [export_id, unit])
        for spec in STEPS
        for unit in (range(1, units + 1) if spec.per_unit else [EXPORT_LEVEL])
    ]
    partners = (factories.BROKER, factories.WAREHOUSE, "op_demo")
    return steps + [("exports.deliver", [export_id, partner, "webhook"]) for partner in partners]


@fault("F14", "F15", "F32", everyday=(RABBITMQ,), long=SERVED)
def test_repeated_shuffled_and_old_messages_change_nothing(site: Site, case: OpenCase) -> None:
    with case() as one:
        for role in ("worker", "worker-2", "worker-3"):  # each also sweeps
            site[role].start(lease_seconds="6")
        ended = one.accepted(one.client.plan(units=2))
        one.wait_until_finished([ended])
        exports = [one.accepted(one.client.plan(units=2)) for _ in range(3)]
        tasks = [task for export_id in (*exports, ended, "exp_of_nobody") for task in all_tasks(export_id, 2)] * 5
        random.shuffle(tasks)
        sender = Celery(broker=site.stack.broker_url, set_as_current=False)
        sender.conf.update(queues.celery_options(site.stack.settings))
        for name, arguments in tasks:
            sender.send_task(name, args=arguments)
        sender.close()
        one.wait_until_finished(exports)
        site.wait_until(
            lambda: site.waiting(queues.STEPS) == site.waiting(queues.DELIVERIES) == 0, 300, "messages are still queued"
        )
        assert one.list_states() == ["executed"] * 4
        assert one.partner_stub.count_repeats() == 0
        assert site.deaths == []
        one.check()


HEADERS = {"task": "exports.record_packages", "id": "broken", "lang": "py"}
BROKEN: dict[str, tuple[bytes, dict[str, Any]]] = {
    "no JSON": (b"{", {}),
    "JSON of another kind": (b"7", {}),
    "no task": (b'[["exp_1", 1], {}, {}]', {"headers": {}}),
    "an unknown task": (b'[["exp_1", 1], {}, {}]', {"headers": {"task": "exports.of_tomorrow"}}),
    "no id": (b'[["exp_1", 1], {}, {}]', {"headers": {"task": "exports.record_packages"}}),
    "headers of another kind": (b'[["exp_1", 1], {}, {}]', {"headers": {"task": 7, "id": "7"}}),
    "a pause of another kind": (b'[["exp_1", 1], {}, {}]', {"headers": HEADERS | {"eta": "soon"}}),
    "bounds of another kind": (b'[["exp_1", 1], {}, {}]', {"headers": HEADERS | {"timelimit": "never"}}),
    "tries of another kind": (b'[["exp_1", 1], {}, {}]', {"headers": HEADERS | {"retries": "many"}}),
    "nothing": (b"null", {}),
    "text": (b'"args"', {}),
    "a list of another kind": (b"[1, 2, 3]", {}),
    "what follows of another kind": (b'[["exp_1", 1], {}, [7]]', {}),
    "followers of another kind": (b'[["exp_1", 1], {}, {"callbacks": 7, "errbacks": 7, "chain": 7}]', {}),
    "links of another kind": (b'[["exp_1", 1], {}, {"chain": [{"task": "celery.group", "kwargs": 7}]}]', {}),
    "too few arguments": (b'[["exp_1"], {}, {}]', {}),
    "arguments of another kind": (b'[[{"a": 1}, "one"], {}, {}]', {}),
    "pickled": (b"\x80\x05K\x07.", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    "another encoding": (b"\xff\xfe\x00", {"content_encoding": "utf-16"}),
    "five megabytes": (b'[["' + b"x" * 5_000_000 + b'", 1], {}, {}]', {}),
}
#: Bytes that any client of Redis may push into a list.
FOREIGN: Final = (b"\xff\xfe", b"{", b"7", b'[["exp_1", 1], {}, {}]', b'{"body": "", "headers": {}, "properties": {}}')
#: Messages that look like a task message: workers accept them, but they start nothing.
IN_FORM = {"links of another kind", "too few arguments", "arguments of another kind", "five megabytes"}


@fault("F16", everyday=(REDIS, RABBITMQ))
def test_malformed_messages_are_dropped(site: Site, case: OpenCase) -> None:
    with case() as one:
        site.drop_unacknowledged()
        site.start("worker")
        exports = [one.accepted()]
        one.wait_until_finished(exports)  # its queues must exist: RabbitMQ drops messages for a missing queue
        with Connection(site.stack.broker_url) as connection:
            producer = Producer(connection)
            message_properties: dict[str, Any] = {
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "headers": HEADERS,
            }
            for body, properties in BROKEN.values():
                producer.publish(body, routing_key=queues.STEPS, exchange="", **message_properties | properties)
            foreign = FOREIGN if site.stack.broker_url.startswith("redis") else ()
            for item in foreign:
                connection.default_channel.client.lpush(queues.STEPS, item)
        exports.append(one.accepted())
        one.wait_until_finished(exports)
        site.wait_until(lambda: site.waiting(queues.STEPS) == 0, 60, "a message is still queued")
        dropped = len(BROKEN) - len(IN_FORM)
        site.wait_until(
            lambda: site["worker"].count('"message_dropped"') == dropped, 60, "a dropped message is not in the log"
        )
        site.wait_until(
            lambda: site["worker"].count('"message_unreadable"') == len(foreign),
            60,
            "a dropped message is not in the log",
        )
        assert site["worker"].running
        assert site.deaths == []
        assert one.list_states() == ["executed"] * 2
        one.check()
