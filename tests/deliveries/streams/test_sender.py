"""Claims, order, retries, dead letters and their records: on the database's clock, with scripted endpoints."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlmodel import col, func, select

from pipeline.accounts import partners
from pipeline.core.db import Database
from pipeline.core.errors import Fenced
from pipeline.core.failpoints import hooks
from pipeline.core.runtime import Runtime
from pipeline.deliveries import resend
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import recovery, sender, streams
from pipeline.deliveries.streams.attempts import SendResult, record_attempts
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts, deliver, hand_off_by_webhook, states, stream_of
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script
from tests.system.faults.matrix import mark_own_stack

Start = Callable[..., Endpoint]


def test_deliveries_are_sent_in_order_and_logged_once(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    runtime, hook = make_runtime(database_url=database_url), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    assert deliver(runtime, export).delivered == 3
    assert deliver(runtime, export).delivered == 0
    ids = [
        each.notification_id
        for each in exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    ]
    assert [request.headers["webhook-id"] for request in hook.requests] == ids
    assert states(runtime, export) == [("delivered", 1)] * 3
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF", "WAREHOUSE_NOTIFIED"]
    assert [(each.outcome, each.status) for each in attempts(runtime)] == [("delivered", "204")] * 3


@mark_own_stack("F18")
def test_one_of_16_concurrent_claims_wins(make_runtime: OpenRuntime, endpoint: Start, database_url: str) -> None:
    runtime = make_runtime(database_url=database_url)
    export = hand_off_by_webhook(runtime, endpoint().url)
    together = threading.Barrier(16)
    won: list[streams.StreamLease] = []

    def race() -> None:
        together.wait()
        claimed = streams.claim_stream(runtime, stream_of(export))
        if claimed is not None:
            won.append(claimed)

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(each.deliveries) for each in won] == [3]


def test_nothing_of_a_purged_or_unknown_export_is_sent(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, hook = make_runtime(), endpoint(Script())
    export = hand_off_by_webhook(runtime, hook.url)
    exports.purge(runtime, export.export_id)
    for stream in (stream_of(export), DeliveryStream("exp_unknown", factories.WAREHOUSE, "webhook")):
        assert streams.claim_stream(runtime, stream) is None
    assert hook.requests == []


@pytest.mark.usefixtures("treat_as_internet")
def test_failed_message_stops_the_stream_and_leaves_the_rest(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(), endpoint(Script(), Script(500, b"on fire"), Script())
    export = hand_off_by_webhook(runtime, hook.url)
    report = deliver(runtime, export)
    assert (report.delivered, report.retried, report.dead) == (1, 1, 0)
    assert states(runtime, export) == [("delivered", 1), ("pending", 1), ("pending", 0)]
    assert deliver(runtime, export).delivered == 0, "no message overtakes one that waits for its retry"
    assert len(hook.requests) == 2
    failed = attempts(runtime)[1]
    assert (failed.outcome, failed.status, failed.answer, failed.error_class) == (
        "failed",
        "500",
        "on fire",
        "ChannelUnavailable",
    )
    clock.pass_seconds(5)
    assert deliver(runtime, export).delivered == 2
    ids = [request.headers["webhook-id"] for request in hook.requests]
    assert ids == [ids[0], ids[1], ids[1], ids[3]]
    assert hook.requests[1].body == hook.requests[2].body, "the same bytes on every attempt"
    for request in hook.requests:
        event = json.loads(request.body)
        assert (event["traceparent"], event["tracestate"]) == (exports.TRACE_PARENT, exports.TRACE_STATE)
        assert request.headers["traceparent"] == exports.TRACE_PARENT
        assert request.headers["tracestate"] == exports.TRACE_STATE
    assert failed.exchange is not None
    assert failed.exchange["sent"]["traceparent"] == exports.TRACE_PARENT
    assert exports.read_event_types(runtime, export.export_id) == [
        "HANDED_OFF",
        "DELIVERY_FAILED",
        "WAREHOUSE_NOTIFIED",
    ]


@mark_own_stack("F19")
def test_retries_follow_the_schedule_and_then_the_delivery_is_dead(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(delivery_schedule_seconds=(5, 300, 1800)), endpoint(Script(500))
    export = hand_off_by_webhook(runtime, hook.url, packages=1)
    for pause in (5, 300, 1800):
        assert deliver(runtime, export).retried == 1
        clock.pass_seconds(pause - 0.001)
        assert deliver(runtime, export) == sender.DeliveryReport()
        clock.pass_seconds(0.001)
    report = deliver(runtime, export)
    assert (report.retried, report.dead) == (0, 1)
    assert report.pending_streams == (DeliveryStream(export.export_id, factories.OPERATOR, "queue"),)
    assert states(runtime, export) == [("dead", 4)]
    assert len(hook.requests) == 4
    assert exports.read_event_types(runtime, export.export_id) == [
        "HANDED_OFF",
        *["DELIVERY_FAILED"] * 4,
        "DELIVERY_DEAD",
    ]


@mark_own_stack("F19")
def test_each_pause_has_full_jitter(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(shortest: float, longest: float) -> float:
        drawn.append((shortest, longest))
        return longest / 4

    runtime, hook = make_runtime(breaker_failures=100), endpoint(Script(500))
    export = hand_off_by_webhook(runtime, hook.url, packages=1)
    monkeypatch.setattr("random.uniform", draw)
    schedule = runtime.settings.delivery_schedule_seconds
    for pause in schedule:
        deliver(runtime, export)
        (delivery,) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
        assert delivery.due_at is not None
        assert (delivery.due_at - clock.now).total_seconds() == pause / 4
        clock.pass_seconds(pause / 4)
    assert drawn == [(0, pause) for pause in schedule], "full jitter"
    assert schedule == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400), "Standard Webhooks' pauses"


def test_dead_letter_notifies_the_operator_once(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime = make_runtime(delivery_schedule_seconds=(1,))
    export = hand_off_by_webhook(runtime, endpoint(Script(500)).url, packages=1)
    deliver(runtime, export)
    clock.pass_seconds(1)
    deliver(runtime, export)
    notices = stored.rows(
        runtime, select(Notification).where(col(Notification.event_type) == "exports.delivery.dead.v1")
    )
    assert [(each.audience, each.position) for each in notices] == [("operator", 4)]


def test_deliveries_behind_a_dead_one_get_one_attempt_each(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(delivery_schedule_seconds=(1, 1)), endpoint(Script(500))
    export = hand_off_by_webhook(runtime, hook.url)
    for _ in range(3):
        deliver(runtime, export)
        clock.pass_seconds(1)
    assert states(runtime, export) == [("dead", 3), ("dead", 1), ("dead", 1)]
    assert len(hook.requests) == 5


def test_dead_endpoint_does_not_resend_to_others(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, alive, broken = make_runtime(), endpoint(), endpoint(Script(500))
    exports.register(
        runtime, factories.BROKER, "customs_broker", channels=[{"channel": "webhook", "address": broken.url}]
    )
    exports.register(runtime, factories.WAREHOUSE, "warehouse", channels=[{"channel": "webhook", "address": alive.url}])
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    for _ in range(3):
        sender.notify_audience(runtime, export.context, outbox.BROKER)
        sender.notify_audience(runtime, export.context, outbox.WAREHOUSE)
    assert len(alive.requests) == 2
    assert len(broken.requests) == 1
    assert exports.read_event_types(runtime, export.export_id) == [
        "HANDED_OFF",
        "DELIVERY_FAILED",
        "WAREHOUSE_NOTIFIED",
    ]


@mark_own_stack("F19")
@pytest.mark.parametrize(("wish", "seconds"), [("120", 120.0), ("0", 1.0), ("9999999", 86_400.0)])
def test_retry_after_is_used_within_limits(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock, wish: str, seconds: float
) -> None:
    runtime, hook = make_runtime(), endpoint(Script(503, headers={"Retry-After": wish}), Script())
    export = hand_off_by_webhook(runtime, hook.url, packages=1)
    deliver(runtime, export)
    (delivery,) = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    assert delivery.due_at is not None
    assert (delivery.due_at - clock.now).total_seconds() == seconds
    assert delivery.lease_until is None, "a retry time is not a lease"


@mark_own_stack("F19")
def test_status_410_makes_the_delivery_dead_and_pauses_the_partner(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, hook = make_runtime(), endpoint(Script(410), Script())
    export = hand_off_by_webhook(runtime, hook.url)
    partner_id = stream_of(export).partner_id
    assert deliver(runtime, export).dead == 1
    assert states(runtime, export) == [("dead", 1), ("pending", 0), ("pending", 0)]
    assert partners.get_partner(runtime, factories.ACCOUNT, partner_id).state == "paused"
    assert deliver(runtime, export) == sender.DeliveryReport()
    recovery.resume_partner(runtime, factories.ACCOUNT, partner_id)
    assert deliver(runtime, export).delivered == 2
    assert next(each.outcome for each in attempts(runtime)) == "refused"


@mark_own_stack("F19")
def test_status_410_and_the_pause_are_one_transaction(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two would leave the partner live, and each further message would fail."""
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint(Script(410)).url)
    written: list[tuple[str, str]] = []

    def look() -> None:
        partner = partners.get_partner(runtime, factories.ACCOUNT, stream_of(export).partner_id)
        written.append((states(runtime, export)[0][0], partner.state))

    monkeypatch.setitem(hooks, "delivery.after", look)
    deliver(runtime, export)
    assert written == [("dead", "paused")]


