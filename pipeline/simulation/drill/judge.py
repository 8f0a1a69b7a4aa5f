"""The judge: it finds lost and duplicated work in a history, as a pure function."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.exports.states import DeliveryState, ExportState
from pipeline.simulation.drill.history import (
    EXPORT_EXECUTED,
    HANDOFF_READY,
    PACKAGE_RECORDED,
    DrillHistory,
    StoredEvent,
    SubmittedPlan,
)

#: The events that happen once for an export, or once for each of its units or documents.
ONCE_ONLY_EVENTS: Final = frozenset(
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
class Violation:
    """One violation of the promises: the export (or the batch, if there is none), and a sentence."""

    about: str
    message: str

    def __str__(self) -> str:
        return f"{self.about}: {self.message}"


@dataclass(frozen=True)
class Judgement:
    """What was lost and what was duplicated, and how many messages a partner received again under the same id."""

    lost: Sequence[Violation]
    duplicated: Sequence[Violation]
    redelivered: int

    @property
    def exports_lost(self) -> int:
        """The number of exports that lost something."""
        return len({finding.about for finding in self.lost})

    @property
    def exports_duplicated(self) -> int:
        """The number of exports that did something twice."""
        return len({finding.about for finding in self.duplicated})

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nothing was duplicated."""
        return not self.lost and not self.duplicated


def judge_history(history: DrillHistory) -> Judgement:
    """Return what was lost and what was duplicated in the drill."""
    received = Counter(receipt.message_id for receipt in history.received)
    return Judgement(
        sorted(
            {
                *_find_unexecuted(history),
                *_find_log_gaps(history),
                *_find_lost_documents(history),
                *_find_undelivered(history),
            },
            key=str,
        ),
        sorted(
            {*_find_duplicate_exports(history), *_find_duplicate_effects(history), *_find_duplicate_messages(history)},
            key=str,
        ),
        sum(count - 1 for count in received.values()),
    )


def _find_unexecuted(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each accepted plan that is not stored, not executed, or not reported so by the API."""
    stored = {export.export_id: export for export in history.stored.exports}
    for submission in history.submissions:
        if not submission.export_ids:
            yield Violation(submission.batch_id, f"was never accepted, in {submission.requests} requests")
        for export_id in submission.export_ids:
            export = stored.get(export_id)
            if export is None:
                yield Violation(export_id, "was accepted but is not in the database")
            elif export.state != ExportState.EXECUTED:
                yield Violation(
                    export_id, f"was accepted but is {export.state}: {export.failure or 'no reason is recorded'}"
                )
            elif history.inspected.get(export_id) != ExportState.EXECUTED:
                yield Violation(export_id, f"is executed but the API says {history.inspected.get(export_id)}")


def _find_log_gaps(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each log that has a gap or does not record its export's execution."""
    logs = _by_export(history.stored.events)
    for export in history.stored.exports:
        log = logs.get(export.export_id, [])
        if sorted(event.seq for event in log) != list(range(1, len(log) + 1)):
            yield Violation(export.export_id, "has a log with gaps")
        if export.state == ExportState.EXECUTED:
            missing = ONCE_ONLY_EVENTS - {event.type for event in log}
            yield from (Violation(export.export_id, f"was executed without {name}") for name in sorted(missing))


def _find_lost_documents(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each recorded document that the store lacks or holds damaged."""
    for document in history.stored.documents:
        if not document.is_intact:
            yield Violation(document.export_id, f"lost its document {document.name}")


def _find_undelivered(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each delivery that did not arrive, and each message that an executed export lacks."""
    received = {receipt.message_id for receipt in history.received}
    for delivery in history.stored.deliveries:
        if delivery.message_id not in received:
            yield Violation(delivery.export_id, f"message {delivery.message_id} is {delivery.state} and did not arrive")
        elif delivery.state != DeliveryState.DELIVERED:
            yield Violation(delivery.export_id, f"message {delivery.message_id} arrived but is {delivery.state}")
    for export_id, kind, received_count, expected in _message_counts(history):
        if received_count < expected:
            yield Violation(export_id, f"sent {received_count} of {expected} {kind}")


def _find_duplicate_exports(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each batch with more than one export."""
    for submission in history.submissions:
        if len(set(submission.export_ids)) > 1:
            yield Violation(
                submission.batch_id, f"was answered with {len(set(submission.export_ids))} different exports"
            )
    rows = Counter(export.batch_id for export in history.stored.exports)
    yield from (Violation(batch, f"is {count} exports in the database") for batch, count in rows.items() if count > 1)


def _find_duplicate_effects(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each step whose event, and each document whose row, exists more than once."""
    events = Counter(
        (event.export_id, event.type, event.subject)
        for event in history.stored.events
        if event.type in ONCE_ONLY_EVENTS
    )
    for (export_id, kind, subject), count in events.items():
        if count > 1:
            yield Violation(export_id, f"has {kind} {subject}".rstrip() + f" {count} times")
    documents = Counter((document.export_id, document.name) for document in history.stored.documents)
    for (export_id, name), count in documents.items():
        if count > 1:
            yield Violation(export_id, f"has {name} {count} times")


def _find_duplicate_messages(history: DrillHistory) -> Iterator[Violation]:
    """Yield a violation for each message that was sent under two ids, or that the database does not know."""
    for export_id, kind, received_count, expected in _message_counts(history):
        if received_count > expected:
            yield Violation(export_id, f"sent {received_count} {kind}, but {expected} were due")
    known_ids = {delivery.message_id for delivery in history.stored.deliveries}
    for receipt in history.received:
        if receipt.message_id not in known_ids:
            yield Violation(receipt.export_id, f"sent message {receipt.message_id}, which is not in the database")


def _message_counts(history: DrillHistory) -> Iterator[tuple[str, str, int, int]]:
    """Yield for each export and kind of message how many different messages arrived, and how many the plan requires."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for receipt in history.received:
        ids[receipt.export_id, receipt.event_type].add(receipt.message_id)
    for submission in history.submissions:
        for export_id in dict.fromkeys(submission.export_ids):
            for kind, expected in _expected_messages(submission).items():
                yield export_id, kind, len(ids[export_id, kind]), expected


def _expected_messages(submission: SubmittedPlan) -> Mapping[str, int]:
    return {HANDOFF_READY: 1, PACKAGE_RECORDED: submission.packages, EXPORT_EXECUTED: 1}


def _by_export(events: Iterable[StoredEvent]) -> Mapping[str, list[StoredEvent]]:
    by_export: dict[str, list[StoredEvent]] = defaultdict(list)
    for event in events:
        by_export[event.export_id].append(event)
    return by_export
