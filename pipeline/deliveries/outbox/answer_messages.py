"""Messages about an answer of the customs broker: what needs a person, which entries moved, and that none is open."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import select
from sqlmodel import Session, col

from pipeline.deliveries.entries.entries_change import EntriesChange
from pipeline.deliveries.entries.facets import Headline
from pipeline.deliveries.entries.headline_text import describe_headlines
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import OPERATOR, Enqueued, NewNotification
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_operator import EntryProgress, EntryProgressed, ExportSettled, HandoffAnswered
from pipeline.exports.models import Export
from pipeline.exports.states import Outcome

#: The most open holds of an entry that a message lists.
MAX_HOLDS: Final = 20


def enqueue_answer(
    session: Session,
    submission_id: str,
    answer: AcknowledgementBody,
    arrived_at: datetime,
    change: EntriesChange,
    outcome: Outcome,
    *,
    needs_look: bool,
) -> Enqueued:
    """Enqueue the messages about a recorded answer; none if it moves no entry and needs no person.

    The next sweep publishes the streams: answers come by several interfaces, and none of them waits for the message
    broker.
    """
    if not (needs_look or change.progressed or change.settles):
        return Enqueued()
    export, submission = session.execute(
        select(Export, BrokerSubmission)
        .join(BrokerSubmission, col(BrokerSubmission.export_id) == col(Export.id))
        .where(col(BrokerSubmission.id) == submission_id)
        .execution_options(populate_existing=True)
    ).one()
    facts = {
        **outbox.describe_export(export),
        "outcome": outcome,
        "submission_id": submission_id,
        "partner_id": submission.partner_id,
        "answer_id": answer.id,
        "inspect": f"/api/exports/{export.id}",
    }
    subject = f"{submission_id}/{answer.id}"
    watchers = outbox.find_watchers(session, export)
    new = []
    if needs_look:
        answered = _build_answered(facts, submission, answer)
        new.append(NewNotification(OPERATOR, MessageType.HANDOFF_ANSWERED, subject, answered))
    for message_type, message in _list_progress(facts, answer, arrived_at, change):
        new += [NewNotification(name, message_type, subject, message) for name, found in watchers.items() if found]
    return outbox.enqueue(session, export.account_id, new, watchers) if new else Enqueued()


def _build_answered(
    facts: dict[str, Any], submission: BrokerSubmission, answer: AcknowledgementBody
) -> HandoffAnswered:
    return HandoffAnswered(
        **facts,
        channel=submission.channel,
        status=cast(Any, answer.status if answer.status in ("rejected", "query") else "held"),
        answer_status=answer.status,
        customs_package_numbers=answer.customs_package_numbers,
        submission_status=submission.state,
        reference=answer.reference,
        message=answer.message,
        fields=answer.fields,
    )


def _list_progress(
    facts: dict[str, Any], answer: AcknowledgementBody, arrived_at: datetime, change: EntriesChange
) -> Iterator[tuple[MessageType, EntryProgressed | ExportSettled]]:
    known: dict[str, Any] = {
        **facts,
        "at": answer.at or arrived_at,
        **count_headlines(each.headline for each in change.after.values()),
    }
    if change.progressed:
        moved = [
            EntryProgress(
                customs_package_number=number,
                headline=change.after[number].headline,
                before=change.before[number].headline,
                entry_number=change.after[number].entry_number,
                holds=sorted(change.after[number].holds)[:MAX_HOLDS],
            )
            for number in change.progressed
        ]
        yield (
            MessageType.ENTRY_PROGRESSED,
            EntryProgressed(**known, answer_status=answer.status, reopened=change.reopens, entries=moved),
        )
    if change.settles:
        yield MessageType.EXPORT_SETTLED, ExportSettled(**known)


def count_headlines(headlines: Iterable[Headline]) -> dict[str, Any]:
    """Return how many entries have each headline, and the same in words, as messages say it."""
    counted = Counter(each.value for each in headlines)
    found = dict(sorted(counted.items()))
    return {"headlines": found, "summary": describe_headlines(counted) or _describe_all(*counted.popitem())}


def _describe_all(headline: str, count: int) -> str:
    return f"{count} of {count} {headline.replace('_', ' ')}"
