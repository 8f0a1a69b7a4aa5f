"""The facets of an entry: a fold of the customs broker's answers in the order of their own times.

An entry is one customs package of one handoff. Customs speaks about several things at once, so each facet is folded
apart. The result depends on the set of answers, not on the order in which they arrive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.states import DescribedWord, SubmissionState


class Facet(StrEnum):
    """What an answer is about."""

    MESSAGE = "message"  # the handoff itself, not the goods
    BROKER = "broker"
    RELEASE = "release"
    HOLDS = "holds"
    BILL = "bill"
    SUMMARY = "summary"


class AnswerStatus(StrEnum):
    """The statuses that a customs broker may report. Their order ranks answers of the same time: the last one wins."""

    RECEIVED = "received"
    REMARK = "remark"
    ACCEPTED = "accepted"
    FILED = "filed"
    REPLACED = "replaced"
    CUSTOMS_ACCEPTED = "customs_accepted"
    ADMISSIBLE = "admissible"
    RELEASED = "released"
    BILL_MATCHED = "bill_matched"
    BILL_UNMATCHED = "bill_unmatched"
    SUMMARY_FILED = "summary_filed"
    SUMMARY_PAID = "summary_paid"
    SUMMARY_CORRECTED = "summary_corrected"
    SUMMARY_LIQUIDATED = "summary_liquidated"
    SUMMARY_DOCUMENTS_REQUESTED = "summary_documents_requested"
    SUMMARY_REJECTED = "summary_rejected"
    HOLD_REMOVED = "hold_removed"
    WITHDRAWN = "withdrawn"
    QUERY = "query"
    HELD = "held"
    NOT_RELEASED = "not_released"
    DETAINED = "detained"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    REFUSED = "refused"
    SEIZED = "seized"


class Headline(DescribedWord):
    """The one word about an entry, the worst first: among several entries, the first of these counts."""

    REJECTED = "rejected", "the customs broker names the mistakes"
    REFUSED = "refused", "customs refused or seized the goods"
    HELD = "held", "a hold is open, or customs does not release the goods"
    CANCELLED = "cancelled", "the entry is cancelled"
    QUERY = "query", "the customs broker has questions"
    WITHDRAWN = "withdrawn", "the customs broker files no entry"
    AWAITING = "awaiting", "the customs broker has not reviewed it"
    ACCEPTED = "accepted", "the customs broker accepts it"
    FILED = "filed", "the entry is filed"
    CUSTOMS_ACCEPTED = "customs_accepted", "customs accepted the entry"
    ADMISSIBLE = "admissible", "no agency objects"
    RELEASED = "released", "customs released the goods, and no hold is open"


#: What each status says, by facet.
MEANINGS: Final[Mapping[Facet, Mapping[AnswerStatus, str]]] = {
    Facet.MESSAGE: {
        AnswerStatus.RECEIVED: "you can read the handoff",
        AnswerStatus.REMARK: "`message` says something that needs no answer",
    },
    Facet.BROKER: {
        AnswerStatus.ACCEPTED: "you reviewed it and accept it",
        AnswerStatus.REJECTED: "you reviewed it; `fields` and `message` name the mistakes",
        AnswerStatus.QUERY: "you reviewed it and ask",
        AnswerStatus.WITHDRAWN: "you file no entry for it, as its withdrawal asks",
    },
    Facet.RELEASE: {
        AnswerStatus.FILED: "the entry is filed; after `released`, the entry summary is",
        AnswerStatus.REPLACED: "another entry number replaces this one",
        AnswerStatus.CUSTOMS_ACCEPTED: "customs accepted the entry",
        AnswerStatus.ADMISSIBLE: "no agency objects",
        AnswerStatus.RELEASED: "customs released the goods",
        AnswerStatus.NOT_RELEASED: "customs does not release the goods",
        AnswerStatus.DETAINED: "the goods are detained",
        AnswerStatus.CANCELLED: "the entry is cancelled",
        AnswerStatus.REFUSED: "customs refused the goods",
        AnswerStatus.SEIZED: "customs seized the goods",
    },
    Facet.HOLDS: {
        AnswerStatus.HELD: "the goods are held; `hold` says by whom",
        AnswerStatus.HOLD_REMOVED: "the `hold` is removed; without `hold`, all are",
    },
    Facet.BILL: {
        AnswerStatus.BILL_MATCHED: "the entry matches a bill",
        AnswerStatus.BILL_UNMATCHED: "no bill matches the entry",
    },
    Facet.SUMMARY: {
        AnswerStatus.SUMMARY_FILED: "the entry summary is filed",
        AnswerStatus.SUMMARY_REJECTED: "the entry summary is rejected",
        AnswerStatus.SUMMARY_DOCUMENTS_REQUESTED: "customs requests documents",
        AnswerStatus.SUMMARY_PAID: "duty and fees are paid",
        AnswerStatus.SUMMARY_CORRECTED: "the entry summary is corrected",
        AnswerStatus.SUMMARY_LIQUIDATED: "the entry is liquidated",
    },
}

#: The facet of each status.
FACETS: Final = {status: facet for facet, statuses in MEANINGS.items() for status in statuses}

#: The values of the summary's facet after which a person must act. They do not change the headline.
SUMMARY_TROUBLES: Final = frozenset({AnswerStatus.SUMMARY_DOCUMENTS_REQUESTED, AnswerStatus.SUMMARY_REJECTED})

#: The statuses that notify the operators: a person must look.
NEEDS_LOOK: Final = frozenset(
    {
        *list(AnswerStatus)[list(AnswerStatus).index(AnswerStatus.QUERY) :],
        AnswerStatus.BILL_UNMATCHED,
        *SUMMARY_TROUBLES,
    }
)

#: The good path of the release facet. An earlier status that comes after a later one changes nothing.
_PROGRESS: Final = (
    AnswerStatus.FILED,
    AnswerStatus.REPLACED,
    AnswerStatus.CUSTOMS_ACCEPTED,
    AnswerStatus.ADMISSIBLE,
    AnswerStatus.RELEASED,
)

#: The headline of each value of the release facet.
_RELEASE_HEADLINES: Final[Mapping[AnswerStatus, Headline]] = {
    AnswerStatus.FILED: Headline.FILED,
    AnswerStatus.REPLACED: Headline.FILED,
    AnswerStatus.CUSTOMS_ACCEPTED: Headline.CUSTOMS_ACCEPTED,
    AnswerStatus.ADMISSIBLE: Headline.ADMISSIBLE,
    AnswerStatus.RELEASED: Headline.RELEASED,
    AnswerStatus.NOT_RELEASED: Headline.HELD,
    AnswerStatus.DETAINED: Headline.HELD,
    AnswerStatus.CANCELLED: Headline.CANCELLED,
    AnswerStatus.REFUSED: Headline.REFUSED,
    AnswerStatus.SEIZED: Headline.REFUSED,
}

#: The status of a submission by the worst headline of its entries. Without an answer its transport decides.
SUBMISSION_STATES: Final[Mapping[Headline, SubmissionState]] = {
    Headline.REJECTED: SubmissionState.REJECTED,
    Headline.REFUSED: SubmissionState.HELD,
    Headline.HELD: SubmissionState.HELD,
    Headline.CANCELLED: SubmissionState.HELD,
    Headline.QUERY: SubmissionState.QUERY,
    Headline.WITHDRAWN: SubmissionState.REJECTED,  # nobody requested it
    Headline.ACCEPTED: SubmissionState.ACCEPTED,
    Headline.FILED: SubmissionState.FILED,
    Headline.CUSTOMS_ACCEPTED: SubmissionState.FILED,
    Headline.ADMISSIBLE: SubmissionState.FILED,
    Headline.RELEASED: SubmissionState.RELEASED,
}

#: The place of each headline; the worst is first.
SEVERITY: Final[Mapping[str, int]] = {headline: place for place, headline in enumerate(Headline)}

#: The headlines after which nothing is released any more.
_ENDED: Final = frozenset({Headline.CANCELLED, Headline.REFUSED, Headline.WITHDRAWN})

#: The headlines after which customs has not released the goods yet, and nothing stands against it.
AT_CUSTOMS: Final = frozenset(each for each, state in SUBMISSION_STATES.items() if state is SubmissionState.FILED)

#: The headlines after which a person must act first, so that no further status is expected.
IN_TROUBLE: Final = frozenset(list(Headline)[: SEVERITY[Headline.AWAITING]])


@dataclass(frozen=True)
class Answer:
    """What the fold needs of an answer. Without `packages` it is about each entry of the handoff."""

    id: str
    status: AnswerStatus
    at: datetime  # when the customs broker decided; if it does not say, when the answer arrived
    packages: Sequence[str] = ()
    hold: str | None = None
    entry_number: str | None = None
    corrects: str | None = None
    assessment: Assessment | None = None

    @property
    def place(self) -> tuple[datetime, int, str]:
        """The place of the answer among others: by time; at the same time, the worse is later."""
        return self.at, _RANKS[self.status], self.id


_RANKS: Final = {status: rank for rank, status in enumerate(AnswerStatus)}


@dataclass
class EntryFacets:
    """The facets of one entry. `holds` are the open ones; an unnamed hold is the empty text."""

    received: bool = False
    broker: AnswerStatus | None = None
    release: AnswerStatus | None = None
    holds: set[str] = field(default_factory=set)
    bill: AnswerStatus | None = None
    summary: AnswerStatus | None = None
    entry_number: str | None = None
    assessment: Assessment | None = None  # of the newest answer with amounts
    released_at: datetime | None = None  # since when customs has released the goods
    liquidated_at: datetime | None = None

    @property
    def headline(self) -> Headline:
        """The one word about the entry."""
        release = None if self.release is None else _RELEASE_HEADLINES[self.release]
        if self.broker is AnswerStatus.REJECTED:
            return Headline.REJECTED
        if release is Headline.REFUSED:
            return release
        if self.is_withdrawn:
            return Headline.WITHDRAWN
        if self.holds or release is Headline.HELD:
            return Headline.HELD
        if release is Headline.CANCELLED:
            return release
        if self.broker is AnswerStatus.QUERY:
            return Headline.QUERY
        if release is not None:
            return release
        return Headline.AWAITING if self.broker is None else Headline.ACCEPTED

    @property
    def is_withdrawn(self) -> bool:
        """Whether the customs broker says that it files no entry, and none is filed."""
        return self.broker is AnswerStatus.WITHDRAWN and not self.is_filed

    @property
    def is_filed(self) -> bool:
        """Whether an entry is filed, and not cancelled."""
        return self.release not in (None, AnswerStatus.CANCELLED)

    @property
    def expected_after(self) -> Headline:
        """The headline after which the next one is due. Until a bill matches, that of an entry that is not filed.

        Customs does not release goods without a bill, so a person must hear of it before the truck is at the port.
        """
        waits_for_bill = self.bill is AnswerStatus.BILL_UNMATCHED and self.headline in AT_CUSTOMS
        return Headline.ACCEPTED if waits_for_bill else self.headline

    @property
    def goes_on(self) -> bool:
        """Whether a newer revision with the same unit keeps the entry: it is filed, or nothing speaks against that."""
        return self.is_filed or (self.release is None and self.broker in (None, AnswerStatus.ACCEPTED))

    @property
    def summary_due_after(self) -> datetime | None:
        """The instant of the release after which the summary is due; None before it, or once the summary is filed."""
        awaits = self.summary in (None, AnswerStatus.SUMMARY_REJECTED)
        return self.released_at if awaits and self.release is AnswerStatus.RELEASED else None

    @property
    def is_open(self) -> bool:
        """Whether more must follow: it is not withdrawn, cancelled, refused or seized, nor released and liquidated."""
        is_liquidated = self.summary is AnswerStatus.SUMMARY_LIQUIDATED
        return not (self.headline in _ENDED or (self.headline is Headline.RELEASED and is_liquidated))

    def _add(self, answer: Answer) -> None:
        status = answer.status
        self.entry_number = answer.entry_number or self.entry_number
        self.assessment = answer.assessment or self.assessment
        match FACETS[status]:
            case Facet.MESSAGE:
                self.received = True
            case Facet.BROKER:
                self.broker = status
            case Facet.RELEASE:
                self._add_release(answer)
            case Facet.HOLDS if status is AnswerStatus.HELD:
                self.holds.add(answer.hold or "")
            case Facet.HOLDS:
                self.holds = {each for each in self.holds if answer.hold and not _is_part(each, answer.hold)}
            case Facet.BILL:
                self.bill = status
            case Facet.SUMMARY:
                self.summary = status
                if status is AnswerStatus.SUMMARY_LIQUIDATED:
                    self.liquidated_at = answer.at

    def _add_release(self, answer: Answer) -> None:
        status = answer.status
        if status is AnswerStatus.RELEASED and self.release is not AnswerStatus.RELEASED:
            self.released_at = answer.at
        if status in _PROGRESS:
            self.broker = AnswerStatus.ACCEPTED  # a broker that files has accepted
        if status is AnswerStatus.RELEASED:
            self.holds.discard("")
        if self.release is AnswerStatus.RELEASED and status is AnswerStatus.FILED:
            self.summary = AnswerStatus.SUMMARY_FILED
        elif not (
            status in _PROGRESS
            and self.release in _PROGRESS
            and _PROGRESS.index(status) < _PROGRESS.index(self.release)
        ):
            self.release = status


def _is_part(hold: str, removed: str) -> bool:
    """Return whether the removal of one hold also removes the other: `agency:FDA` removes `agency:FDA:exam`."""
    return hold == removed or hold.startswith(f"{removed}:")


def fold_entries(packages: Iterable[str], answers: Iterable[Answer]) -> dict[str, EntryFacets]:
    """Return the facets of each entry by the number of its customs package.

    An answer that another one corrects counts for nothing.
    """
    every = sorted(answers, key=lambda answer: answer.place)
    corrected = {answer.corrects for answer in every}
    entries = {number: EntryFacets() for number in packages}
    for answer in every:
        if answer.id not in corrected:
            for number in answer.packages or entries:
                if number in entries:
                    entries[number]._add(answer)  # noqa: SLF001 - the fold and its state are one
    return entries


@dataclass(frozen=True)
class EntriesStatus:
    """What the entries of a handoff say together.

    `state` is the status of the submission, None if only its transport decides. The next status is expected after
    `expected_after`, that of the entry that is least advanced; None if a person must act first, or all are released.
    """

    state: SubmissionState | None
    expected_after: SubmissionState | None


def _find_worst(headlines: Iterable[Headline]) -> Headline | None:
    """Return the first headline by precedence, None without any."""
    return min(headlines, key=SEVERITY.__getitem__, default=None)


def summarize_entries(entries: Iterable[EntryFacets], *, withdrawing: bool = False) -> EntriesStatus:
    """Return what the entries say together. Their worst headline counts.

    After a request to withdraw the export, only whether an entry is filed counts, and whether each is withdrawn.
    """
    every = list(entries)
    if withdrawing:
        if any(each.is_filed for each in every):
            return EntriesStatus(SubmissionState.NOT_WITHDRAWN, None)
        done = every and all(each.is_withdrawn or each.release is AnswerStatus.CANCELLED for each in every)
        waits = SubmissionState.WITHDRAWING
        return EntriesStatus(SubmissionState.WITHDRAWN, None) if done else EntriesStatus(waits, waits)
    worst = _find_worst(each.headline for each in every)
    # Neither a person must act first, nor are the goods released.
    open_ones = (each.expected_after for each in every if each.expected_after not in {*IN_TROUBLE, Headline.RELEASED})
    expected = _find_worst(open_ones)
    awaiting = SubmissionState.RECEIVED if any(each.received for each in every) else None

    def to_state(headline: Headline) -> SubmissionState | None:
        return awaiting if headline is Headline.AWAITING else SUBMISSION_STATES[headline]

    return EntriesStatus(
        state=awaiting if worst is None else to_state(worst),
        expected_after=None if expected is None else to_state(expected) or SubmissionState.DELIVERED,
    )
