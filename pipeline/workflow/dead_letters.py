"""The dead letters of an account as items of its inbox."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, SQLColumnExpression, and_, func, literal_column, or_, select
from sqlmodel import Session, col

from pipeline.core.db import index_constant
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.deliveries.remedies import find_remedy
from pipeline.deliveries.schemas.messages import HELD_UNTIL_SUPERSEDED
from pipeline.exports.event_models import Act, Event
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.queries import build_acknowledged, build_acknowledged_letter
from pipeline.exports.schemas.export import AcknowledgedView
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.exports.states import ExportState, InboxState

_DEAD: Final[ColumnElement[bool]] = literal_column("(deliveries.state = 'dead') IS TRUE")


#: A dead letter that can still be sent: a newer revision replaces some messages, and a withdrawal takes them back.
_SENDABLE: Final = or_(
    col(Export.id).is_(None),
    and_(col(Export.state) != ExportState.SUPERSEDED.value, col(Export.withdrawal_seq).is_(None)),
    col(Notification.event_type).not_in(HELD_UNTIL_SUPERSEDED),
)


def load_acknowledged(session: Session, rows: Sequence[Row[Any]]) -> Mapping[str, AcknowledgedView]:
    """Return the acknowledgements of the exports, by their ids."""
    noted = {row.export_id: row.acknowledged_seq for row in rows if row.acknowledged_seq is not None}
    if not noted:
        return {}
    found = session.scalars(
        select(Event)
        .join(Export, and_(col(Export.id) == col(Event.export_id), col(Export.acknowledged_seq) == col(Event.seq)))
        .where(col(Export.id).in_(noted))
    )
    return {event.export_id: build_acknowledged(event) for event in found}


def _load_acknowledged_letters(
    session: Session, account_id: str, rows: Sequence[Row[Any]]
) -> Mapping[str, AcknowledgedView]:
    """Return the acknowledgements of dead letters about plans, by the ids of their deliveries."""
    letters = {row.acknowledged_act: row.id for row in rows if row.acknowledged_act is not None}
    if not letters:
        return {}
    found = session.scalars(select(Act).where(col(Act.account_id) == account_id, col(Act.seq).in_(letters)))
    return {letters[act.seq]: build_acknowledged_letter(act) for act in found}


def describe_export(row: Row[Any]) -> dict[str, Any]:
    """Return the members of an item that name its export."""
    return {
        "export_id": row.export_id,
        "batch_id": row.batch_id,
        "entry_on": row.entry_on,
        "test": row.test,
        "seen_seq": row.next_seq - 1,
    }


def select_dead(account_id: str | SQLColumnExpression[str], *columns: Any, acknowledged: bool = False) -> Select[Any]:
    """Return the query of the dead letters that can still be sent, of exports and of registered plans."""
    return (
        select(*columns)
        .select_from(Delivery)
        # The subject of a message is an export, or a plan without one.
        .join(Export, col(Export.id) == col(Delivery.subject_id), isouter=True)
        .join(Notification, col(Notification.id) == col(Delivery.notification_id))
        .where(
            col(Delivery.account_id) == account_id,
            _DEAD,
            col(Delivery.inbox) == index_constant(InboxState.ACKNOWLEDGED if acknowledged else InboxState.OPEN),
            _SENDABLE,
        )
    )


def find_dead(session: Session, account_id: str, *, acknowledged: bool, limit: int) -> list[InboxItem]:
    """Return the dead letters as items, those of the oldest exports first."""
    columns = (
        col(Export.id).label("export_id"),
        col(PlanSnapshot.batch_id),
        func.coalesce(col(Export.next_seq), 1).label("next_seq"),
        col(Export.acknowledged_seq),
        col(PlanSnapshot.entry_on),
        col(PlanSnapshot.test),
        *(col(each) for each in (Delivery.id, Delivery.partner_id, Delivery.channel, Delivery.error)),
        col(Delivery.acknowledged_seq).label("acknowledged_act"),
        col(Delivery.created_at),
        col(Notification.event_type),
        col(Attempt.status),
    )
    last: ColumnElement[bool] = and_(
        col(Attempt.delivery_id) == col(Delivery.id), col(Attempt.number) == col(Delivery.attempts)
    )
    rows = session.execute(
        select_dead(account_id, *columns, acknowledged=acknowledged)
        .join(PlanSnapshot, col(PlanSnapshot.id) == func.coalesce(col(Export.plan_id), col(Delivery.subject_id)))
        .join(Attempt, last, isouter=True)
        .order_by(col(Delivery.id))
        .limit(limit)
    ).all()
    seen = load_acknowledged(session, rows)
    letters = _load_acknowledged_letters(session, account_id, rows)
    return [
        InboxItem(
            **describe_export(row),
            cause=Cause.DEAD_LETTER,
            partner_id=row.partner_id,
            reason=_describe_dead(account_id, row),
            text=row.event_type,
            delivery_id=row.id,
            since=row.created_at,
            acknowledged=letters.get(row.id) if row.export_id is None else seen.get(row.export_id),
        )
        for row in rows
    ]


def _describe_dead(account_id: str, row: Row[Any]) -> str:
    if row.error is None:
        return "no attempt was possible"
    return f"{row.error}; {find_remedy(account_id, row.partner_id, row.channel, row.status)}"
