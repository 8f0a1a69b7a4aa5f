"""Decides of a history what was lost and what was doubled: a pure function over database, HTTP answers and receivers' log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.exports.states import DeliveryState, ExportState
from pipeline.simulation.drill.history import ENDED, HANDOFF, PACKAGE, History, StoredEvent, Submission

#: What happens once to an export, or once to each subject of it.
ONCE: Final = frozenset(
    {
        "EXPORT_ACCEPTED",
        "PACKAGES_RECORDED",
        "TREATMENT_ATTACHED",
        "CUSTOMS_ARTIFACT_GENERATED",
        "CUSTOMS_PACKAGE_CLOSED",
        "HANDED_OFF",
        "EXPORT_EXECUTED",
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing that should not be: of which export (or batch, where it has none), in a sentence."""

    about: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.about}: {self.sentence}"


@dataclass(frozen=True)
class Judgement:
    """What was lost and what was doubled, and how often a partner was told again under the same id, which it tells by."""

    lost: Sequence[Finding]
    doubled: Sequence[Finding]
    told_again: int

    @property
    def exports_lost(self) -> int:
        """Of how many exports something was lost."""
        return len({finding.about for finding in self.lost})

    @property
    def exports_doubled(self) -> int:
        """Of how many exports something was done twice."""
        return len({finding.about for finding in self.doubled})

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nothing was doubled."""
        return not self.lost and not self.doubled


def judge(history: History) -> Judgement:
    """Return what was lost and what was doubled of what was submitted."""
    told = Counter(receipt.message_id for receipt in history.receipts)
    return Judgement(
        sorted({*_not_carried_out(history), *_gaps(history), *_undocumented(history), *_untold(history)}, key=str),
        sorted({*_accepted_twice(history), *_done_twice(history), *_said_twice(history)}, key=str),
        sum(count - 1 for count in told.values()),
    )


def _not_carried_out(history: History) -> Iterator[Finding]:
    """Whatever was accepted is stored, has been executed, and the API says so."""
    stored = {export.export_id: export for export in history.stored.exports}
    for submission in history.submissions:
        if not submission.answers:
            yield Finding(submission.batch_id, f"was never accepted, asked {submission.tries} times")
        for export_id in submission.answers:
            export = stored.get(export_id)
            if export is None:
                yield Finding(export_id, "was accepted and is not in the database")
            elif export.state != ExportState.EXECUTED:
                yield Finding(export_id, f"was accepted and is {export.state}: {export.failure or 'it says no reason'}")
            elif history.inspected.get(export_id) != ExportState.EXECUTED:
                yield Finding(export_id, f"is executed and the API says {history.inspected.get(export_id)}")


def _gaps(history: History) -> Iterator[Finding]:
    """The log of an export is numbered from 1 without a gap, and ends in its execution."""
    logs = _by_export(history.stored.events)
    for export in history.stored.exports:
        log = logs.get(export.export_id, [])
        if sorted(event.seq for event in log) != list(range(1, len(log) + 1)):
            yield Finding(export.export_id, "has a log with gaps")
        if export.state == ExportState.EXECUTED:
            missing = ONCE - {event.type for event in log}
            yield from (Finding(export.export_id, f"was executed without {name}") for name in sorted(missing))


def _undocumented(history: History) -> Iterator[Finding]:
    """Every document that is recorded can be read as it was recorded."""
    for document in history.stored.documents:
        if not document.kept:
            yield Finding(document.export_id, f"has lost its document {document.name}")


def _untold(history: History) -> Iterator[Finding]:
    """Every message that is owed has arrived, and an executed export has told everybody all that its plan calls for."""
    told = {receipt.message_id for receipt in history.receipts}
    for owed in history.stored.owed:
        if owed.message_id not in told:
            yield Finding(owed.export_id, f"message {owed.message_id} is {owed.state} and reached nobody")
        elif owed.state != DeliveryState.DELIVERED:
            yield Finding(owed.export_id, f"message {owed.message_id} has arrived and is {owed.state}")
    for export_id, kind, said, wanted in _said(history):
        if said < wanted:
            yield Finding(export_id, f"has told {said} of {wanted} {kind}")


def _accepted_twice(history: History) -> Iterator[Finding]:
    """A batch is one export, whoever asks and how often."""
    for submission in history.submissions:
        if len(set(submission.answers)) > 1:
            yield Finding(submission.batch_id, f"was answered with {len(set(submission.answers))} exports")
    rows = Counter(export.batch_id for export in history.stored.exports)
    yield from (Finding(batch, f"is {count} exports in the database") for batch, count in rows.items() if count > 1)


def _done_twice(history: History) -> Iterator[Finding]:
    """Each step took effect once: its event is there once, and each document has one row."""
    events = Counter(
        (event.export_id, event.type, event.subject) for event in history.stored.events if event.type in ONCE
    )
    for (export_id, kind, subject), count in events.items():
        if count > 1:
            yield Finding(export_id, f"has {kind} {subject}".rstrip() + f" {count} times")
    documents = Counter((document.export_id, document.name) for document in history.stored.documents)
    for (export_id, name), count in documents.items():
        if count > 1:
            yield Finding(export_id, f"has {name} {count} times")


def _said_twice(history: History) -> Iterator[Finding]:
    """Nobody was told one thing under two ids, or of what the database knows nothing."""
    for export_id, kind, said, wanted in _said(history):
        if said > wanted:
            yield Finding(export_id, f"has told {said} {kind} where {wanted} were due")
    owed = {owed.message_id for owed in history.stored.owed}
    for receipt in history.receipts:
        if receipt.message_id not in owed:
            yield Finding(receipt.export_id, f"sent message {receipt.message_id}, which it did not owe")


def _said(history: History) -> Iterator[tuple[str, str, int, int]]:
    """Yield of each export and kind of message how many different ones arrived, and how many its plan calls for."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for receipt in history.receipts:
        ids[receipt.export_id, receipt.event_type].add(receipt.message_id)
    for submission in history.submissions:
        for export_id in dict.fromkeys(submission.answers):
            for kind, wanted in _called_for(submission).items():
                yield export_id, kind, len(ids[export_id, kind]), wanted


def _called_for(submission: Submission) -> Mapping[str, int]:
    return {HANDOFF: 1, PACKAGE: submission.packages, ENDED: 1}


def _by_export(events: Iterable[StoredEvent]) -> Mapping[str, list[StoredEvent]]:
    found: dict[str, list[StoredEvent]] = defaultdict(list)
    for event in events:
        found[event.export_id].append(event)
    return found
