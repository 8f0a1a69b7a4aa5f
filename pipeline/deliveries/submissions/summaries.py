"""When the summary of a released entry is due, and the alarm if it is not filed by then.

Many customs brokers never say what becomes of a summary. For them the day is only shown: an alarm comes if the customs
broker has said something about the summary of any entry before.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Row, select, update
from sqlmodel import Session, col

from pipeline.accounts.models import Partner
from pipeline.core.clock import format_utc
from pipeline.core.db import database_now
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules
from pipeline.deliveries.entries.entries_change import EntriesChange
from pipeline.deliveries.entries.facets import EntryFacets
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import OverdueStatus
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.submissions.waits import AHEAD
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.step_context import parse_unit

ACTOR: Final = "deadlines"


def find_new_due(
    session: Session, export_id: str, change: EntriesChange, before: datetime | None
) -> dict[str, datetime | None]:
    """Return the columns of the submission if the next summary is due at another instant than `before`; else nothing.

    Entries whose release or summary did not change need no look into the plan.
    """
    waiting, earlier = _list_waiting(change.after), _list_waiting(change.before)
    if waiting == earlier:
        return {}
    due_at = _find_due(session, export_id, waiting) if waiting else None
    return {} if due_at == before else {"summary_due_at": due_at, "summary_overdue_at": None}


def describe_due(columns: Mapping[str, datetime | None]) -> dict[str, str | None]:
    """Return the fact for the event about these columns."""
    if not columns:
        return {}
    due_at = columns["summary_due_at"]
    return {"summaryDueAt": None if due_at is None else format_utc(due_at)}


def _list_waiting(entries: Mapping[str, EntryFacets]) -> dict[str, datetime]:
    """Return when each entry was released whose summary is not filed."""
    return {number: at for number, each in entries.items() if (at := each.summary_due_after) is not None}


def _find_due(session: Session, export_id: str, waiting: Mapping[str, datetime]) -> datetime | None:
    """Return the end of the last day for the first of these summaries, None if the rules give no day for their types."""
    rule, days = filing_rules().summary_time, filing_rules().statement_days
    zone = ZoneInfo(entry_rules().clock.zone)
    query = select(col(ExportUnit.package_number), col(ExportUnit.document)).where(
        col(ExportUnit.export_id) == export_id, col(ExportUnit.package_number).in_(waiting)
    )
    last_days: list[date] = []
    for row in session.execute(query):
        released_on = waiting[row.package_number].astimezone(zone).date()
        if parse_unit(row).entry.type in rule.entry_types and rule.in_force(released_on):
            last_days += filter(None, [days.add_working_days(released_on, rule.working_days)])
    if not last_days or min(last_days) == date.max:
        return None
    return datetime.combine(min(last_days) + timedelta(days=1), time(), zone).astimezone(UTC)


def mark_sender(session: Session, account_id: str, partner_id: str, change: EntriesChange) -> None:
    """Write that the customs broker says what becomes of summaries, if an answer is the first that does."""
    if all(each.summary in (None, change.before[number].summary) for number, each in change.after.items()):
        return
    session.execute(
        update(Partner)
        .where(
            col(Partner.account_id) == account_id, col(Partner.id) == partner_id, col(Partner.says_summaries).is_(None)
        )
        .values(says_summaries=True)
    )


def notify_late(session: Session, submission_id: str, export_id: str) -> Sequence[DeliveryStream]:
    """Notify the operators of a summary that is not filed in time; return the streams to publish.

    If the customs broker never says what becomes of a summary, the day is over without an alarm.
    """
    events.lock_export(session, export_id)
    found = _find_late(session, submission_id)
    if found is None:
        return ()
    of_submission = update(BrokerSubmission).where(col(BrokerSubmission.id) == submission_id)
    if not found.says_summaries:
        session.execute(of_submission.values(summary_due_at=None))
        return ()
    session.execute(of_submission.values(summary_overdue_at=database_now(AHEAD)))
    session.execute(update(Export).where(col(Export.id) == export_id).values(summary_trouble=True))
    late = OverdueStatus(
        submission_id,
        export_id,
        found.partner_id,
        found.channel,
        found.state,
        found.summary_due_at,
        arrives_at=None,
        has_arrived=False,
        summary=True,
    )
    fact = {
        "submissionId": submission_id,
        "partnerId": late.partner_id,
        "channel": late.channel,
        "submissionStatus": late.status,
        "deadlineAt": format_utc(late.deadline_at),
    }
    enqueued = operator_messages.enqueue_handoff_overdue(session, late)
    events.append(session, export_id, ACTOR, [NewEvent(EventType.SUMMARY_OVERDUE, {**fact, **enqueued.fact})])
    return enqueued.streams


def _find_late(session: Session, submission_id: str) -> Row[Any] | None:
    """Return the submission if its summary is late now and nobody was notified; None after an answer in between."""
    return session.execute(
        select(
            *(
                col(each)
                for each in (
                    BrokerSubmission.partner_id,
                    BrokerSubmission.channel,
                    BrokerSubmission.state,
                    BrokerSubmission.summary_due_at,
                    Partner.says_summaries,
                )
            )
        )
        .join(
            Partner,
            (col(Partner.account_id) == col(BrokerSubmission.account_id))
            & (col(Partner.id) == col(BrokerSubmission.partner_id)),
        )
        .where(
            col(BrokerSubmission.id) == submission_id,
            col(BrokerSubmission.summary_due_at) <= database_now(AHEAD),
            col(BrokerSubmission.summary_overdue_at).is_(None),
        )
    ).first()
