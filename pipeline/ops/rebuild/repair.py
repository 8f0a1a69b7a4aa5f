"""The restore of damaged rows from the log only, in the transaction that records the repair in the log."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from sqlalchemy import ColumnDefault, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col

from config.settings import Settings
from pipeline.core.db import database_now, table
from pipeline.core.runtime import Runtime
from pipeline.deliveries import handoff
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.submissions import waits
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, Step
from pipeline.exports.states import DeliveryState, StepState, SubmissionState
from pipeline.exports.step_context import build_context
from pipeline.ops.raw_rows import MALFORMED
from pipeline.ops.rebuild.compare import Difference, RebuildResult, compare_export
from pipeline.ops.rebuild.projections import ExpectedRow
from pipeline.workflow.steps import EXPORT_LEVEL, HAND_OFF

ACTOR: Final = "rebuild"

_notifications, _deliveries = table(Notification).c, table(Delivery).c


def restore_export(runtime: Runtime, export_id: str) -> RebuildResult:
    """Restore the rows of an export from its log, as far as they can be proven; return the remaining differences.

    Pending work of a restored row is due at once. Nothing is restored from a broken or incomplete log.
    """
    try:
        result = _restore_rows(runtime, export_id)
    except IntegrityError as error:
        result = RebuildResult(
            export_id, refusal=f"the database rejects a restored row: {str(error.orig).splitlines()[0]}"
        )
    if result.refusal is not None:
        return result
    if any(difference.table == "notifications" and difference.restorable for difference in result.differences):
        # Messages are not rebuilt from rows that cannot be read.
        with suppress(*MALFORMED):
            _rewrite_handoff_messages(runtime, export_id)
    with runtime.db.read() as session:
        return compare_export(session, export_id)


def _restore_rows(runtime: Runtime, export_id: str) -> RebuildResult:
    with runtime.db.write() as session:
        export_exists = session.scalar(select(col(Export.id)).where(col(Export.id) == export_id)) is not None
        if export_exists:
            events.lock_export(session, export_id)
        result = compare_export(session, export_id)
        # If the export's own row cannot be restored, its child rows cannot be restored either.
        is_restorable = any(
            difference.table == "exports" and difference.restorable for difference in result.differences
        )
        if result.refusal is not None or not (export_exists or is_restorable):
            return result
        repairs = [(difference, row) for difference, row in result.repairs if row is not None]
        # Added rows are removed first, because they may hold values that a restored row needs; children before parents.
        added = [repair for repair in reversed(repairs) if repair[0].kind == "added"]
        for difference, row in (*added, *(repair for repair in repairs if repair[0].kind != "added")):
            _repair_row(session, runtime.settings, difference, row)
        if repairs:
            _record_repair(session, export_id, [difference for difference, _ in repairs])
    return result


def _repair_row(session: Session, settings: Settings, difference: Difference, row: ExpectedRow) -> None:
    columns = table(row.model).c
    is_row = [columns[name] == value for name, value in row.key.items()]
    match difference.kind:
        case "added":
            session.execute(delete(table(row.model)).where(*is_row))
        case "missing":
            session.execute(
                insert(table(row.model)).values(
                    **(_bookkeeping(settings, row.model, row.restored_values) | row.restored_values)
                )
            )
        case "changed":
            values = {
                name: row.restored_values.get(name, _initial_value(row.model, name)) for name in difference.columns
            }
            bookkeeping = (
                _bookkeeping(settings, row.model, row.restored_values)
                if {"state", "deadline_at"} & values.keys()
                else {}
            )
            session.execute(update(table(row.model)).where(*is_row).values(**(bookkeeping | values)))


def _initial_value(model: type[SQLModel], name: str) -> Any:
    """Return the column's initial value. `due_at` is now, which is safe: only pending rows are picked up."""
    default = table(model).c[name].default
    if name == "due_at":
        return database_now()
    return None if default is None else cast(ColumnDefault, default).arg


