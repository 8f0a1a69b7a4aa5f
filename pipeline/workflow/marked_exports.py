"""The inbox items of exports with a mark: assessed amounts that differ, or an entry summary that needs a person.

Neither changes the outcome of the export.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, SQLColumnExpression, literal_column, select
from sqlmodel import Session, col

from pipeline.deliveries.entries.entries import find_differences
from pipeline.deliveries.entries.facets import AnswerStatus
from pipeline.deliveries.entries.troubles import find_summary_troubles
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outcomes import HANDOFF
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.workflow.dead_letters import describe_export, load_acknowledged

EXPORT_COLUMNS: Final[tuple[Any, ...]] = (
    col(Export.id).label("export_id"),
    col(Export.batch_id),
    col(Export.next_seq),
    col(Export.acknowledged_seq),
    col(PlanSnapshot.entry_on),
    col(PlanSnapshot.test),
)

_DIFFER: Final = (
    "Customs assessed other amounts than the estimate. Ask the customs broker why, or acknowledge the difference."
)
_SUMMARY: Final = {
    AnswerStatus.SUMMARY_REJECTED: "Customs rejects the entry summary. Ask the customs broker to correct and file it again.",
    AnswerStatus.SUMMARY_DOCUMENTS_REQUESTED: "Customs requests documents about the entry summary. Send them to the customs"
    " broker.",
}

_LATE: Final = (
    "The goods are released, and the entry summary is not filed in time. Ask the customs broker, or acknowledge it."
)

#: The causes with a mark, each with the conditions of its two indexes, by whether a person acknowledged the export.
MARKS: Final[Mapping[Cause, Mapping[bool, ColumnElement[bool]]]] = {
    Cause.SUMMARY: {
        False: literal_column("(summary_trouble AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"),
        True: literal_column("(summary_trouble AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"),
    },
    Cause.AMOUNTS_DIFFER: {
        False: literal_column("(amounts_differ AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"),
        True: literal_column("(amounts_differ AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"),
    },
}


def select_marked(
    account_id: str | SQLColumnExpression[str], cause: Cause, *columns: Any, acknowledged: bool = False
) -> Select[Any]:
    """Return the statement for the exports of an account with this mark."""
    return select(*columns).where(col(Export.account_id) == account_id, MARKS[cause][acknowledged])


def find_marked(session: Session, account_id: str, cause: Cause, *, acknowledged: bool, limit: int) -> list[InboxItem]:
    """Return the items of the oldest exports with this mark."""
    columns = (
        *EXPORT_COLUMNS,
        col(Export.broker_id),
        col(Export.updated_at),
        col(BrokerSubmission.id).label("submission_id"),
        *(col(each) for each in (BrokerSubmission.summary_due_at, BrokerSubmission.summary_overdue_at)),
    )
    rows = session.execute(
        select_marked(account_id, cause, *columns, acknowledged=acknowledged)
        .join(BrokerSubmission, HANDOFF)
        .join(PlanSnapshot, col(PlanSnapshot.id) == col(Export.plan_id))
        .order_by(col(Export.id))
        .limit(limit)
    ).all()
    if not rows:
        return []
    describe = _describe_summaries if cause is Cause.SUMMARY else _describe_differences
    seen, found = load_acknowledged(session, rows), describe(session, rows)
    return [
        InboxItem(
            **describe_export(row),
            **found[row.submission_id],
            cause=cause,
            partner_id=row.broker_id,
            acknowledged=seen.get(row.export_id),
        )
        for row in rows
    ]


def _describe_differences(session: Session, rows: Sequence[Row[Any]]) -> dict[str, dict[str, Any]]:
    found = find_differences(session, [row.submission_id for row in rows])
    return {
        row.submission_id: {
            "reason": _DIFFER,
            "text": found[row.submission_id].text,
            "since": found[row.submission_id].since or row.updated_at,
        }
        for row in rows
    }


def _describe_summaries(session: Session, rows: Sequence[Row[Any]]) -> dict[str, dict[str, Any]]:
    """Return what customs says about a summary, else that it is late."""
    found = find_summary_troubles(session, [row.submission_id for row in rows])
    return {
        row.submission_id: {
            "reason": _LATE if trouble is None else _SUMMARY[trouble.word],
            "text": "" if trouble is None else trouble.text,
            "fields": [] if trouble is None else trouble.fields,
            "since": row.summary_overdue_at or row.updated_at if trouble is None else trouble.since,
            "deadline_at": None if row.summary_overdue_at is None else row.summary_due_at,
        }
        for row in rows
        for trouble in (found.get(row.submission_id),)
    }
