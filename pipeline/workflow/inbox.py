"""Everything that needs a person, grouped by cause, and the remedies that the service can apply."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, SQLColumnExpression, literal_column, select
from sqlmodel import Session, col

from pipeline.accounts.models import Partner
from pipeline.accounts.states import PartnerState
from pipeline.core.runtime import Runtime
from pipeline.deliveries.arrivals import describe_arrival
from pipeline.deliveries.entries.entries import find_without_bill
from pipeline.deliveries.entries.facets import AnswerStatus
from pipeline.deliveries.entries.troubles import find_troubles
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outcomes import HANDOFF, has_arrived, outcome_search
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.schemas.export import AcknowledgedView
from pipeline.exports.schemas.inbox import Cause, InboxItem, InboxView
from pipeline.exports.states import ACKNOWLEDGEABLE, DeliveryState, Outcome, SubmissionState
from pipeline.workflow.dead_letters import describe_export, find_dead, load_acknowledged, select_dead
from pipeline.workflow.left_entries import find_left, select_left
from pipeline.workflow.marked_exports import EXPORT_COLUMNS, MARKS, find_marked, select_marked

#: The most items of one cause that are listed, those of the oldest exports.
MOST_ITEMS: Final = 200

#: The causes of exports, each with the outcome of these exports.
_CAUSES: Final = {
    Cause.QUARANTINED: Outcome.NEEDS_ATTENTION,
    Cause.FAILED: Outcome.NEEDS_ATTENTION,
    Cause.HANDOFF_HELD: Outcome.HANDOFF_HELD,
    Cause.NOT_WITHDRAWN: Outcome.NOT_WITHDRAWN,
    Cause.OVERDUE: Outcome.OVERDUE,
    Cause.REJECTED: Outcome.REJECTED,
    Cause.QUERY: Outcome.QUERY,
    Cause.HELD: Outcome.HELD,
}

_REASONS: Final = {
    Cause.OVERDUE: "The customs broker has not answered in time. Ask it; resend the handoff if it has nothing.",
    Cause.REJECTED: "The customs broker rejects it. Correct the plan, and amend the export.",
    Cause.QUERY: "The customs broker asks. Reply to it, or correct the plan and amend the export.",
    Cause.HELD: "Customs holds the goods. Ask the customs broker what is missing.",
    Cause.HANDOFF_HELD: "A person holds its handoff, so nothing is sent. Release the hold, or cancel the export.",
    Cause.NOT_WITHDRAWN: "The entry is filed although its withdrawal is requested. Ask the customs broker to cancel the"
    " entry, or acknowledge that the goods go.",
    Cause.PAUSED: "Nothing is sent to it until a person resumes it. Its messages are kept.",
}

#: The reasons of exports that have another word of the customs broker than their cause.
_REASONS_BY_WORD: Final[Mapping[AnswerStatus, str]] = {
    AnswerStatus.NOT_RELEASED: "Customs does not release the goods. Ask the customs broker what is missing.",
    AnswerStatus.DETAINED: "Customs detains the goods. Ask the customs broker what is missing.",
    AnswerStatus.REFUSED: "Customs refused the goods. Ask the customs broker what becomes of them.",
    AnswerStatus.SEIZED: "Customs seized the goods. Ask the customs broker what you can do.",
    AnswerStatus.CANCELLED: "The entry is cancelled. Ask the customs broker why, and whether it files another.",
    AnswerStatus.WITHDRAWN: "The customs broker files no entry. Ask it why, or amend the export.",
}

_ARRIVED: Final = "The goods arrived, and no release is known. Call the customs broker now: the carrier may be waiting."

_NO_BILL: Final = (
    "The entry is filed, and no bill matches it. Ask the carrier for its manifest before the truck is at the port."
)

#: The conditions of the indexes of the inbox. A failed export stays in it even if its dead letters are acknowledged.
_IN_INBOX: Final[ColumnElement[bool]] = literal_column(
    "(outcome IN ('needs_attention', 'handoff_held', 'overdue', 'rejected', 'query', 'held', 'not_withdrawn')"
    " AND purged_at IS NULL"
    " AND (acknowledged_seq IS NULL OR outcome = 'needs_attention')) IS TRUE"
)
_ACKNOWLEDGED: Final[ColumnElement[bool]] = literal_column(
    "(outcome IN ('needs_attention', 'handoff_held', 'overdue', 'rejected', 'query', 'held', 'not_withdrawn')"
    " AND purged_at IS NULL"
    " AND acknowledged_seq IS NOT NULL) IS TRUE"
)


@dataclass(frozen=True)
class InboxGroup:
    """The items of one cause with the same partner and reason, oldest deadline first; there are `more` if it was cut."""

    cause: Cause
    partner_id: str | None
    reason: str
    items: Sequence[InboxItem]
    more: bool = False


def load_inbox(
    runtime: Runtime,
    account_id: str,
    *,
    cause: Cause | None = None,
    acknowledged: bool = False,
    limit: int = MOST_ITEMS,
) -> InboxView:
    """Return what needs a person, or what was acknowledged, of all causes or one; of each at most `limit`.

    Raises DatabaseBusy.
    """
    items: list[InboxItem] = []
    cut: list[Cause] = []
    with runtime.db.read() as session:
        for found in _find_items(session, account_id, cause, acknowledged=acknowledged, limit=limit + 1):
            items += found[:limit]
            if len(found) > limit:
                cut += {each.cause for each in found}
    items = [each for each in items if cause in (None, each.cause)]
    return InboxView(items=sorted(items, key=attrgetter("deadline")), cut=sorted({*cut}))


def group_items(inbox: InboxView) -> list[InboxGroup]:
    """Return the items in groups, the group with the oldest deadline first."""
    grouped: dict[tuple[Cause, str | None, str], list[InboxItem]] = defaultdict(list)
    for item in inbox.items:
        grouped[item.cause, item.partner_id, item.reason].append(item)
    return [
        InboxGroup(cause, partner_id, reason, items, more=cause in inbox.cut)
        for (cause, partner_id, reason), items in grouped.items()
    ]


def open_items(account_id: SQLColumnExpression[str]) -> Iterator[Select[Any]]:
    """Yield the statements that together find each open item of an account once, to count them."""
    for outcome in dict.fromkeys(_CAUSES.values()):
        yield _select_exports(account_id, outcome, col(Export.id))
    for cause in MARKS:
        yield select_marked(account_id, cause, col(Export.id))
    yield select_left(account_id, col(Export.id))
    yield select_dead(account_id, col(Delivery.id))
    yield _select_paused(account_id, col(Partner.id))


def _find_items(
    session: Session, account_id: str, cause: Cause | None, *, acknowledged: bool, limit: int
) -> Iterator[list[InboxItem]]:
    for each, outcome in _CAUSES.items():
        if cause not in (None, each) or (acknowledged and outcome not in ACKNOWLEDGEABLE):
            continue
        rows = _find_exports(session, account_id, each, acknowledged=acknowledged, limit=limit)
        seen = load_acknowledged(session, rows)
        if outcome is Outcome.NEEDS_ATTENTION:
            yield [_describe_failure(row) for row in rows]
        elif outcome is Outcome.HANDOFF_HELD:
            yield _describe_holds(session, rows)
        elif outcome is Outcome.OVERDUE:
            yield _describe_overdue(session, rows, seen)
        else:
            yield _describe_answers(session, each, rows, seen)
    for marked in MARKS:
        if cause in (None, marked):
            yield find_marked(session, account_id, marked, acknowledged=acknowledged, limit=limit)
    if cause in (None, Cause.EARLIER_ENTRY):
        yield find_left(session, account_id, acknowledged=acknowledged, limit=limit)
    if cause in (None, Cause.DEAD_LETTER):
        yield find_dead(session, account_id, acknowledged=acknowledged, limit=limit)
    if cause in (None, Cause.PAUSED) and not acknowledged:
        yield _find_paused(session, account_id, limit)


def _select_exports(
    account_id: str | SQLColumnExpression[str], outcome: Outcome, *columns: Any, acknowledged: bool = False
) -> Select[Any]:
    return select(*columns).where(
        col(Export.account_id) == account_id,
        outcome_search(outcome).where(),
        _ACKNOWLEDGED if acknowledged else _IN_INBOX,
    )


def _find_exports(
    session: Session, account_id: str, cause: Cause, *, acknowledged: bool, limit: int
) -> Sequence[Row[Any]]:
    """Return the oldest exports with this cause, with their handoffs."""
    outcome = _CAUSES[cause]
    columns = (
        *EXPORT_COLUMNS,
        col(Export.broker_id),
        col(Export.revision),
        col(Export.failure),
        col(Export.quarantined),
        col(Export.updated_at),
        col(BrokerSubmission.id).label("submission_id"),
        col(BrokerSubmission.state).label("status"),
        col(BrokerSubmission.updated_at).label("answered_at"),
        *(
            col(each)
            for each in (BrokerSubmission.deadline_at, BrokerSubmission.overdue_at, BrokerSubmission.arrives_at)
        ),
    )
    query = (
        _select_exports(account_id, outcome, *columns, acknowledged=acknowledged)
        .join(BrokerSubmission, HANDOFF, isouter=True)
        .join(PlanSnapshot, col(PlanSnapshot.id) == col(Export.plan_id))
    )
    if outcome is Outcome.NEEDS_ATTENTION:
        query = query.where(col(Export.quarantined).is_(cause is Cause.QUARANTINED))
    return session.execute(query.order_by(*outcome_search(outcome).columns).limit(limit)).all()


def _describe_failure(row: Row[Any]) -> InboxItem:
    return InboxItem(
        **describe_export(row),
        cause=Cause.QUARANTINED if row.quarantined else Cause.FAILED,
        reason=row.failure or "no reason was recorded",
        text=f"revision {row.revision}",
        since=row.updated_at,
    )


def _describe_holds(session: Session, rows: Sequence[Row[Any]]) -> list[InboxItem]:
    held = (col(Event.export_id) == col(Export.id)) & (col(Event.seq) == col(Export.hold_seq))
    of_rows = select(Event).join(Export, held).where(col(Export.id).in_([row.export_id for row in rows]))
    holds = {event.export_id: event for event in session.scalars(of_rows)}
    return [
        InboxItem(
            **describe_export(row),
            cause=Cause.HANDOFF_HELD,
            reason=_REASONS[Cause.HANDOFF_HELD],
            text=f"held by {holds[row.export_id].actor}: {holds[row.export_id].data['reason']}",
            since=holds[row.export_id].at,
        )
        for row in rows
    ]


def _describe_overdue(
    session: Session, rows: Sequence[Row[Any]], seen: Mapping[str, AcknowledgedView]
) -> list[InboxItem]:
    handoffs = {
        row.subject_id: row.id
        for row in session.execute(
            select(col(Delivery.subject_id), col(Delivery.id))
            .join(Notification, col(Notification.id) == col(Delivery.notification_id))
            .where(
                col(Delivery.subject_id).in_([row.export_id for row in rows]),
                col(Notification.event_type) == MessageType.HANDOFF_READY.value,
                col(Delivery.state).in_((DeliveryState.DELIVERED.value, DeliveryState.DEAD.value)),
            )
        )
    }
    without_bill = find_without_bill(session, (row.submission_id for row in rows))
    return [
        InboxItem(
            **describe_export(row),
            cause=Cause.OVERDUE,
            partner_id=row.broker_id,
            reason=_explain_late(row, without_bill),
            text=_describe_late(row, without_bill.get(row.submission_id, ())),
            delivery_id=handoffs.get(row.export_id),
            since=row.answered_at,
            deadline_at=row.deadline_at,
            acknowledged=seen.get(row.export_id),
        )
        for row in rows
    ]


def _explain_late(row: Row[Any], without_bill: Mapping[str, Sequence[str]]) -> str:
    if has_arrived(row):
        return _ARRIVED
    return _NO_BILL if row.submission_id in without_bill else _REASONS[Cause.OVERDUE]


def _describe_late(row: Row[Any], without_bill: Sequence[str]) -> str:
    text = f"last status {row.status}"
    if without_bill:
        text = f"{text}; no bill matches {', '.join(without_bill[:20])}"
    if row.arrives_at is None:
        return text
    return f"{describe_arrival(row.arrives_at, arrived=has_arrived(row))}; {text}"


def _describe_answers(
    session: Session, cause: Cause, rows: Sequence[Row[Any]], seen: Mapping[str, AcknowledgedView]
) -> list[InboxItem]:
    troubles = find_troubles(session, SubmissionState(cause), [row.submission_id for row in rows])
    return [
        InboxItem(
            **describe_export(row),
            cause=cause,
            partner_id=row.broker_id,
            reason=_REASONS[cause] if trouble is None else _REASONS_BY_WORD.get(trouble.word, _REASONS[cause]),
            text="" if trouble is None else trouble.text,
            fields=[] if trouble is None else trouble.fields,
            since=row.answered_at,
            acknowledged=seen.get(row.export_id),
        )
        for row in rows
        for trouble in (troubles.get(row.submission_id),)
    ]


def _select_paused(account_id: str | SQLColumnExpression[str], *columns: Any) -> Select[Any]:
    return select(*columns).where(
        col(Partner.account_id) == account_id, col(Partner.state) == PartnerState.PAUSED.value
    )


def _find_paused(session: Session, account_id: str, limit: int) -> list[InboxItem]:
    columns = (col(Partner.id), col(Partner.name), col(Partner.test), col(Partner.updated_at))
    rows = session.execute(_select_paused(account_id, *columns).order_by(col(Partner.id)).limit(limit))
    return [
        InboxItem(
            cause=Cause.PAUSED,
            partner_id=row.id,
            reason=_REASONS[Cause.PAUSED],
            text=row.name,
            test=row.test,
            since=row.updated_at,
        )
        for row in rows
    ]
