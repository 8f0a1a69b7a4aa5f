"""Draws a drill as an SVG file that fetches nothing from anywhere: exports over time, every kill, and how long it was felt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from pipeline.drill.report import Report

WIDTH: Final = 1160
HEIGHT: Final = 760
LEFT, RIGHT, EDGE = 76, 1024, 1120
CURVES: Final = (226, 470)  # from top to bottom
FELT: Final = (548, 690)

INK, SOFT, GRID, PAPER = "#1f2933", "#627083", "#e4e9ef", "#ffffff"
SUBMITTED, EXECUTED, UNDER_WAY, KILL = "#8b98a9", "#0f766e", "#d5efe9", "#d64545"
GOOD, BAD = "#0f766e", "#c81e1e"
#: One colour a process, in the order of their names.
PROCESSES: Final = ("#c2410c", "#2563eb", "#7c3aed", "#a16207", "#0e7490")
_LINE: Final = 15  # from one line of small text to the next
_TICKS: Final = 6
_STEPS: Final = (1, 2, 5, 10)


def drawn(report: Report) -> str:
    """Return the drill as a picture."""
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "width": f"{WIDTH}",
                          "height": f"{HEIGHT}", "role": "img", "font-family": "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"})  # fmt: skip
    SubElement(svg, "title").text = _sentence(report)
    SubElement(svg, "rect", {"width": f"{WIDTH}", "height": f"{HEIGHT}", "rx": "12", "fill": PAPER, "stroke": GRID})
    _head(svg, report)
    _curves(svg, report)
    _felt(svg, report)
    return tostring(svg, encoding="unicode") + "\n"


def _sentence(report: Report) -> str:
    found = report.judgement
    return (
        f"{len(report.history.kills)} kills, {len(report.history.submissions)} exports, {found.exports_lost} lost,"
        f" {found.exports_doubled} doubled, recovery p50 {_span(report.recovery(0.5))}, p99 {_span(report.recovery(0.99))}"
    )


def _head(svg: Element, report: Report) -> None:
    kills, found = len(report.history.kills), report.judgement
    _text(svg, LEFT - 36, 46, f"{kills} kills under load", size=24, weight=700)
    about = f"{report.stack}; kill -9 at random moments, seed {report.seed}; a lease lasts {report.lease_seconds:g} s"
    _text(svg, LEFT - 36, 72, about, fill=SOFT)
    tiles = (
        ("exports", f"{len(report.history.submissions):,}", INK),
        ("executed, all told", f"{report.executed:,}", GOOD),
        ("lost", f"{found.exports_lost}", BAD if found.lost else GOOD),
        ("done twice", f"{found.exports_doubled}", BAD if found.doubled else GOOD),
        ("recovery, median", _span(report.recovery(0.5)), INK),
        ("recovery, p99", _span(report.recovery(0.99)), INK),
    )
    gap, left = 12, LEFT - 36
    wide = (EDGE - left - gap * (len(tiles) - 1)) / len(tiles)
    for number, (name, value, colour) in enumerate(tiles):
        x = left + number * (wide + gap)
        box = {"x": _n(x), "y": "92", "width": _n(wide), "height": "74", "rx": "8", "fill": "#f6f8fa", "stroke": GRID}
        SubElement(svg, "rect", box)
        _text(svg, x + 16, 116, name, size=13, fill=SOFT)
        _text(svg, x + 16, 150, value, size=26, weight=700, fill=colour)


def _curves(svg: Element, report: Report) -> None:
    """Exports submitted and executed over time; what lies between the two curves is under way. A red line is a kill."""
    top, bottom = CURVES
    end = _end(report)
    begun = sorted(began for began, _ in report.spans)
    ended = sorted(end for _, end in report.spans if end != math.inf)
    y_ticks = _ticks(max(len(begun), 1))
    _heading(
        svg,
        top,
        "Exports over time",
        (("submitted", SUBMITTED), ("executed, everybody told", EXECUTED), ("kill -9", KILL)),
    )
    _grid(svg, CURVES, y_ticks, end, "")

    def x(seconds: float) -> float:
        return _x(seconds, end)

    def y(count: float) -> float:
        return bottom - count / y_ticks[-1] * (bottom - top)

    for each in report.recoveries:
        SubElement(svg, "line", {"x1": _n(x(each.kill.at)), "x2": _n(x(each.kill.at)), "y1": _n(top), "y2": _n(bottom), "stroke": KILL, "stroke-opacity": "0.45"})  # fmt: skip
    upper, lower = list(_stairs(begun, end)), list(_stairs(ended, end))
    area = " ".join(f"{_n(x(at))},{_n(y(count))}" for at, count in (*upper, *reversed(lower)))
    SubElement(svg, "polygon", {"points": area, "fill": UNDER_WAY, "fill-opacity": "0.9"})
    for stairs, colour in ((upper, SUBMITTED), (lower, EXECUTED)):
        points = " ".join(f"{_n(x(at))},{_n(y(count))}" for at, count in stairs)
        SubElement(svg, "polyline", {"points": points, "fill": "none", "stroke": colour, "stroke-width": "2"})


def _felt(svg: Element, report: Report) -> None:
    """How long each kill was felt, at the moment of the kill."""
    top, bottom = FELT
    end = _end(report)
    known = [each.seconds for each in report.recoveries if each.seconds != math.inf]
    ticks = _ticks(max([*known, 1.0]), 4)
    names = sorted({each.kill.process for each in report.recoveries})
    colours = dict(zip(names, PROCESSES * len(names), strict=False))
    _heading(svg, top, "Recovery: until the API answers and all that was under way has ended", tuple(colours.items()))
    _grid(svg, FELT, ticks, end, " s")

    def y(seconds: float) -> float:
        return bottom - min(seconds, ticks[-1]) / ticks[-1] * (bottom - top)

    apart = 0.0
    for share, name in ((0.5, "median"), (0.99, "p99")):
        value = report.recovery(share)
        if value != math.inf:
            SubElement(svg, "line", {"x1": _n(LEFT), "x2": _n(RIGHT), "y1": _n(y(value)), "y2": _n(y(value)), "stroke": INK, "stroke-dasharray": "5 4", "stroke-opacity": "0.6"})  # fmt: skip
            # Beside its line, and above the one before it where the two are as good as one.
            apart = min(y(value) + 4, apart - _LINE) if apart else y(value) + 4
            _text(svg, RIGHT + 8, apart, f"{name} {_span(value)}", size=12)
    for each in report.recoveries:
        x, colour = _n(_x(each.kill.at, end)), colours[each.kill.process]
        SubElement(svg, "line", {"x1": x, "x2": x, "y1": _n(bottom), "y2": _n(y(each.seconds)), "stroke": colour, "stroke-width": "2", "stroke-opacity": "0.55"})  # fmt: skip
        SubElement(svg, "circle", {"cx": x, "cy": _n(y(each.seconds)), "r": "4", "fill": colour})
    _text(svg, (LEFT + RIGHT) / 2, bottom + 44, "seconds since the drill began", size=13, fill=SOFT, anchor="middle")


def _heading(svg: Element, top: float, title: str, legend: Sequence[tuple[str, str]]) -> None:
    _text(svg, LEFT - 36, top - 22, title, size=15, weight=600)
    # One text, so that whoever draws it sets the marks and the words apart by their true widths.
    words = _text(svg, EDGE, top - 22, "", size=13, fill=SOFT, anchor="end")
    for number, (name, colour) in enumerate(legend):
        SubElement(words, "tspan", {"fill": colour}).text = f"{chr(0xA0) * 5 if number else ''}\u25a0{chr(0xA0)}"
        SubElement(words, "tspan").text = name


def _grid(svg: Element, place: tuple[int, int], ticks: Sequence[float], end: float, unit: str) -> None:
    top, bottom = place
    for tick in ticks:
        y = bottom - tick / ticks[-1] * (bottom - top)
        SubElement(svg, "line", {"x1": _n(LEFT), "x2": _n(RIGHT), "y1": _n(y), "y2": _n(y), "stroke": GRID})
        _text(svg, LEFT - 10, y + 4, f"{tick:,g}{unit}", size=12, fill=SOFT, anchor="end")
    for tick in _ticks(end, 10):
        if tick <= end:
            _text(svg, _x(tick, end), bottom + 20, f"{tick:,g}", size=12, fill=SOFT, anchor="middle")


def _stairs(instants: Sequence[float], end: float) -> Iterator[tuple[float, int]]:
    """Yield the corners of a curve that goes up by one at each instant."""
    yield 0.0, 0
    for count, at in enumerate(instants):
        yield at, count
        yield at, count + 1
    yield end, len(instants)


def _ticks(most: float, about: int = _TICKS) -> list[float]:
    """Return round numbers from 0 on, the last of them at least `most`."""
    unit = 10.0 ** math.floor(math.log10(most / about))
    step = next(unit * by for by in _STEPS if unit * by * about >= most)
    return [number * step for number in range(math.ceil(most / step) + 1)]


def _end(report: Report) -> float:
    return max(report.history.seconds, 1.0)


def _x(seconds: float, end: float) -> float:
    return LEFT + seconds / end * (RIGHT - LEFT)


def _span(seconds: float) -> str:
    return "none" if seconds == math.inf else f"{seconds:.1f} s"


def _text(
    svg: Element,
    x: float,
    y: float,
    text: str,
    *,
    size: int = 14,
    weight: int = 400,
    fill: str = INK,
    anchor: str = "start",
) -> Element:
    given = {
        "x": _n(x),
        "y": _n(y),
        "font-size": f"{size}",
        "font-weight": f"{weight}",
        "fill": fill,
        "text-anchor": anchor,
    }
    made = SubElement(svg, "text", given)
    made.text = text
    return made


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
