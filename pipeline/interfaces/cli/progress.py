"""What happens to an export, told line by line as its events arrive."""

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

#: After these an export does nothing more by itself.
ENDS: Final = {
    "EXPORT_EXECUTED": ExportState.EXECUTED,
    "EXPORT_FAILED": ExportState.FAILED,
    "EXPORT_CANCELLED": ExportState.CANCELLED,
}
Facts = Mapping[str, Any]

_DOCUMENT: Final = "CUSTOMS_ARTIFACT_GENERATED"


@dataclass(frozen=True)
class Line:
    """One line of the story: when (seconds since acceptance), how it went, of which unit, what."""

    seconds: float
    mark: str
    unit: str
    text: str

    @property
    def plain(self) -> str:
        """The line for people without a terminal."""
        return f"{self.seconds:7.2f} s  {self.mark} {self.unit}{self.text}"

    @property
    def styled(self) -> Text:
        """The line for a terminal; it reads the same without colour."""
        style = _STYLES[self.mark]
        return Text.from_markup(
            f"[dim]{self.seconds:7.2f} s[/]  [{style}]{self.mark}[/] [bold]{escape(self.unit)}[/]{escape(self.text)}"
        )


class Narrator:
    """Turns the events of one export into lines; a unit's documents, told of one by one, become one line."""

    def __init__(self, export: ExportView) -> None:
        self._accepted_at = export.accepted_at
        # One unit needs no name on every line.
        units = export.units if len(export.units) > 1 else []
        self._units = {number: f"{unit.unit_ref}  " for number, unit in enumerate(units, start=1)}
        self._documents: dict[int, list[EventView]] = {}

    def tell(self, events: Iterable[EventView]) -> Iterator[Line]:
        """Yield the lines of `events`, which follow those told before."""
        for event in events:
            number = int(event.data.get("unitNo") or 0)
            if event.type == _DOCUMENT:
                self._documents.setdefault(number, []).append(event)
                continue
            if number in self._documents:
                yield self._documents_line(number)
            elif event.type in ENDS:
                for each in [*self._documents]:
                    yield self._documents_line(each)
            mark, text = _sentence(event)
            yield self._line(event, number, mark, text)

    def _documents_line(self, number: int) -> Line:
        made = self._documents.pop(number)
        size = sum(int(event.data.get("size", 0)) for event in made)
        return self._line(made[-1], number, GOOD, f"{counted(len(made), 'document')} rendered, {kilobytes(size)}")

    def _line(self, event: EventView, number: int, mark: str, text: str) -> Line:
        seconds = max(0.0, (event.at - self._accepted_at).total_seconds())
        return Line(seconds, mark, self._units.get(number, ""), text)


def _sentence(event: EventView) -> tuple[str, str]:
    mark, words = _SENTENCES.get(event.type, (NEUTRAL, event.type.replace("_", " ").lower()))
    if event.data.get("status") == SubmissionState.HELD.value:
        mark = ATTENTION
    text = words if isinstance(words, str) else words(event.data)
    return mark, text if callable(words) else text + _said(event.data)


def _recorded(data: Facts) -> str:
    number = f" in {data['packageNumber']}" if data.get("packageNumber") else ""
    return f"{counted(int(data.get('packages', 0)), 'package')} recorded{number}"


def _told(audience: str) -> Callable[[Facts], str]:
    def told(data: Facts) -> str:
        sent = f": {counted(int(data['messages']), 'message')}" if data.get("messages") else ""
        return f"{audience} {data.get('partnerId', '')} told{sent}"

    return told


def _answered(data: Facts) -> str:
    said = f" ({data['message']})" if data.get("message") else ""
    return f"customs broker answered: {data.get('status')}{said}"


def _amended(data: Facts) -> str:
    if data.get("supersedes"):
        return f"revision {data.get('revision')}, in the place of {data['supersedes']}"
    return f"superseded by {data.get('supersededBy')}, revision {data.get('revision')}"


def _said(data: Facts) -> str:
    return next((f": {data[key]}" for key in ("message", "reason") if data.get(key)), "")


_SENTENCES: Final[Mapping[str, tuple[str, str | Callable[[Facts], str]]]] = {
    "EXPORT_ACCEPTED": (NEUTRAL, "accepted"),
    "PACKAGES_RECORDED": (GOOD, _recorded),
    "TREATMENT_ATTACHED": (
        GOOD,
        lambda data: f"customs treatment attached to {counted(int(data.get('lines', 0)), 'line')}",
    ),
    "CUSTOMS_PACKAGE_CLOSED": (GOOD, "customs package closed"),
    "HANDED_OFF": (GOOD, lambda data: f"handed off to {data.get('partnerId', 'the customs broker')}"),
    "BROKER_NOTIFIED": (GOOD, _told("customs broker")),
    "WAREHOUSE_NOTIFIED": (GOOD, _told("warehouse")),
    "OPERATOR_NOTIFIED": (GOOD, _told("operator")),
    "BROKER_ACKNOWLEDGED": (GOOD, _answered),
    "BROKER_RELEASED": (GOOD, _answered),
    "BROKER_REJECTED": (ATTENTION, _answered),
    "BROKER_QUERIED": (ATTENTION, _answered),
    "EXPORT_EXECUTED": (GOOD, "executed"),
    "EXPORT_FAILED": (BAD, lambda data: f"{'quarantined' if data.get('quarantined') else 'failed'}{_said(data)}"),
    "EXPORT_CANCELLED": (BAD, "cancelled"),
    "EXPORT_AMENDED": (NEUTRAL, _amended),
    "STEP_RETRIED": (
        ATTENTION,
        lambda data: f"{data.get('step')} put off after attempt {data.get('attempt')}{_said(data)}",
    ),
    "DELIVERY_FAILED": (ATTENTION, "delivery failed"),
    "DELIVERY_DEAD": (BAD, "delivery given up"),
    "HANDOFF_OVERDUE": (ATTENTION, "customs broker has not answered in time"),
}


def counted(number: int, noun: str) -> str:
    """Return a number of things for people."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def kilobytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1000:.0f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
