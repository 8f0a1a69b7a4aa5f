"""A partner that lost its messages gets them again with the same ids. Other partners do not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core.errors import InsufficientRole, InvalidState, NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries import replay, resend
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.views import ReplayReport, ReplayRequest
from pipeline.deliveries.streams import sender
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script
from tests.support.query_counter import record_statements

Start = Callable[..., Endpoint]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
BROKER, WAREHOUSE = "br_hook", "wh_hook"


def make_partners(runtime: Runtime, broker: Endpoint, warehouse: Endpoint) -> Runtime:
    for name, kind, endpoint in ((BROKER, "customs_broker", broker), (WAREHOUSE, "warehouse", warehouse)):
        exports.register(runtime, name, kind, channels=[{"channel": "webhook", "address": f"{endpoint.url}/hook"}])
    return runtime


def hand_off(runtime: Runtime, batch: str = factories.BATCH, *, sent: bool = True, test: bool = False) -> str:
    export = exports.prepare_export(runtime, factories.plan(batch=batch, broker=BROKER, warehouse=WAREHOUSE), test=test)
    exports.hand_off(runtime, export)
    if sent:
        send(runtime, export.export_id)
    return export.export_id


def send(runtime: Runtime, export_id: str) -> None:
    for partner_id in (BROKER, WAREHOUSE):
        sender.deliver_stream(runtime, export_id, partner_id, "webhook")


def replay_to(
    runtime: Runtime, partner_id: str, since: datetime = LONG_AGO, **wanted: Any
) -> tuple[ReplayReport, list[DeliveryStream]]:
    test_only = wanted.pop("test_only", False)
    request = ReplayRequest.model_validate({"since": since.isoformat()} | wanted)
    return replay.replay_messages(runtime, factories.ACCOUNT, partner_id, request, "key_op", test_only=test_only)


def list_received(endpoint: Endpoint) -> list[tuple[str, bytes]]:
    return [(each.headers["webhook-id"], each.body) for each in endpoint.requests]


def states(runtime: Runtime, export_id: str, partner_id: str) -> list[str]:
    return [each.state for each in exports.list_deliveries(runtime, export_id, partner_id)]


def test_replay_requeues_all_messages_only_for_that_partner(
    make_runtime: OpenRuntime, endpoint: Start, database_url: str
) -> None:
    broker, warehouse = endpoint(), endpoint()
    runtime = make_partners(make_runtime(database_url=database_url), broker, warehouse)
    ids = [hand_off(runtime, batch) for batch in ("one", "two")]
    first = list_received(warehouse)
    assert (len(first), len(broker.requests)) == (4, 2)

    report, streams = replay_to(runtime, WAREHOUSE)
    assert (report.partner_id, report.messages, report.exports, report.next) == (WAREHOUSE, 4, 2, None)
    assert streams == [DeliveryStream(each, WAREHOUSE, "webhook") for each in sorted(ids)]
    for stream in streams:
        sender.deliver_stream(runtime, stream.subject_id, stream.partner_id, stream.channel)

    assert list_received(warehouse) == first + first
    assert len(broker.requests) == 2
    for export_id in ids:
        assert states(runtime, export_id, WAREHOUSE) == ["delivered", "delivered"]
        assert exports.read_event_types(runtime, export_id).count("DELIVERY_RESENT") == 1


def test_failing_recipient_does_not_resend_to_others(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    broker, warehouse = endpoint(Script(500), Script(500), Script(204)), endpoint()
    runtime = make_partners(make_runtime(delivery_schedule_seconds=[1]), broker, warehouse)
    export_id = hand_off(runtime)
    clock.pass_seconds(2)
    send(runtime, export_id)
    assert (states(runtime, export_id, BROKER), read_submission(runtime)) == (["dead"], "failed")
    before = list_received(warehouse)
    assert len(before) == 2

    report, (stream,) = replay_to(runtime, BROKER)
    assert (report.messages, read_submission(runtime)) == (1, "pending")
    clock.pass_seconds(3600)
    sender.deliver_stream(runtime, stream.subject_id, stream.partner_id, stream.channel)

    assert (states(runtime, export_id, BROKER), read_submission(runtime)) == (["delivered"], "delivered")
    assert len({each.headers["webhook-id"] for each in broker.requests}) == 1
    assert len({each.body for each in broker.requests}) == 1
    assert list_received(warehouse) == before


def read_submission(runtime: Runtime) -> str:
    return stored.one(runtime, select(BrokerSubmission.state))


def test_replay_skips_pending_and_cancelled(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    export_id = hand_off(runtime, sent=False)
    with runtime.db.write() as session:
        first = exports.list_deliveries(runtime, export_id, WAREHOUSE)[0]
        session.execute(update(Delivery).where(col(Delivery.id) == first.id).values(state="cancelled"))
    report, streams = replay_to(runtime, WAREHOUSE)
    assert (report.messages, report.exports, streams) == (0, 0, [])
    assert states(runtime, export_id, WAREHOUSE) == ["cancelled", "pending"]
    assert "DELIVERY_RESENT" not in exports.read_event_types(runtime, export_id)


def test_replay_span_uses_delivery_time_or_enqueue_time_of_dead(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    broker = endpoint(Script(410))
    runtime = make_partners(make_runtime(), broker, endpoint())
    began = clock.now
    late = hand_off(runtime, "late", sent=False)
    clock.pass_seconds(600)
    early = hand_off(runtime, "early")
    clock.pass_seconds(600)
    send(runtime, late)

    def found(partner_id: str, **span: Any) -> list[str]:
        _, streams = replay_to(runtime, partner_id, **span)
        stored.change(runtime, update(Delivery).where(col(Delivery.state) == "pending").values(state="delivered"))
        return [stream.subject_id for stream in streams]

    after = began + timedelta(seconds=601)
    assert found(WAREHOUSE, since=after) == [late]
    assert found(WAREHOUSE, since=began, until=after.isoformat()) == [early]
    assert states(runtime, early, BROKER) == ["dead"]
    assert found(BROKER, since=after, states=["dead"]) == []
    assert found(BROKER, since=began + timedelta(seconds=600), states=["dead"]) == [early]


def test_replay_selects_requested_types_and_states(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    hand_off(runtime)
    assert replay_to(runtime, WAREHOUSE, states=["dead"])[0].messages == 0
    assert replay_to(runtime, WAREHOUSE, eventTypes=[MessageType.PACKAGE_SUPERSEDED])[0].messages == 0
    assert replay_to(runtime, WAREHOUSE, eventTypes=[MessageType.PACKAGE_RECORDED])[0].messages == 2


def test_replay_pages_take_one_update_each(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "EXPORTS_PER_PAGE", 2)
    monkeypatch.setattr(replay, "MESSAGES_PER_PAGE", 4)  # just what two exports have
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    ids = [hand_off(runtime, f"batch_{n}") for n in range(5)]
    with record_statements(runtime.db) as asked:
        pages = [replay_to(runtime, WAREHOUSE)]
        while (before := pages[-1][0]).next is not None:
            pages.append(replay_to(runtime, WAREHOUSE, until=before.until.isoformat(), after=before.next))

    assert [(page.messages, page.exports) for page, _ in pages] == [(4, 2), (4, 2), (2, 1)]
    assert [stream.subject_id for _, streams in pages for stream in streams] == sorted(ids)
    assert sum(each.startswith("UPDATE deliveries") for each in asked) == 3


def test_replay_does_not_split_an_export_between_pages(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MESSAGES_PER_PAGE", 1)
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    first, second = sorted(hand_off(runtime, batch) for batch in ("one", "two"))
    report, streams = replay_to(runtime, WAREHOUSE)
    assert (report.messages, report.next, [stream.subject_id for stream in streams]) == (2, first, [first])
    report, streams = replay_to(runtime, WAREHOUSE, after=report.next)
    assert (report.messages, report.next, [stream.subject_id for stream in streams]) == (2, None, [second])


def test_superseded_message_is_neither_replayed_nor_resent(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    old, new = hand_off(runtime, "one"), hand_off(runtime, "two")
    with runtime.db.write() as session:
        session.get_one(Export, new).supersedes_id = old
        message_id = exports.list_deliveries(runtime, old, WAREHOUSE)[-1].notification_id
        session.execute(
            update(Notification)
            .where(col(Notification.id) == message_id)
            .values(event_type=MessageType.PACKAGE_SUPERSEDED.value)
        )
    report, streams = replay_to(runtime, WAREHOUSE)
    assert (report.messages, {stream.subject_id for stream in streams}) == (3, {old, new})
    assert states(runtime, old, WAREHOUSE) == ["delivered", "pending"]
    with pytest.raises(InvalidState, match=f"superseded by {new}"):
        resend.resend_delivery(
            runtime, factories.ACCOUNT, exports.list_deliveries(runtime, old, BROKER)[0].id, "key_op"
        )


def test_test_key_cannot_replay_to_a_live_endpoint(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    live = hand_off(runtime)
    assert replay_to(runtime, WAREHOUSE, test_only=True)[0].messages == 0
    one = exports.list_deliveries(runtime, live, WAREHOUSE)[0].id
    with pytest.raises(InsufficientRole, match="use a live key"):
        resend.resend_delivery(runtime, factories.ACCOUNT, one, "key_test", test_only=True)
    assert states(runtime, live, WAREHOUSE) == ["delivered", "delivered"]


def test_replay_of_unknown_partner_is_not_found_but_the_account_id_is_valid(runtime: Runtime) -> None:
    with pytest.raises(NotFound):
        replay_to(runtime, "wh_unknown")
    assert replay_to(runtime, factories.ACCOUNT)[0].messages == 0


def test_replay_event_has_partner_and_message_count(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_partners(make_runtime(), endpoint(), endpoint())
    export_id = hand_off(runtime)
    replay_to(runtime, WAREHOUSE)
    with runtime.db.read() as session:
        last = session.exec(
            select(Event).where(col(Event.export_id) == export_id).order_by(col(Event.seq).desc())
        ).first()
    assert last is not None
    assert (last.type, last.actor) == ("DELIVERY_RESENT", "key_op")
    assert last.data == {"partnerId": WAREHOUSE, "messages": 2, "since": "2020-01-01T00:00:00+00:00"}
