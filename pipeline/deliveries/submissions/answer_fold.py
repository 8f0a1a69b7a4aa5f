"""Writes one answer and what all answers to its handoff say together: the entries, and the status of the handoff."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core.db import statement_now, table
from pipeline.deliveries.entries import entries
from pipeline.deliveries.entries.entries_change import EntriesChange
from pipeline.deliveries.entries.facets import EntriesStatus, fold_entries, summarize_entries
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.submissions import submissions, summaries
from pipeline.deliveries.submissions.waits import AHEAD
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState, SubmissionState

_INSERT_ANSWER: Final = {
    dialect: each.on_conflict_do_nothing().returning(table(Acknowledgement).c.id)
    for dialect, each in (
        ("postgresql", postgresql.insert(table(Acknowledgement))),
        ("sqlite", sqlite.insert(table(Acknowledgement))),
    )
}


@dataclass(frozen=True)
class AnsweredHandoff:
    """A handoff before an answer; the caller has locked its export."""

    submission_id: str
    export_id: str
    partner_id: str
    purged_at: datetime | None
    state: SubmissionState
    now: datetime
    last_at: datetime | None  # when the newest answer arrived
    withdrawing: bool  # a person requested the withdrawal of the export
    superseded: bool
    test: bool
    ahead: timedelta  # of the account's test clock
    account_id: str
    summary_due_at: datetime | None
    summary_late: bool

    @property
    def arrival(self) -> datetime:
        """Now, but later than each earlier answer: answers without a time of their own count as they arrive."""
        return self.now if self.last_at is None else max(self.now, self.last_at + timedelta(microseconds=1))


@dataclass(frozen=True)
class FoldedAnswer:
    """What an answer changed: the entries, the status that they give, and the facts for its event."""

    change: EntriesChange
    after: EntriesStatus
    fact: dict[str, Any]


def find_handoff(session: Session, submission_id: str) -> AnsweredHandoff:
    """Return the handoff before an answer."""
    last = select(func.max(table(Acknowledgement).c.received_at))
    row = session.execute(
        select(
            col(BrokerSubmission.export_id),
            col(BrokerSubmission.partner_id),
            col(Export.purged_at),
            col(BrokerSubmission.state),
            statement_now(),
            last.where(table(Acknowledgement).c.submission_id == submission_id).scalar_subquery(),
            col(Export.withdrawal_seq),
            col(Export.state),
            col(Export.test),
            AHEAD,
            *(col(each) for each in (Export.account_id, BrokerSubmission.summary_due_at)),
            col(BrokerSubmission.summary_overdue_at).is_not(None),
        )
        .join_from(BrokerSubmission, Export, col(Export.id) == col(BrokerSubmission.export_id))
        .where(col(BrokerSubmission.id) == submission_id)
    ).one()
    export_id, partner_id, purged_at, state, now, last_at, withdrawal_seq, export_state, test, ahead, *summary = row
    return AnsweredHandoff(
        submission_id,
        export_id,
        partner_id,
        purged_at,
        SubmissionState(state),
        now,
        last_at,
        withdrawing=withdrawal_seq is not None,
        superseded=export_state == ExportState.SUPERSEDED.value,
        test=test,
        ahead=timedelta(seconds=ahead),
        account_id=summary[0],
        summary_due_at=summary[1],
        summary_late=summary[2],
    )


def write_answer(
    session: Session, settings: Settings, handoff: AnsweredHandoff, row: Mapping[str, Any], *, carried: bool = False
) -> FoldedAnswer | None:
    """Write an answer, the entries and the status; return what changed, None if the answer was recorded before.

    A `carried` answer came to the handoff of an earlier revision. It does not prove that the customs broker has this one.
    """
    if session.execute(_INSERT_ANSWER[session.get_bind().dialect.name], row).first() is None:
        return None
    stored = entries.read_stored(session, handoff.export_id, handoff.submission_id)
    answers = entries.read_answers(session, handoff.submission_id)
    earlier = fold_entries(stored, (each for each in answers if each.id != row["id"]))
    change = EntriesChange(earlier, fold_entries(stored, answers))
    entries.write_changed(session, handoff.submission_id, change.after, stored)
    due = (
        {} if handoff.superseded else summaries.find_new_due(session, handoff.export_id, change, handoff.summary_due_at)
    )
    late = {"late_before": handoff.summary_late, "late": handoff.summary_late and not due}
    entries.mark_troubles(session, handoff.export_id, change, superseded=handoff.superseded, **late)
    summaries.mark_sender(session, handoff.account_id, handoff.partner_id, change)
    before, after = (
        summarize_entries(each.values(), withdrawing=handoff.withdrawing) for each in (change.before, change.after)
    )
    if carried and handoff.state in submissions.UNDELIVERED:
        fact = {"moved": False, "deadlineReset": False, "submissionStatus": handoff.state.value}
    else:
        fact = submissions.settle_status(
            session, settings, handoff.submission_id, handoff.state, before, after, due=due
        )
    return FoldedAnswer(change, after, fact)
