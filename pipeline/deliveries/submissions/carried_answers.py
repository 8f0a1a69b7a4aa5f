"""Answers to the handoff of an earlier revision, as they count in a newer one whose units did not change.

At the handoff they are copied once; one that comes later is copied when it comes. A copy is named by the revision that
it came to, as in `1~R-7`: no customs broker can send such an id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, insert, select
from sqlmodel import Session

from config.settings import Settings
from pipeline.core.clock import format_utc
from pipeline.core.db import table
from pipeline.deliveries.entries import entries
from pipeline.deliveries.entries.entries_change import EntriesChange
from pipeline.deliveries.entries.facets import NEEDS_LOOK, AnswerStatus, EntriesStatus, fold_entries, summarize_entries
from pipeline.deliveries.entries.revisions import EarlierEntry, read_same
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.outbox import answer_messages
from pipeline.deliveries.outcomes import read_outcome
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import submissions
from pipeline.deliveries.submissions.answer_fold import AnsweredHandoff, find_handoff, write_answer
from pipeline.deliveries.submissions.summaries import find_new_due
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, ExportState, SubmissionState

_answers, _exports, _submissions = (table(model).c for model in (Acknowledgement, Export, BrokerSubmission))

#: It stands between the revision and the id in the id of a copied answer.
COPIED: Final = "~"

#: The members of the event of a copied answer, by column. What the customs broker points at is in the earlier plan.
_MEMBERS: Final[Mapping[str, str]] = {
    "id": "id",
    "status": "status",
    "reference": "reference",
    "entry_number": "entryNumber",
    "message": "message",
    "packages": "customsPackageNumbers",
    "hold": "hold",
    "at": "at",
    "effective_at": "effectiveAt",
    "corrects": "corrects",
    "received_at": "receivedAt",
    "assessed": "assessed",
    "comparison": "comparison",
}


@dataclass(frozen=True)
class LaterRevisions:
    """What the revisions after a superseded one are to its entries."""

    marked: bool  # a person must look at the entries that do not go on
    left: Sequence[str]  # the customs packages whose entries do not go on
    concerns: Sequence[str]  # those of them that the answer is about
    reassigned: bool  # another customs broker has the newest revision
    prepares: bool  # the next handoff is still to come, and will say what the answer says


def carry_answers(
    session: Session, submission_id: str, export_id: str, status: SubmissionState, kept: Sequence[EarlierEntry]
) -> list[NewEvent]:
    """Copy the answers about the entries that go on into the new handoff of the export, and return the events.

    The caller has locked the earlier exports, and has written the handoff.
    """
    if not kept:
        return []
    source, revision = kept[0].submission_id, kept[0].revision
    numbers = [each.customs_package_number for each in kept]
    query = select(table(Acknowledgement)).where(_answers.submission_id == source)
    found = session.execute(query.order_by(_answers.received_at, _answers.id)).mappings().all()
    copied = [
        row
        for each in found
        if (row := _copy_answer(dict(each), submission_id, revision, numbers, numbers)) is not None
    ]
    if not copied:
        return []
    session.execute(insert(table(Acknowledgement)), copied)
    stored = entries.read_stored(session, export_id, submission_id)
    folded = fold_entries(stored, entries.read_answers(session, submission_id))
    entries.write_changed(session, submission_id, folded, stored)
    entries.mark_troubles(session, export_id, EntriesChange(fold_entries(stored, ()), folded))
    unmoved = {"moved": False, "deadlineReset": False, "submissionStatus": status.value}
    return [_build_event(row, unmoved) for row in copied]


def settle_delivered(session: Session, settings: Settings, submission_id: str) -> dict[str, Any]:
    """Write the status of a handoff that was just delivered, by the answers that were copied; return the facts.

    A deadline goes on: it counts from the newest of these answers.
    """
    handoff = find_handoff(session, submission_id)
    packages = entries.read_package_numbers(session, handoff.export_id)
    folded = fold_entries(packages, entries.read_answers(session, submission_id))
    after = summarize_entries(folded.values(), withdrawing=handoff.withdrawing)
    before = EntriesStatus(None, SubmissionState.DELIVERED)
    due = find_new_due(session, handoff.export_id, EntriesChange(fold_entries(packages, ()), folded), None)
    elapsed = 0.0 if handoff.last_at is None else (handoff.now - handoff.last_at).total_seconds()
    return submissions.settle_status(
        session, settings, submission_id, handoff.state, before, after, elapsed=max(elapsed, 0.0), due=due
    )


def relay_answer(
    session: Session,
    settings: Settings,
    earlier: AnsweredHandoff,
    answer: AcknowledgementBody,
    row: Mapping[str, Any],
    actor: str,
) -> LaterRevisions:
    """Copy an answer to a superseded handoff into the later ones, for the units that did not change since.

    Each handoff that kept an entry says what is known of it, so that the next correction says it too. Only the newest one
    notifies people. Return what the later revisions are. The caller has locked the earlier export.
    """
    old = session.get_one(Export, earlier.export_id)
    later = _find_later(session, old)
    packages = entries.read_package_numbers(session, earlier.export_id)
    about, left = row["packages"] or packages, packages
    handoffs = [each for each in later if each.submission_id is not None]
    for each in handoffs:
        # The handoff is committed, so its transaction does not wait for the lock of an earlier export.
        events.lock_export(session, each.id)
        target = find_handoff(session, each.submission_id)
        if target.purged_at is not None:
            continue
        since = read_same(session, each.id)
        kept = [number for number, same in since.items() if same is not None and same <= old.revision]
        left = [number for number in packages if number not in kept]
        copied = _copy_answer(row, target.submission_id, old.revision, kept, about)
        if copied is not None:
            notifies = each is handoffs[-1]
            for event in _write_copy(session, settings, target, answer, copied, notifies=notifies):
                events.append(session, each.id, actor, [event])
    newest = later[-1]
    return LaterRevisions(
        marked=bool(old.earlier_entry),
        left=left,
        concerns=[number for number in left if number in about],
        reassigned=newest.broker_id != earlier.partner_id,
        prepares=not handoffs and newest.state in {*ACTIVE_STATES, ExportState.FAILED.value},
    )


def _find_later(session: Session, old: Export) -> Sequence[Row[Any]]:
    """Return the later revisions of an export in order, each with its handoff if it has one."""
    return session.execute(
        select(_exports.id, _exports.state, _exports.broker_id, _submissions.id.label("submission_id"))
        .join_from(table(Export), table(BrokerSubmission), _submissions.export_id == _exports.id, isouter=True)
        .where(
            _exports.account_id == old.account_id,
            _exports.batch_id == old.batch_id,
            _exports.test == old.test,
            _exports.revision > old.revision,
        )
        .order_by(_exports.revision)
    ).all()


def _write_copy(
    session: Session,
    settings: Settings,
    target: AnsweredHandoff,
    answer: AcknowledgementBody,
    copied: Mapping[str, Any],
    *,
    notifies: bool,
) -> Iterator[NewEvent]:
    written = write_answer(session, settings, target, copied, carried=True)
    if written is None:
        return
    outcome = read_outcome(session, target.export_id)
    fact = written.fact | {"outcome": outcome.value}
    if not notifies:
        yield _build_event(copied, fact)
        return
    body = answer.model_copy(
        update={"customs_package_numbers": copied["packages"], "fields": []}
        | {name: copied[name] for name in ("id", "status", "corrects")}
    )
    fact |= answer_messages.enqueue_answer(
        session,
        target.submission_id,
        body,
        copied["received_at"],
        written.change,
        outcome,
        needs_look=copied["status"] in NEEDS_LOOK,
    ).fact
    yield _build_event(copied, fact)


def _copy_answer(
    row: Mapping[str, Any], submission_id: str, revision: int, kept: Sequence[str], about: Sequence[str]
) -> dict[str, Any] | None:
    """Return the copy of an answer for the packages that are `kept`; None if it says nothing about one of them.

    `about` are the packages of an answer that names none.
    """
    named = {*(row["packages"] or about)}
    packages = [number for number in kept if number in named]
    says = packages and row["status"] != AnswerStatus.RECEIVED
    if not kept or not (says or row["corrects"]):
        return None
    name, comparison = _name_copy(row["id"], revision), row["comparison"]
    copied = dict(row) | {
        "submission_id": submission_id,
        "id": name,
        "corrects": None if row["corrects"] is None else _name_copy(row["corrects"], revision),
        "packages": packages,
        "fields": [],
        "raw": None,
        "in_reply_to": None,
        "attachments": None,
        "comparison": None if comparison is None else comparison | {"answerId": name},
    }
    if not says:
        # It only takes another answer back.
        copied |= {"status": AnswerStatus.REMARK.value, "packages": [*kept], "entry_number": None, "hold": None}
        copied |= {"assessed": None, "comparison": None}
    return copied


def _name_copy(answer_id: str, revision: int) -> str:
    return answer_id if COPIED in answer_id else f"{revision}{COPIED}{answer_id}"


def _build_event(row: Mapping[str, Any], fact: Mapping[str, Any]) -> NewEvent:
    said = {member: row[name] for name, member in _MEMBERS.items() if row[name] is not None}
    instants = {name: format_utc(said[name]) for name in ("at", "effectiveAt", "receivedAt") if name in said}
    data = {"submissionId": row["submission_id"]} | said | instants | dict(fact)
    return NewEvent(EventType.BROKER_ANSWER_CARRIED, data)
