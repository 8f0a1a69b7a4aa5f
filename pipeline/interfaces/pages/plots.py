"""Plots as positions in an SVG: the templates only draw them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WIDTH, HEIGHT = 560, 220
TREND_SLOT, TREND_HEIGHT = 4, 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 12, 34
_INNER_WIDTH: Final = WIDTH - _LEFT - _RIGHT
_INNER_HEIGHT: Final = HEIGHT - _TOP - _BOTTOM
_DAY: Final = 86_400
_MAX_TICKS: Final = 4
_MAX_LABELS: Final = 6
_STEPS: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Series:
    """A named list of values, one for each period; None where there is none. `mark` is the class of its colour."""

    name: str
    mark: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Bar:
    """A rectangle, and the text that explains it."""

    x: float
    y: float
    width: float
    height: float
    mark: str
    text: str


@dataclass(frozen=True)
class Curve:
    """The points of a line, as SVG writes a path; `dots` are values without a neighbour."""

    path: str
    mark: str
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A position on an axis, and its text; an `instant` that is not empty is shown in the local time."""

    at: float
    text: str
    instant: str = ""


@dataclass(frozen=True)
class Plot:
    """A plot over periods. It is `empty` if all values are 0 or None."""

    title: str
    bars: Sequence[Bar]
    lines: Sequence[Curve]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    legend: Sequence[tuple[str, str]]
    empty: bool
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM
    y_text_at: int = _LEFT - 6
    x_text_at: int = HEIGHT - 8


def stack_bars(title: str, series: Sequence[Series], periods: Sequence[datetime], seconds: int) -> Plot:
    """Return a plot with a bar for each period, in which the series stand on one another."""
    totals = [sum(each.values[at] or 0 for each in series) for at in range(len(periods))]
    top, y_ticks = _scale(max(totals, default=0), format_count, whole=True)
    slot = _INNER_WIDTH / len(periods)
    bars = []
    for at, start in enumerate(periods):
        y = float(HEIGHT - _BOTTOM)
        for each in series:
            value = each.values[at] or 0
            if not value:
                continue
            height = value / top * _INNER_HEIGHT
            y -= height
            text = f"{format_period(start, seconds)} UTC: {value:.0f} {each.name}"
            bars.append(_bar(_LEFT + at * slot + slot * 0.1, y, slot * 0.8, height, each.mark, text))
    legend = [(each.name, each.mark) for each in series if any(each.values)]
    return Plot(title, bars, [], _x_ticks(periods, seconds), y_ticks, legend, empty=not any(totals))


def draw_lines(
    title: str,
    series: Sequence[Series],
    periods: Sequence[datetime],
    seconds: int,
    format_value: Callable[[float], str],
    *,
    whole: bool = False,
) -> Plot:
    """Return a plot with a line for each series; it is broken where a value is missing. `whole` values are counts."""
    values = [value for each in series for value in each.values if value is not None]
    top, y_ticks = _scale(max(values, default=0), format_value, whole=whole)
    slot = _INNER_WIDTH / len(periods)

    def point(at: int, value: float) -> tuple[float, float]:
        return round(_LEFT + (at + 0.5) * slot, 1), round(HEIGHT - _BOTTOM - value / top * _INNER_HEIGHT, 1)

    lines = []
    for each in series:
        path, dots = "", []
        for at, value in enumerate(each.values):
            if value is None:
                continue
            joined = at > 0 and each.values[at - 1] is not None
            goes_on = at + 1 < len(each.values) and each.values[at + 1] is not None
            x, y = point(at, value)
            path += f"{'L' if joined else 'M'}{x} {y}"
            if not joined and not goes_on:
                dots.append((x, y))
        lines.append(Curve(path, each.mark, dots))
    legend = [(each.name, each.mark) for each in series]
    return Plot(title, [], lines, _x_ticks(periods, seconds), y_ticks, legend, empty=not any(values))


def draw_trend(counts: Sequence[int]) -> Sequence[Bar]:
    """Return small bars, one for each period, up to TREND_HEIGHT."""
    highest = max(counts, default=0) or 1
    heights = [count / highest * TREND_HEIGHT for count in counts]
    return [
        _bar(at * TREND_SLOT, TREND_HEIGHT - height, TREND_SLOT - 1, height, "bad", "")
        for at, height in enumerate(heights)
    ]


def format_period(start: datetime, seconds: int) -> str:
    """Return the start of a period, with its day if it is long."""
    return f"{start:%m-%d}" if seconds >= _DAY else f"{start:%H:%M}" if seconds <= 3_600 else f"{start:%m-%d %H:%M}"


def format_count(value: float) -> str:
    """Return a number of things."""
    return f"{value:,.0f}"


def _bar(x: float, y: float, width: float, height: float, mark: str, text: str) -> Bar:
    return Bar(round(x, 1), round(y, 1), round(width, 1), round(height, 1), mark, text)


def _scale(highest: float, format_value: Callable[[float], str], *, whole: bool) -> tuple[float, list[Tick]]:
    """Return the value at the top of the plot, and the ticks of the vertical axis."""
    wanted = max(highest, 1 if whole else 1e-6) / _MAX_TICKS
    power = 10 ** math.floor(math.log10(wanted))
    step = next(each * power for each in _STEPS if each * power >= wanted * (1 - 1e-9))
    step = max(1, math.ceil(step)) if whole else step
    count = max(1, math.ceil(highest / step - 1e-9))
    top = step * count
    return top, [
        Tick(round(HEIGHT - _BOTTOM - number / count * _INNER_HEIGHT, 1), format_value(step * number))
        for number in range(count + 1)
    ]


def _x_ticks(periods: Sequence[datetime], seconds: int) -> list[Tick]:
    slot, every = _INNER_WIDTH / len(periods), math.ceil(len(periods) / _MAX_LABELS)
    return [
        Tick(
            round(_LEFT + (at + 0.5) * slot, 1),
            format_period(start, seconds),
            # A day of the statistics is a day of UTC.
            start.isoformat() if seconds < _DAY else "",
        )
        for at, start in enumerate(periods)
        if (len(periods) - 1 - at) % every == 0
    ]
