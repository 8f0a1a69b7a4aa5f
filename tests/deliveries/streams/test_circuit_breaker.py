"""A failing endpoint gets one sender at a time, then a pause. Other endpoints' deliveries do not wait."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pipeline.accounts.models import PartnerChannel
from pipeline.core.runtime import Runtime
from pipeline.deliveries.streams import sender
from pipeline.deliveries.streams.circuit_breaker import BreakerSettings, BreakerState, next_state
from pipeline.deliveries.streams.due_streams import take_due_streams
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts, stream_of
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script
from tests.support.servers import poll

Start = Callable[..., Endpoint]

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
LIMITS = BreakerSettings(
    failures_in_a_row=10,
    failure_rate=0.7,
    least_attempts=10,
    window=timedelta(minutes=5),
    open_time=timedelta(seconds=30),
)


def record_failures(state: BreakerState, times: int = 1, *, at: datetime = NOW) -> BreakerState:
    for _ in range(times):
        state = next_state(state, taken=0, failed=True, now=at, limits=LIMITS)
    return state


def record_successes(state: BreakerState, times: int = 1, *, at: datetime = NOW) -> BreakerState:
    return next_state(state, taken=times, failed=False, now=at, limits=LIMITS)


def test_ten_failures_in_a_row_open_the_breaker_for_half_a_minute() -> None:
    assert record_failures(BreakerState(), 9).open_until is None
    assert record_failures(BreakerState(), 10).open_until == NOW + timedelta(seconds=30)


def test_failure_after_open_time_reopens_and_success_closes() -> None:
    later = NOW + timedelta(minutes=6)
    make_runtime = record_failures(BreakerState(), 10)
    assert record_failures(make_runtime, at=later).open_until == later + timedelta(seconds=30)
    assert record_successes(make_runtime, at=later) == BreakerState()


def test_seven_failures_in_ten_attempts_open_the_breaker() -> None:
    state = BreakerState()
    for _ in range(3):
        state = record_successes(record_failures(state, 2))
    # Six of nine attempts have failed. The tenth is the seventh failure.
    assert (state.window_failures, state.window_attempts, state.open_until) == (6, 9, None)
    assert record_failures(state).open_until == NOW + timedelta(seconds=30)


def test_expired_window_does_not_count() -> None:
    state = record_successes(record_failures(BreakerState(), 6))
    later = NOW + timedelta(minutes=5)
    assert record_failures(state, at=later) == BreakerState(
        failures=1, window_began_at=later, window_attempts=1, window_failures=1, open_until=None
    )


def test_success_before_a_failure_resets_consecutive_failures() -> None:
    state = next_state(record_failures(BreakerState(), 9), taken=40, failed=True, now=NOW, limits=LIMITS)
    assert (state.failures, state.open_until) == (1, None)


def test_open_breaker_stops_all_exports_and_one_retries(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, dead = make_runtime(breaker_failures=3), endpoint(Script(500))
    made = [hand_off(runtime, dead.url, number) for number in range(5)]
    for export in made:
        deliver_stream(runtime, export)
    assert len(dead.requests) == 3  # the other two exports were not tried
    clock.pass_seconds(20)
    assert list_due(runtime, made) == []
    clock.pass_seconds(10)
    for export in made:
        deliver_stream(runtime, export)
    assert len(dead.requests) == 4  # one of them was tried, and opened the breaker again
    assert list_reached(runtime).failures == 4


def test_breaker_closes_at_once_after_a_success(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime, hook = make_runtime(breaker_failures=2), endpoint(Script(500), Script(500), Script(204))
    made = [hand_off(runtime, hook.url, number) for number in range(4)]
    deliver_stream(runtime, made[0])
    deliver_stream(runtime, made[1])
    assert deliver_stream(runtime, made[2]) == sender.DeliveryReport()
    clock.pass_seconds(30)
    assert [deliver_stream(runtime, each).delivered for each in made[2:]] == [2, 2]
    assert (list_reached(runtime).failures, list_reached(runtime).open_until) == (0, None)
    assert [each.outcome for each in attempts(runtime)].count("failed") == 2


def test_after_a_failure_only_one_sender_tries(make_runtime: OpenRuntime, endpoint: Start) -> None:
    others_left = threading.Event()
    runtime, hook = make_runtime(), endpoint(Script(500), Script(status=200, until=others_left))
    made = [hand_off(runtime, hook.url, number) for number in range(4)]
    deliver_stream(runtime, made[0])
    reports: list[sender.DeliveryReport] = []
    threads = [
        threading.Thread(target=lambda export=each: reports.append(deliver_stream(runtime, export)))
        for each in made[1:]
    ]
    for thread in threads:
        thread.start()
    poll(lambda: len(reports) == 2, 20, "two senders wait for the sending one")
    others_left.set()
    for thread in threads:
        thread.join()
    assert sorted(each.delivered for each in reports) == [0, 0, 2]


def test_dead_endpoint_does_not_delay_other_partners(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, dead, alive = make_runtime(breaker_failures=1), endpoint(Script(500)), endpoint()
    first = hand_off(runtime, dead.url, 1)
    second = hand_off(runtime, alive.url, 2, warehouse="wh_alive")
    deliver_stream(runtime, first)
    assert deliver_stream(runtime, second).delivered == 2


def test_permit_is_released_if_nothing_is_pending(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime, hook = make_runtime(), endpoint(Script(500), Script(204))
    first, second = (hand_off(runtime, hook.url, number) for number in range(2))
    deliver_stream(runtime, first)
    deliver_stream(runtime, first)  # retried later, so nothing can be claimed now
    assert deliver_stream(runtime, second).delivered == 2


def hand_off(runtime: Runtime, url: str, number: int, warehouse: str = "wh_hook") -> exports.PreparedExport:
    for partner, kind, endpoints in (
        (factories.BROKER, "customs_broker", [{"channel": "queue"}]),
        (warehouse, "warehouse", [{"channel": "webhook", "address": url}]),
    ):
        exports.register_once(runtime, partner, kind, channels=endpoints)
    export = exports.prepare_export(
        runtime, factories.plan(warehouse=warehouse, batch=f"batch_{number}", invoice=f"A{number}")
    )
    exports.hand_off(runtime, export)
    return export


def deliver_stream(runtime: Runtime, export: exports.PreparedExport) -> sender.DeliveryReport:
    stream = stream_of(export)
    return sender.deliver_stream(runtime, stream.subject_id, stream.partner_id, stream.channel)


def list_due(runtime: Runtime, made: list[exports.PreparedExport]) -> list[str]:
    with runtime.db.write() as session:
        streams = take_due_streams(session, runtime.settings, runtime.settings.sweep_limit)
    return [stream.subject_id for stream in streams if stream.channel == "webhook"]


def list_reached(runtime: Runtime) -> PartnerChannel:
    return stored.get(runtime, PartnerChannel, (factories.ACCOUNT, "wh_hook", "webhook"))