def _bookkeeping(settings: Settings, model: type[SQLModel], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bookkeeping of a row restored in its state: not leased, and due at once if it is pending."""
    state = row.get("state")
    if model is Step:
        due = database_now() if state == StepState.READY else None
        return {"lease_until": None, "due_at": due, "error": None}
    if model is Delivery:
        due = database_now() if state == DeliveryState.PENDING else None
        return {"lease_until": None, "due_at": due, "delivered_at": row.get("delivered_at")}
    if model is BrokerSubmission:
        arrival = row["account_id"], row.get("arrives_at"), row.get("arrives_by")
        test = row.get("test_account_id") is not None
        deadline = waits.status_deadline(settings, SubmissionState(str(state)), *arrival, test=test)
        return {"deadline_at": row.get("deadline_at", deadline), "overdue_at": None}
    return {}


def _record_repair(session: Session, export_id: str, repaired: Sequence[Difference]) -> None:
    counted = Counter((difference.table, difference.kind) for difference in repaired)
    fact: dict[str, dict[str, int]] = {}
    for (name, kind), count in sorted(counted.items()):
        fact.setdefault(name, {})[kind] = count
    events.append(session, export_id, ACTOR, [NewEvent(EventType.ROWS_RESTORED, {"tables": fact})])


def _rewrite_handoff_messages(runtime: Runtime, export_id: str) -> None:
    """Rebuild the messages of the handoff, if they fit the digest in the log."""
    with runtime.db.read() as session:
        export = session.get_one(Export, export_id)
    context = build_context(export, unit_no=EXPORT_LEVEL, step=HAND_OFF.name, fence=0, attempt=0)
    prepared = handoff.prepare_handoff(runtime, context)
    with runtime.db.write() as session:
        events.lock_export(session, export_id)
        result = compare_export(session, export_id)
        batch = result.handed_off
        if batch is None or batch.intact or prepared.rows.fact["messagesDigest"] != batch.enqueued.digest:
            return
        _write_messages(session, prepared.rows, batch.first_position)
        _record_repair(session, export_id, [each for each in result.differences if each.table == "notifications"])


def _write_messages(session: Session, prepared: outbox.OutboxRows, first_position: int) -> None:
    """Write messages and deliveries that fit the log's digest; an existing delivery keeps its state and attempts."""
    offset = first_position - prepared.notifications[0]["position"]
    ids = [row["id"] for row in prepared.notifications]
    existing = set(session.scalars(select(col(Notification.id)).where(col(Notification.id).in_(ids))))
    for row in prepared.notifications:
        values = {**row, "position": row["position"] + offset}
        if row["id"] in existing:
            session.execute(update(table(Notification)).where(_notifications.id == row["id"]).values(**values))
        else:
            session.execute(insert(table(Notification)).values(**values))
    recipient = (col(Delivery.notification_id), col(Delivery.partner_id), col(Delivery.channel))
    leftover = {
        (notification_id, partner_id, channel): name
        for name, notification_id, partner_id, channel in session.execute(
            select(col(Delivery.id), *recipient).where(col(Delivery.notification_id).in_(ids))
        )
    }
    due = {DeliveryState.PENDING.value: database_now(), DeliveryState.WAITING.value: None}
    for row in (*prepared.pending, *prepared.waiting):
        values = {**row, "position": row["position"] + offset}
        name = leftover.pop((row["notification_id"], row["partner_id"], row["channel"]), None)
        if name is None:
            session.execute(insert(table(Delivery)).values(**values, due_at=due[row["state"]]))
        else:
            updates = {column: values[column] for column in ("subject_id", "account_id", "audience", "position")}
            session.execute(update(table(Delivery)).where(_deliveries.id == name).values(**updates))
    # Deliveries that were neither enqueued nor attempted.
    session.execute(
        delete(table(Delivery)).where(_deliveries.id.in_(list(leftover.values())), _deliveries.attempts == 0)
    )
