"""The progress of an export, line by line from its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.markup import escape
from rich.text import Text

from pipeline.exports.schemas.export import EventView, ExportView
from pipeline.exports.states import ExportState, SubmissionState

GOOD, BAD, NEUTRAL, ATTENTION = "✓", "✗", "·", "!"
_STYLES: Final = {GOOD: "green", BAD: "bold red", NEUTRAL: "dim", ATTENTION: "yellow"}

#: After these events an export does nothing more by itself.
FINAL_EVENTS: Final = {
    "EXPORT_EXECUTED": ExportState.EXECUTED,
    "EXPORT_FAILED": ExportState.FAILED,
    "EXPORT_CANCELLED": ExportState.CANCELLED,
}
Facts = Mapping[str, Any]

_DOCUMENT: Final = "CUSTOMS_ARTIFACT_GENERATED"


@dataclass(frozen=True)
class ProgressLine:
    """One line of progress: seconds since acceptance, mark, unit and text."""

    seconds: float
    mark: str
    unit: str
    text: str

    @property
    def plain(self) -> str:
        """The line without colour."""
        return f"{self.seconds:7.2f} s  {self.mark} {self.unit}{self.text}"

    @property
    def styled(self) -> Text:
        """The line with colour; the text is the same."""
        style = _STYLES[self.mark]
        return Text.from_markup(
            f"[dim]{self.seconds:7.2f} s[/]  [{style}]{self.mark}[/] [bold]{escape(self.unit)}[/]{escape(self.text)}"
        )


class ProgressReporter:
    """Turns the events of one export into lines; the documents of a unit become one line."""

    def __init__(self, export: ExportView) -> None:
        self._accepted_at = export.accepted_at
        # With one unit, its name is not repeated on every line.
        units = export.units if len(export.units) > 1 else []
        self._units = {number: f"{unit.unit_ref}  " for number, unit in enumerate(units, start=1)}
        self._documents: dict[int, list[EventView]] = {}

    def report(self, events: Iterable[EventView]) -> Iterator[ProgressLine]:
        """Yield the lines of `events`, which follow those reported before."""
        for event in events:
            number = int(event.data.get("unitNo") or 0)
            if event.type == _DOCUMENT:
                self._documents.setdefault(number, []).append(event)
                continue
            if number in self._documents:
                yield self._build_documents_line(number)
            elif event.type in FINAL_EVENTS:
                for each in [*self._documents]:
                    yield self._build_documents_line(each)
            mark, text = _describe_event(event)
            yield self._build_line(event, number, mark, text)

    def _build_documents_line(self, number: int) -> ProgressLine:
        document_events = self._documents.pop(number)
        size = sum(int(event.data.get("size", 0)) for event in document_events)
        return self._build_line(
            document_events[-1],
            number,
            GOOD,
            f"{count_noun(len(document_events), 'document')} rendered, {format_size(size)}",
        )

    def _build_line(self, event: EventView, number: int, mark: str, text: str) -> ProgressLine:
        seconds = max(0.0, (event.at - self._accepted_at).total_seconds())
        return ProgressLine(seconds, mark, self._units.get(number, ""), text)


def _describe_event(event: EventView) -> tuple[str, str]:
    mark, words = _DESCRIPTIONS.get(event.type, (NEUTRAL, event.type.replace("_", " ").lower()))
    if event.data.get("status") == SubmissionState.HELD.value:
        mark = ATTENTION
    text = words if isinstance(words, str) else words(event.data)
    return mark, text if callable(words) else text + _describe_reason(event.data)


def _describe_packages(data: Facts) -> str:
    number = f" in {data['packageNumber']}" if data.get("packageNumber") else ""
    return f"{count_noun(int(data.get('packages', 0)), 'package')} recorded{number}"


def _describe_notified(audience: str) -> Callable[[Facts], str]:
    def describe(data: Facts) -> str:
        sent = f": {count_noun(int(data['messages']), 'message')}" if data.get("messages") else ""
        return f"{audience} {data.get('partnerId', '')} notified{sent}"

    return describe


def _describe_answer(data: Facts) -> str:
    reason = f" ({data['message']})" if data.get("message") else ""
    return f"customs broker answered: {data.get('status')}{reason}"


def _describe_amendment(data: Facts) -> str:
    if data.get("supersedes"):
        return f"revision {data.get('revision')}, supersedes {data['supersedes']}"
    return f"superseded by {data.get('supersededBy')}, revision {data.get('revision')}"


def _describe_reason(data: Facts) -> str:
    return next((f": {data[key]}" for key in ("message", "reason") if data.get(key)), "")


_DESCRIPTIONS: Final[Mapping[str, tuple[str, str | Callable[[Facts], str]]]] = {
    "EXPORT_ACCEPTED": (NEUTRAL, "accepted"),
    "PACKAGES_RECORDED": (GOOD, _describe_packages),
    "TREATMENT_ATTACHED": (
        GOOD,
        lambda data: f"customs treatment attached to {count_noun(int(data.get('lines', 0)), 'line')}",
    ),
    "CUSTOMS_PACKAGE_CLOSED": (GOOD, "customs package closed"),
    "HANDED_OFF": (GOOD, lambda data: f"handed off to {data.get('partnerId', 'the customs broker')}"),
    "BROKER_NOTIFIED": (GOOD, _describe_notified("customs broker")),
    "WAREHOUSE_NOTIFIED": (GOOD, _describe_notified("warehouse")),
    "OPERATOR_NOTIFIED": (GOOD, _describe_notified("operator")),
    "BROKER_ACKNOWLEDGED": (GOOD, _describe_answer),
    "BROKER_RELEASED": (GOOD, _describe_answer),
    "BROKER_REJECTED": (ATTENTION, _describe_answer),
    "BROKER_QUERIED": (ATTENTION, _describe_answer),
    "EXPORT_EXECUTED": (GOOD, "executed"),
    "EXPORT_FAILED": (
        BAD,
        lambda data: f"{'quarantined' if data.get('quarantined') else 'failed'}{_describe_reason(data)}",
    ),
    "EXPORT_CANCELLED": (BAD, "cancelled"),
    "EXPORT_AMENDED": (NEUTRAL, _describe_amendment),
    "STEP_RETRIED": (
        ATTENTION,
        lambda data: f"{data.get('step')} will be retried after attempt {data.get('attempt')}{_describe_reason(data)}",
    ),
    "DELIVERY_FAILED": (ATTENTION, "delivery failed"),
    "DELIVERY_DEAD": (BAD, "delivery given up"),
    "HANDOFF_OVERDUE": (ATTENTION, "customs broker has not answered in time"),
}


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_size(size: int) -> str:
    """Return a size with its unit."""
    return f"{size / 1000:.0f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