def test_worker_with_lost_lease_writes_nothing(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    slow = streams.claim_stream(runtime, stream_of(export))
    assert slow is not None
    clock.pass_seconds(31)
    assert deliver(runtime, export).delivered == 3
    with pytest.raises(Fenced):
        record_attempts(runtime, slow, SendResult([DeliveryReceipt("204")] * 3, [1] * 3, None))
    assert states(runtime, export) == [("delivered", 1)] * 3
    assert len(attempts(runtime)) == 3


def test_cancelling_messages_while_they_are_sent_raises_nothing(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)

    def cancel() -> None:
        with runtime.db.write() as session:
            outbox.cancel_unsent(session, export.export_id)

    monkeypatch.setitem(hooks, "delivery.sent", cancel)
    assert deliver(runtime, export) == sender.DeliveryReport()
    assert states(runtime, export) == [("cancelled", 0)] * 3


def test_leased_stream_is_not_claimed_until_the_lease_ends(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    assert streams.claim_stream(runtime, stream_of(export)) is not None
    assert deliver(runtime, export).delivered == 0
    clock.pass_seconds(30)
    assert deliver(runtime, export).delivered == 3


def test_message_requeued_while_its_stream_is_leased_is_sent_by_the_holder(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    assert deliver(runtime, export).delivered == 3
    first, second, _ = exports.list_deliveries(runtime, export.export_id, stream_of(export).partner_id)
    claims: list[DeliveryStream] = []
    claim = streams.claim_stream

    def count_claim(runtime: Runtime, stream: DeliveryStream) -> streams.StreamLease | None:
        claims.append(stream)
        return claim(runtime, stream)

    monkeypatch.setattr(streams, "claim_stream", count_claim)

    def requeue_second(name: str) -> None:
        if name == "delivery.sent" and len(claims) == 1:
            resend.resend_delivery(runtime, factories.ACCOUNT, second.id, "key_test")
            assert claim(runtime, stream_of(export)) is None, "its own task message finds the stream leased"

    monkeypatch.setattr(sender, "failpoint", requeue_second)
    resend.resend_delivery(runtime, factories.ACCOUNT, first.id, "key_test")
    assert deliver(runtime, export).delivered == 2
    assert states(runtime, export) == [("delivered", 2), ("delivered", 2), ("delivered", 1)]
    assert len(claims) == 2, "no claim after nothing is left"


def test_no_transaction_is_open_while_sending(make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, "http://127.0.0.1:9/")
    seen: list[bool] = []

    def send(_: object, messages: Sequence[OutgoingMessage], __: object) -> Iterator[DeliveryReceipt]:
        for _ in messages:
            seen.append(writer_is_free(runtime.db))
            yield DeliveryReceipt("204")

    monkeypatch.setattr("pipeline.deliveries.channels.webhook.WebhookChannel.send", send)
    deliver(runtime, export)
    assert seen == [True] * 3


def writer_is_free(database: Database) -> bool:
    with database.write() as session:
        return session.exec(select(func.count()).select_from(Delivery)).one() > 0


def test_unexpected_channel_error_is_a_failed_attempt(
    make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, "http://127.0.0.1:9/")

    def send(*_: Any) -> Iterator[DeliveryReceipt]:
        yield DeliveryReceipt(str(1 // 0))

    monkeypatch.setattr("pipeline.deliveries.channels.webhook.WebhookChannel.send", send)
    assert deliver(runtime, export).retried == 1
    assert states(runtime, export)[0] == ("pending", 1)


def test_batches_have_the_set_size_and_empty_the_stream(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime, hook = make_runtime(delivery_batch=2), endpoint()
    export = hand_off_by_webhook(runtime, hook.url, packages=5)
    assert deliver(runtime, export).delivered == 5
