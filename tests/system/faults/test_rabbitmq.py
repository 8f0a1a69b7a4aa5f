"""Faults that only RabbitMQ has: it cancels a consumer, drops a message, and ends while it confirms."""

from collections.abc import Collection
from contextlib import suppress
from signal import SIGTERM

from amqp.exceptions import NotFound
from kombu import Connection

from config import queues
from tests.deliveries.channels.test_queue_alarm import set_alarm
from tests.support.servers import RabbitMQ, poll
from tests.system.faults.case import SETTLE_SECONDS, Case
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import RABBITMQ, fault
from tests.system.faults.site import PARTNERS, Site
from tests.system.faults.test_limits import END_SECONDS
from tests.system.faults.upstream import await_heartbeat, check_intake

#: RabbitMQ drops a message that was returned more often; its default is twenty times.
DELIVERY_LIMIT = 20
#: The time that a consumer may hold a message unacknowledged. RabbitMQ checks once per `channel_tick_interval`.
CONSUMER_SECONDS = 1.5
#: No lease expires because the machine is busy.
LONG_LEASE = {"lease_seconds": "20"}


def rabbitmq(site: Site) -> RabbitMQ:
    assert isinstance(site.message_broker, RabbitMQ)
    return site.message_broker


def queue_tasks(one: Case, count: int) -> list[str]:
    """Send plans until that many task messages wait for a worker; an old connection may lose the first."""
    exports: list[str] = []

    def wait() -> bool:
        # Without a consumer this count is exact. The management interface still shows purged messages for seconds.
        with Connection(one.site.stack.broker_url) as connection, suppress(NotFound):
            return int(connection.default_channel.queue_declare(queues.STEPS, passive=True).message_count) >= count
        return False

    # Delete the messages of earlier tests; those that a killed worker held return when RabbitMQ notices its end.
    with Connection(one.site.stack.broker_url) as connection, suppress(NotFound):
        channel = connection.default_channel
        poll(
            lambda: channel.queue_declare(queues.STEPS, passive=True).consumer_count == 0,
            60,
            "a worker of an earlier test consumes",
        )
        channel.queue_purge(queues.STEPS)
    while len(exports) < count or not wait():
        exports.append(one.accepted())
        assert len(exports) < 10 * count, "the task messages are not published"
        if len(exports) >= count:
            with suppress(TimeoutError):
                poll(wait, 5, "too few task messages are queued")
    return exports


@fault("F37", everyday=(RABBITMQ,))
def test_task_messages_dropped_by_rabbitmq_are_published_again(site: Site, case: OpenCase) -> None:
    """A consumer takes and returns each task message until it is dropped, like workers that die with it."""
    with case() as one:
        exports = queue_tasks(one, 3)
        returned = 0
        with Connection(site.stack.broker_url) as connection:
            channel = connection.default_channel
            while (message := channel.basic_get(queues.STEPS)) is not None:
                channel.basic_reject(message.delivery_tag, requeue=True)
                returned += 1
                assert returned <= 10 * len(exports) * DELIVERY_LIMIT, "RabbitMQ never drops it"
        assert returned >= 3 * DELIVERY_LIMIT
        site.wait_until(lambda: site.waiting(queues.STEPS) == 0, 60, "messages are still queued")
        site.start("worker")
        one.wait_until_finished(exports)
        assert one.list_states() == ["executed"] * len(exports)
        one.check()


@fault("F37", everyday=(RABBITMQ,))
def test_worker_continues_after_a_cancelled_consumer(site: Site, case: OpenCase) -> None:
    """A message waits, unacknowledged, behind a step that takes longer than RabbitMQ's consumer timeout."""
    server = rabbitmq(site)
    server.control("eval", f"application:set_env(rabbit, consumer_timeout, {round(CONSUMER_SECONDS * 1000)}).")
    try:
        with case() as one:
            before = count_timeouts(server)
            one.arm("worker", "render_documents.before=sleep:8000", **LONG_LEASE)
            exports = [one.accepted() for _ in range(4)]
            one.wait_until_finished(exports)
            assert count_timeouts(server) > before, "no consumer was cancelled"
            assert "render_documents.before" in one.count_fired()
            assert one.list_states() == ["executed"] * len(exports)
            more = one.accepted()
            one.wait_until_finished([more])
            one.check(again=[more])
    finally:
        server.control("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")


def count_timeouts(server: RabbitMQ) -> int:
    """Return the number of cancelled consumers in RabbitMQ's log."""
    logs = (server.folder / "logs").glob("*.log")
    return sum(log.read_text(errors="replace").count("has timed out waiting") for log in logs)


@fault("F25", everyday=(RABBITMQ,))
def test_worker_continues_and_stops_during_a_rabbitmq_alarm(site: Site, case: OpenCase) -> None:
    """RabbitMQ's alarm is on: it delivers queued messages, but does not read what publishers send."""
    server = rabbitmq(site)
    with case() as one:
        site.start("intake")
        exports = queue_tasks(one, 2)
        set_alarm(server, on=True)
        try:
            site["worker"].start(**LONG_LEASE)
            site.wait_until(
                lambda: one.list_event_types().count("TREATMENT_ATTACHED") >= 2,  # the messages of others were lost
                200,  # each publish waits 15 s for its confirmation
                "the worker waits for the end of the alarm",
            )
            ended = site["worker"].end_with(SIGTERM, END_SECONDS)
            assert ended == 0, site.logs_end()
            exports.append(one.accepted())
        finally:
            set_alarm(server, on=False)
        site["worker"].start()
        one.wait_until_finished(exports)
        history = one.check(again=exports[:1])
        assert {row["attempts"] for row in history.snapshot.tables["steps"]} == {1}
        assert one.list_states() == ["executed"] * len(exports)
        check_intake(one)


def check_confirmed(site: Site, case: OpenCase, kills: int, packages: int) -> None:
    with case(by_queue=tuple(str(partner["id"]) for partner in PARTNERS)) as one:
        site.start("worker", "intake")
        # A queue that was declared just before the kill can lose its leader; the README of this folder says so.
        await_heartbeat(site, SETTLE_SECONDS)
        exports: list[str] = []
        for _ in range(kills):
            newest = [one.accepted(one.client.plan(lines=2, packages=packages)) for _ in range(3)]
            exports += newest
            # In the middle of it: some messages are confirmed, others are in flight.
            site.wait_until(lambda these=newest: "delivered" in deliveries(one, these), 300, "nothing was delivered")  # type: ignore[misc]
            rabbitmq(site).kill()
            rabbitmq(site).start()
        one.wait_until_finished(exports)
        assert one.list_states() == ["executed"] * len(exports)
        one.check()
        check_intake(one)


def deliveries(one: Case, exports: Collection[str]) -> set[str]:
    return {row["state"] for row in one.snapshot().tables["deliveries"] if row["subject_id"] in exports}


@fault("F39", everyday=(RABBITMQ,))
def test_rabbitmq_killed_while_it_confirms_loses_nothing(site: Site, case: OpenCase) -> None:
    """Confirmed messages are in a queue afterwards; unconfirmed ones were sent again."""
    check_confirmed(site, case, kills=2, packages=6)


@fault("F39", everyday=(), long=(RABBITMQ,))
def test_rabbitmq_killed_ten_times_while_it_confirms_loses_nothing(site: Site, case: OpenCase) -> None:
    check_confirmed(site, case, kills=10, packages=20)
