"""The progress of an export, line by line from its events."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from rich.markup import escape
from rich.text import Text

from pipeline.exports.schemas.export import EventView, ExportView
from pipeline.exports.states import ExportState
from pipeline.interfaces.event_text import ATTENTION, BAD, GOOD, NEUTRAL, count_noun, describe_event, format_size

_STYLES: Final = {GOOD: "green", BAD: "bold red", NEUTRAL: "dim", ATTENTION: "yellow"}

#: After these events an export does nothing more by itself.
FINAL_EVENTS: Final = {
    "EXPORT_EXECUTED": ExportState.EXECUTED,
    "EXPORT_FAILED": ExportState.FAILED,
    "EXPORT_CANCELLED": ExportState.CANCELLED,
}

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
            mark, text = describe_event(event)
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
