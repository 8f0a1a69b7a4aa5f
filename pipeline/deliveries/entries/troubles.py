"""What stands against the entries of handoffs, in the customs broker's own word, with the answer that says it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from pipeline.deliveries.entries.facets import SUMMARY_TROUBLES, AnswerStatus, Headline
from pipeline.deliveries.models import Acknowledgement, CustomsEntry
from pipeline.exports.states import SubmissionState

#: The headlines that give a submission a status of trouble, the worst first.
_HEADLINES: Final[Mapping[SubmissionState, Sequence[Headline]]] = {
    SubmissionState.REJECTED: (Headline.REJECTED, Headline.WITHDRAWN),
    SubmissionState.HELD: (Headline.REFUSED, Headline.HELD, Headline.CANCELLED),
    SubmissionState.QUERY: (Headline.QUERY,),
}

#: The most entries that a text names.
_MOST_NAMED: Final = 20

_HELD_BY_RELEASE: Final = (AnswerStatus.NOT_RELEASED, AnswerStatus.DETAINED)


@dataclass(frozen=True)
class Trouble:
    """The worst that stands against entries of a handoff: the word, its entries, and the newest answer that says it."""

    word: AnswerStatus
    packages: Sequence[str]
    message: str
    fields: list[dict[str, Any]]
    since: datetime

    @property
    def text(self) -> str:
        """The entries, the word and what the broker said, such as `CP-000002: refused. The label is wrong`."""
        named = f"{', '.join(self.packages[:_MOST_NAMED])}: {self.word.replace('_', ' ')}"
        return f"{named}. {self.message}" if self.message else named


#: How bad an entry is, 0 for the worst, and the word about it.
_Ranked = tuple[int, AnswerStatus]


def find_troubles(session: Session, status: SubmissionState, submission_ids: Sequence[str]) -> dict[str, Trouble]:
    """Return what gives each of these submissions its status of trouble.

    After a withdrawal, that is each filed entry. A later answer may have just ended it: then the submission is left out.
    """
    return _find_worst(session, submission_ids, lambda entry: _find_word(status, entry))


def find_summary_troubles(session: Session, submission_ids: Sequence[str]) -> dict[str, Trouble]:
    """Return what stands against the entry summaries of each of these submissions that has such."""
    return _find_worst(
        session,
        submission_ids,
        lambda entry: (0, AnswerStatus(entry.summary)) if entry.summary in SUMMARY_TROUBLES else None,
    )


def _find_worst(
    session: Session, submission_ids: Sequence[str], find_word: Callable[[CustomsEntry], _Ranked | None]
) -> dict[str, Trouble]:
    query = select(CustomsEntry).where(col(CustomsEntry.submission_id).in_(submission_ids))
    found: dict[str, list[tuple[_Ranked, CustomsEntry]]] = {}
    for entry in session.scalars(query.order_by(col(CustomsEntry.submission_id), col(CustomsEntry.package_number))):
        ranked = find_word(entry)
        if ranked is not None:
            found.setdefault(entry.submission_id, []).append((ranked, entry))
    ranks = {status: rank for rank, status in enumerate(AnswerStatus)}
    chosen: dict[str, tuple[AnswerStatus, list[CustomsEntry]]] = {}
    for handoff, each in found.items():
        _, word = min((ranked for ranked, _ in each), key=lambda ranked: (ranked[0], -ranks[ranked[1]]))
        chosen[handoff] = word, [entry for ranked, entry in each if ranked[1] is word]
    return _find_answers(session, chosen)


def _find_word(status: SubmissionState, entry: CustomsEntry) -> _Ranked | None:
    """Return how bad the entry is, and the word of the answer; None if it does not give the status."""
    headline = Headline(entry.headline)
    if status is SubmissionState.NOT_WITHDRAWN:
        return None if entry.release in (None, AnswerStatus.CANCELLED) else (0, AnswerStatus(str(entry.release)))
    headlines = _HEADLINES[status]
    if headline not in headlines:
        return None
    if headline is Headline.HELD and entry.release not in _HELD_BY_RELEASE:
        return headlines.index(headline), AnswerStatus.HELD
    by_broker = headline in (Headline.REJECTED, Headline.WITHDRAWN, Headline.QUERY)
    return headlines.index(headline), AnswerStatus(str(entry.broker if by_broker else entry.release))


def _find_answers(
    session: Session, chosen: Mapping[str, tuple[AnswerStatus, Sequence[CustomsEntry]]]
) -> dict[str, Trouble]:
    """Return each trouble with the newest answer that says its word and is not corrected."""
    if not chosen:
        return {}
    later = aliased(Acknowledgement)
    is_corrected = exists().where(
        col(later.submission_id) == col(Acknowledgement.submission_id), col(later.corrects) == col(Acknowledgement.id)
    )
    query = select(Acknowledgement).where(
        col(Acknowledgement.submission_id).in_(chosen),
        col(Acknowledgement.status).in_({word.value for word, _ in chosen.values()}),
        ~is_corrected,
    )
    said: dict[str, Acknowledgement] = {}
    for answer in sorted(session.scalars(query), key=lambda each: (each.at or each.received_at, each.id)):
        word, entries = chosen[answer.submission_id]
        if answer.status == word and any(_says(answer, entry) for entry in entries):
            said[answer.submission_id] = answer
    return {
        handoff: Trouble(
            word,
            [each.package_number for each in entries],
            said[handoff].message or "",
            said[handoff].fields,
            said[handoff].received_at,
        )
        for handoff, (word, entries) in chosen.items()
        if handoff in said
    }


def _says(answer: Acknowledgement, entry: CustomsEntry) -> bool:
    """Return whether the answer is about the entry; one about a hold that is removed says nothing any more."""
    about = answer.packages is None or entry.package_number in answer.packages
    return about and (answer.status != AnswerStatus.HELD or (answer.hold or "") in entry.holds)
