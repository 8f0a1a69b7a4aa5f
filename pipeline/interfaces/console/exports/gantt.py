"""The Gantt chart of an export: its steps, deliveries and the broker's answers on a scale that shortens long waits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from pipeline.interfaces.durations import format_duration
from pipeline.interfaces.pages.plots import Bar, Tick

WIDTH, LEFT, RIGHT, ROW = 1080, 250, 12, 22
_INNER: Final = WIDTH - LEFT - RIGHT
#: The width of a wait that is cut short, of all such waits together, and of the shortest stretch of work, in pixels.
_BREAK_WIDTH: Final = 54.0
_BREAKS_WIDTH: Final = _INNER * 0.45
_LEAST_STRETCH: Final = 26.0
#: A wait is cut short if it is longer than this share of all work, and than so many seconds.
_LONG_SHARE: Final = 0.4
_LONG_SECONDS: Final = 2.0
_MOST_BREAKS: Final = 12
_LABEL_WIDTH: Final = 78
_LEAST_BAR: Final = 3.0
#: The most bars of the table; the picture has all.
_MAX_ENTRIES: Final = 120


@dataclass(frozen=True)
class Stretch:
    """A bar: from `start` to `end` in seconds since acceptance. `waits` is time in which nothing is done."""

    start: float
    end: float
    mark: str
    text: str
    waits: bool = False


@dataclass(frozen=True)
class ChartRow:
    """A named row of bars."""

    name: str
    bars: Sequence[Stretch]


@dataclass(frozen=True)
class Break:
    """A wait that is cut short: where it is drawn, and how long it lasts."""

    x: float
    width: float
    middle: float
    text: str


@dataclass(frozen=True)
class TableEntry:
    """A bar as a row of the table that says the same."""

    name: str
    what: str
    mark: str
    start: str
    took: str


@dataclass(frozen=True)
class Gantt:
    """The chart as positions in an SVG, and as a table."""

    bars: Sequence[Bar]
    waits: Sequence[Bar]
    names: Sequence[Tick]
    ticks: Sequence[Tick]
    breaks: Sequence[Break]
    table: Sequence[TableEntry]
    more: int
    height: int
    bottom: int
    tick_text_at: int
    width: int = WIDTH
    left: int = LEFT


def draw_gantt(rows: Sequence[ChartRow]) -> Gantt | None:
    """Return the chart; None if no row has a bar."""
    drawn = [row for row in rows if row.bars]
    if not drawn:
        return None
    scale = TimeScale([bar for row in drawn for bar in row.bars])
    bars: list[Bar] = []
    waits: list[Bar] = []
    names: list[Tick] = []
    for at, row in enumerate(drawn):
        names.append(Tick(at * ROW + ROW / 2, _cut_name(row.name)))
        for bar in row.bars:
            x, until = scale.place(bar.start), scale.place(bar.end)
            thin = 5 if bar.waits else 0
            shape = Bar(
                round(x, 1),
                at * ROW + 4 + thin,
                round(max(until - x, _LEAST_BAR), 1),
                ROW - 8 - 2 * thin,
                bar.mark,
                f"{row.name}: {bar.text}",
            )
            (waits if bar.waits else bars).append(shape)
    bottom = len(drawn) * ROW
    table = [_tabulate(row, bar) for row in drawn for bar in row.bars if not bar.waits]
    return Gantt(
        bars,
        waits,
        names,
        scale.ticks(),
        scale.breaks,
        table[:_MAX_ENTRIES],
        max(len(table) - _MAX_ENTRIES, 0),
        bottom + 26,
        bottom,
        bottom + 18,
    )


def since(start: datetime, at: datetime) -> float:
    """Return the seconds from `start` to `at`; 0 if it is earlier, because two clocks wrote them."""
    return max((at - start).total_seconds(), 0.0)


def _cut_name(name: str) -> str:
    return name if len(name) <= 36 else f"{name[:35]}…"


def _tabulate(row: ChartRow, bar: Stretch) -> TableEntry:
    return TableEntry(
        row.name, bar.text, bar.mark, f"+{format_duration(bar.start)}", format_duration(bar.end - bar.start)
    )


class TimeScale:
    """Maps seconds since acceptance to positions. Long waits between work get a fixed width, so that work stays visible."""

    def __init__(self, bars: Iterable[Stretch]) -> None:
        self._parts = _split_time([bar for bar in bars if not bar.waits] or [*bars])
        gaps = [part for part in self._parts if part.is_break]
        width = min(_BREAK_WIDTH, _BREAKS_WIDTH / len(gaps)) if gaps else 0.0
        work = [part for part in self._parts if not part.is_break]
        free = _INNER - width * len(gaps) - _LEAST_STRETCH * len(work)
        seconds = sum(part.length for part in work) or 1.0
        x = float(LEFT)
        self.breaks: list[Break] = []
        self._places: list[tuple[_Part, float, float]] = []
        for part in self._parts:
            wide = width if part.is_break else _LEAST_STRETCH + free * part.length / seconds
            self._places.append((part, x, wide))
            if part.is_break:
                middle = round(x + wide / 2, 1)
                self.breaks.append(Break(round(x, 1), round(wide, 1), middle, format_duration(part.length)))
            x += wide

    def place(self, seconds: float) -> float:
        """Return the position of an instant; instants outside the scale get its ends."""
        for part, x, wide in self._places:
            if seconds <= part.end:
                share = (seconds - part.start) / part.length if part.length else 0.0
                return x + wide * min(max(share, 0.0), 1.0)
        return float(WIDTH - RIGHT)

    def ticks(self) -> list[Tick]:
        """Return the ticks: the start of each stretch of work, and more where there is space."""
        ticks: list[Tick] = []
        for part, x, wide in self._places:
            if part.is_break:
                continue
            count = max(math.floor(wide / 160), 1)
            for step in range(count):
                at = x + wide * step / count
                if not ticks or at - ticks[-1].at >= _LABEL_WIDTH:
                    text = "accepted" if not ticks else f"+{format_duration(part.start + part.length * step / count)}"
                    ticks.append(Tick(round(at, 1), text))
        return ticks


@dataclass(frozen=True)
class _Part:
    start: float
    end: float
    is_break: bool

    @property
    def length(self) -> float:
        return self.end - self.start


def _split_time(bars: Sequence[Stretch]) -> list[_Part]:
    """Return work and long waits in turn, from acceptance to the last end."""
    merged: list[list[float]] = [[0.0, 0.0]]
    for bar in sorted(bars, key=lambda each: each.start):
        if bar.start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], bar.end)
        else:
            merged.append([bar.start, bar.end])
    work = sum(end - start for start, end in merged)
    gaps = sorted((after[0] - before[1] for before, after in pairwise(merged)), reverse=True)
    least = max(work * _LONG_SHARE, _LONG_SECONDS, *gaps[_MOST_BREAKS : _MOST_BREAKS + 1])
    parts = [_Part(0.0, merged[0][1], is_break=False)]
    for start, end in merged[1:]:
        last = parts[-1]
        if start - last.end > least:
            parts += [_Part(last.end, start, is_break=True), _Part(start, end, is_break=False)]
        else:
            parts[-1] = _Part(last.start, end, is_break=False)
    return parts
