"""Overdue submissions: a missing answer notifies the operators once per status; an answer in time does not."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session, col, select

from pipeline.core.clock import format_utc
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox import operator_messages, outbox
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.streams import sender
from pipeline.deliveries.submissions import broker_answers, overdue
from pipeline.exports.models import Export
from pipeline.workflow import inbox, read_model
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def hand_off(runtime: Runtime, arrives_at: str = "2027-01-26T18:00:00Z") -> exports.PreparedExport:
    plan = factories.plan()
    plan["units"][0]["entry"]["estimatedArrivalAt"] = arrives_at
    export = exports.prepare_export(runtime, plan)
    exports.hand_off(runtime, export)
    return export


def read_submission(runtime: Runtime) -> BrokerSubmission:
    return stored.one(runtime, select(BrokerSubmission))


def record_answer(runtime: Runtime, status: str) -> None:
    body = AcknowledgementBody.model_validate({"id": f"said:{status}", "status": status})
    broker_answers.receive_answer(runtime, read_submission(runtime).id, body, "partner:br")


def test_failed_overdue_notification_does_not_block_others(
    runtime: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports_late = [
        exports.prepare_export(runtime, factories.plan(batch=f"batch_{n}", invoice=f"INV-{n}")) for n in range(3)
    ]
    for export in exports_late:
        exports.hand_off(runtime, export)
    clock.pass_seconds(15 * MINUTE)
    bad, *good = [DeliveryStream(export.export_id, factories.OPERATOR, "queue") for export in exports_late]
    real = operator_messages.enqueue_handoff_overdue

    def report_overdue(session: Session, late: operator_messages.OverdueStatus) -> outbox.Enqueued:
        if late.export_id == bad.subject_id:
            raise ValueError("this one cannot be notified")
        return real(session, late)

    with monkeypatch.context() as patched:
        patched.setattr(operator_messages, "enqueue_handoff_overdue", report_overdue)
        assert sorted(stream.subject_id for stream in overdue.notify_overdue(runtime)) == sorted(
            stream.subject_id for stream in good
        )
        assert overdue.notify_overdue(runtime) == []
    assert overdue.notify_overdue(runtime) == [bad]
    assert len(list_alarms(runtime)) == 3


def list_alarms(runtime: Runtime) -> list[dict[str, Any]]:
    rows = stored.rows(
        runtime,
        select(Notification)
        .where(col(Notification.event_type) == "exports.handoff.overdue.v1")
        .order_by(col(Notification.position)),
    )
    return [json.loads(row.data) for row in rows]


def test_undelivered_handoff_notifies_operators_once(runtime: Runtime, clock: Clock) -> None:
    export = hand_off(runtime)
    began = clock.now
    clock.pass_seconds(15 * MINUTE - 1)
    assert overdue.notify_overdue(runtime) == []
    clock.pass_seconds(1)
    assert overdue.notify_overdue(runtime) == [DeliveryStream(export.export_id, factories.OPERATOR, "queue")]
    clock.pass_seconds(DAY)
    assert overdue.notify_overdue(runtime) == []
    (alarm,) = list_alarms(runtime)
    assert (alarm["submissionStatus"], alarm["partnerId"], alarm["channel"]) == ("pending", factories.BROKER, "queue")
    assert alarm["deadlineAt"] == (began + timedelta(minutes=15)).isoformat().replace("+00:00", "Z")
    assert exports.read_event_types(runtime, export.export_id)[-1] == "HANDOFF_OVERDUE"


def test_each_status_has_a_deadline_and_is_overdue_once(runtime: Runtime, clock: Clock) -> None:
    export = hand_off(runtime)
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    waits = {"delivered": HOUR, "received": DAY, "accepted": 2 * DAY, "filed": 5 * DAY}
    for status, seconds in waits.items():
        if status != "delivered":
            record_answer(runtime, status)
        assert read_submission(runtime).deadline_at == clock.now + timedelta(seconds=seconds)
        assert read_submission(runtime).overdue_at is None
        clock.pass_seconds(seconds - 1)
        assert overdue.notify_overdue(runtime) == []
        clock.pass_seconds(1)
        assert len(overdue.notify_overdue(runtime)) == 1
        assert read_submission(runtime).overdue_at == clock.now
    record_answer(runtime, "released")
    clock.pass_seconds(365 * DAY)
    assert overdue.notify_overdue(runtime) == []
    assert [alarm["submissionStatus"] for alarm in list_alarms(runtime)] == list(waits)


def test_truck_without_a_bill_is_overdue_before_it_arrives(runtime: Runtime, clock: Clock) -> None:
    export = hand_off(runtime, format_utc(clock.now + timedelta(hours=4)))
    stored.change(runtime, update(Export).values(state="executed"))
    record_answer(runtime, "filed")
    record_answer(runtime, "bill_unmatched")
    clock.pass_seconds(2 * HOUR)
    assert len(overdue.notify_overdue(runtime)) == 1
    (alarm,) = list_alarms(runtime)
    assert (alarm["submissionStatus"], alarm["withoutBill"]) == ("filed", ["CP-000001"])
    (item,) = inbox.load_inbox(runtime, export.context.account_id).items
    assert "Ask the carrier" in item.reason
    assert item.text.endswith("last status filed; no bill matches CP-000001")
    record_answer(runtime, "bill_matched")
    assert read_submission(runtime).overdue_at is None
    clock.pass_seconds(2 * HOUR)
    assert len(overdue.notify_overdue(runtime)) == 1  # it arrived, and is not released
    assert list_alarms(runtime)[1]["withoutBill"] == []


@pytest.mark.parametrize("status", ["rejected", "query", "held", "released"])
def test_final_answer_ends_the_deadline(runtime: Runtime, clock: Clock, status: str) -> None:
    hand_off(runtime)
    record_answer(runtime, status)
    assert read_submission(runtime).deadline_at is None
    clock.pass_seconds(365 * DAY)
    assert overdue.notify_overdue(runtime) == []


def test_answer_in_time_is_not_overdue_and_repetition_extends_nothing(runtime: Runtime, clock: Clock) -> None:
    hand_off(runtime)
    record_answer(runtime, "received")
    first = read_submission(runtime).deadline_at
    clock.pass_seconds(HOUR)
    record_answer(runtime, "received")
    assert read_submission(runtime).deadline_at == first


def test_concurrent_sweeps_notify_once(make_runtime: OpenRuntime, database_url: str) -> None:
    runtime = make_runtime(database_url=database_url, deadline_delivered_seconds=0.001)
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    export = hand_off(runtime)
    stored.change(runtime, update(BrokerSubmission).values(deadline_at=database_now(-1)))
    threads = [threading.Thread(target=overdue.notify_overdue, args=(runtime,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_alarms(runtime)) == 1
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF", "HANDOFF_OVERDUE"]


def test_superseded_handoff_is_not_overdue(runtime: Runtime, clock: Clock) -> None:
    hand_off(runtime)
    stored.change(runtime, update(Export).values(state="superseded"))
    clock.pass_seconds(365 * DAY)
    assert overdue.notify_overdue(runtime) == []


def test_overdue_message_reaches_operator_queue_and_inspect_shows_it(runtime: Runtime, clock: Clock) -> None:
    export = hand_off(runtime)
    clock.pass_seconds(DAY)
    (stream,) = overdue.notify_overdue(runtime)
    sender.deliver_stream(runtime, stream.subject_id, stream.partner_id, stream.channel)
    with runtime.db.read() as session:
        view = read_model.read_export(session, factories.ACCOUNT, export.export_id)
        report_overdue = session.exec(
            select(Delivery.state)
            .join(Notification, col(Notification.id) == col(Delivery.notification_id))
            .where(col(Notification.event_type) == "exports.handoff.overdue.v1")
        ).all()
    assert list(report_overdue) == ["delivered"]
    assert view.broker_submission is not None
    assert view.broker_submission.overdue_at == clock.now
