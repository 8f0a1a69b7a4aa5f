"""The inbox items of entries that a superseded revision left: filed by one customs broker, corrected or dropped since."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, SQLColumnExpression, literal_column, select
from sqlmodel import Session, col

from pipeline.deliveries.entries.facets import Headline
from pipeline.deliveries.models import BrokerSubmission, CustomsEntry
from pipeline.deliveries.outcomes import HANDOFF
from pipeline.exports.models import Export, ExportUnit, PlanSnapshot
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.exports.states import ExportState
from pipeline.workflow.dead_letters import describe_export, load_acknowledged

_CORRECTED: Final = (
    "The customs broker answered about an entry that a newer revision corrects or drops. Agree with it what becomes of"
    " the entry, then acknowledge it."
)
_REASSIGNED: Final = (
    "Two customs brokers may have filed: the export went to another one. Ask the first one to cancel its entry, or"
    " acknowledge it."
)

#: The conditions of the indexes of exports with such an entry, by whether a person acknowledged it.
_HAS_LEFT: Final[Mapping[bool, ColumnElement[bool]]] = {
    False: literal_column("(earlier_entry AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"),
    True: literal_column("(earlier_entry AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"),
}

#: The headlines of entries that are not filed.
_UNFILED: Final = (Headline.AWAITING, Headline.ACCEPTED, Headline.QUERY, Headline.REJECTED, Headline.WITHDRAWN)


def select_left(account_id: str | SQLColumnExpression[str], *columns: Any, acknowledged: bool = False) -> Select[Any]:
    """Return the statement for the superseded exports that left an entry which needs a person."""
    return select(*columns).where(col(Export.account_id) == account_id, _HAS_LEFT[acknowledged])


def find_left(session: Session, account_id: str, *, acknowledged: bool, limit: int) -> list[InboxItem]:
    """Return the items of the oldest such exports."""
    columns = (
        col(Export.id).label("export_id"),
        *(col(each) for each in (Export.batch_id, Export.next_seq, Export.acknowledged_seq, Export.revision)),
        *(col(each) for each in (Export.broker_id, Export.updated_at, PlanSnapshot.entry_on, PlanSnapshot.test)),
        col(BrokerSubmission.id).label("submission_id"),
    )
    rows = session.execute(
        select_left(account_id, *columns, acknowledged=acknowledged)
        .join(BrokerSubmission, HANDOFF)
        .join(PlanSnapshot, col(PlanSnapshot.id) == col(Export.plan_id))
        .order_by(col(Export.id))
        .limit(limit)
    ).all()
    if not rows:
        return []
    newest = _find_newest(session, account_id, rows)
    seen, entries = load_acknowledged(session, rows), _describe_entries(session, rows, newest)
    return [
        InboxItem(
            **describe_export(row),
            cause=Cause.EARLIER_ENTRY,
            partner_id=row.broker_id,
            reason=_CORRECTED if row.broker_id == newest[row.export_id].broker_id else _REASSIGNED,
            text=f"revision {row.revision}, now {newest[row.export_id].revision} with"
            f" {newest[row.export_id].broker_id}: {', '.join(entries.get(row.export_id, ())[:20])}",
            since=row.updated_at,
            acknowledged=seen.get(row.export_id),
        )
        for row in rows
    ]


def _find_newest(session: Session, account_id: str, rows: Sequence[Row[Any]]) -> dict[str, Row[Any]]:
    """Return the newest revision of each export's batch, by the id of the export."""
    query = select(
        *(col(each) for each in (Export.id, Export.batch_id, Export.test, Export.revision, Export.broker_id))
    ).where(
        col(Export.account_id) == account_id,
        col(Export.batch_id).in_({row.batch_id for row in rows}),
        col(Export.state) != ExportState.SUPERSEDED.value,
    )
    found = {(each.batch_id, each.test): each for each in session.execute(query)}
    return {row.export_id: found[row.batch_id, row.test] for row in rows}


def _describe_entries(
    session: Session, rows: Sequence[Row[Any]], newest: Mapping[str, Row[Any]]
) -> dict[str, list[str]]:
    """Return the entries of each export that do not go on, each with its number and headline."""
    of_submission = {row.submission_id: row for row in rows}
    kept = {
        (each.export_id, each.package_number): each.same_since
        for each in session.execute(
            select(col(ExportUnit.export_id), col(ExportUnit.package_number), col(ExportUnit.same_since)).where(
                col(ExportUnit.export_id).in_({each.id for each in newest.values()}),
                col(ExportUnit.same_since).is_not(None),
            )
        )
    }
    found: dict[str, list[str]] = {}
    query = (
        select(CustomsEntry)
        .where(col(CustomsEntry.submission_id).in_(of_submission), col(CustomsEntry.headline).not_in([*_UNFILED]))
        .order_by(col(CustomsEntry.submission_id), col(CustomsEntry.package_number))
    )
    for entry in session.scalars(query):
        row = of_submission[entry.submission_id]
        if kept.get((newest[row.export_id].id, entry.package_number), row.revision + 1) > row.revision:
            name = entry.headline.replace("_", " ")
            found.setdefault(row.export_id, []).append(
                f"{entry.package_number} ({entry.entry_number or 'no number yet'}): {name}"
            )
    return found
