"""The parts of a chart over time as SVG: sheet, tiles with figures, axes and step curves. It loads nothing external."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from pipeline.simulation.drill.report import DrillReport

WIDTH: Final = 1160
HEIGHT: Final = 760
LEFT, RIGHT, EDGE = 76, 1024, 1120
#: The top and bottom of the two fields of the chart.
UPPER: Final = (226, 470)
LOWER: Final = (548, 690)

INK, SOFT, GRID, PAPER = "#1f2933", "#627083", "#e4e9ef", "#ffffff"
SUBMITTED, EXECUTED, UNDER_WAY, KILL = "#8b98a9", "#0f766e", "#d5efe9", "#d64545"
GOOD, BAD = "#0f766e", "#c81e1e"
_TICKS: Final = 6
_STEPS: Final = (1, 2, 5, 10)


def new_sheet(description: str, title: str, about: str, tiles: Sequence[tuple[str, str, str]]) -> Element:
    """Return a chart with only its head: a title, a subtitle, and a tile for each name, value and colour.

    `description` is the text for screen readers.
    """
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "width": f"{WIDTH}",
                          "height": f"{HEIGHT}", "role": "img", "font-family": "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"})  # fmt: skip
    SubElement(svg, "title").text = description
    SubElement(svg, "rect", {"width": f"{WIDTH}", "height": f"{HEIGHT}", "rx": "12", "fill": PAPER, "stroke": GRID})
    draw_label(svg, LEFT - 36, 46, title, size=24, weight=700)
    draw_label(svg, LEFT - 36, 72, about, fill=SOFT)
    gap, left = 12, LEFT - 36
    wide = (EDGE - left - gap * (len(tiles) - 1)) / len(tiles)
    for number, (name, value, colour) in enumerate(tiles):
        x = left + number * (wide + gap)
        box = {
            "x": format_number(x),
            "y": "92",
            "width": format_number(wide),
            "height": "74",
            "rx": "8",
            "fill": "#f6f8fa",
            "stroke": GRID,
        }
        SubElement(svg, "rect", box)
        draw_label(svg, x + 16, 116, name, size=13, fill=SOFT)
        draw_label(svg, x + 16, 150, value, size=26, weight=700, fill=colour)
    return svg


def to_text(svg: Element) -> str:
    """Return the chart as the text of a file."""
    return tostring(svg, encoding="unicode") + "\n"


def draw_heading(svg: Element, top: float, title: str, legend: Sequence[tuple[str, str]]) -> None:
    """Write the title of a field and the legend of its colours."""
    draw_label(svg, LEFT - 36, top - 22, title, size=15, weight=600)
    # One text element, so that the viewer places marks and words by their true widths.
    words = draw_label(svg, EDGE, top - 22, "", size=13, fill=SOFT, anchor="end")
    for number, (name, colour) in enumerate(legend):
        SubElement(words, "tspan", {"fill": colour}).text = f"{chr(0xA0) * 5 if number else ''}\u25a0{chr(0xA0)}"
        SubElement(words, "tspan").text = name


def draw_grid(svg: Element, field: tuple[int, int], ticks: Sequence[float], end: float, unit: str) -> None:
    """Draw the grid lines of a field, and the numbers beside and below it."""
    top, bottom = field
    for tick in ticks:
        y = bottom - tick / ticks[-1] * (bottom - top)
        SubElement(
            svg,
            "line",
            {
                "x1": format_number(LEFT),
                "x2": format_number(RIGHT),
                "y1": format_number(y),
                "y2": format_number(y),
                "stroke": GRID,
            },
        )
        draw_label(svg, LEFT - 10, y + 4, f"{tick:,g}{unit}", size=12, fill=SOFT, anchor="end")
    for tick in round_ticks(end, 10):
        if tick <= end:
            draw_label(svg, x_position(tick, end), bottom + 20, f"{tick:,g}", size=12, fill=SOFT, anchor="middle")


def draw_curves(svg: Element, begun: Sequence[float], ended: Sequence[float], end: float, most: float) -> None:
    """Draw in the upper field how many exports had begun and how many had ended at each moment."""
    top, bottom = UPPER

    def points(corners: Iterable[tuple[float, int]]) -> str:
        return " ".join(
            f"{format_number(x_position(at, end))},{format_number(bottom - count / most * (bottom - top))}"
            for at, count in corners
        )

    upper, lower = list(_step_points(begun, end)), list(_step_points(ended, end))
    area = points((*upper, *reversed(lower)))
    SubElement(svg, "polygon", {"points": area, "fill": UNDER_WAY, "fill-opacity": "0.9"})
    for corners, colour in ((upper, SUBMITTED), (lower, EXECUTED)):
        line = {"points": points(corners), "fill": "none", "stroke": colour, "stroke-width": "2"}
        SubElement(svg, "polyline", line)


def _step_points(instants: Sequence[float], end: float) -> Iterator[tuple[float, int]]:
    """Yield the corners of a curve that rises by one at each instant; if there are very many, steps are combined."""
    yield 0.0, 0
    before = 0
    by = max(len(instants) // (RIGHT - LEFT), 1)
    for count in range(by, len(instants) + 1, by):
        yield instants[count - 1], before
        yield instants[count - 1], count
        before = count
    yield end, len(instants)


def round_ticks(most: float, about: int = _TICKS) -> list[float]:
    """Return round numbers from 0, the last one at least `most`."""
    unit = 10.0 ** math.floor(math.log10(most / about))
    step = next(unit * by for by in _STEPS if unit * by * about >= most)
    return [number * step for number in range(math.ceil(most / step) + 1)]


def x_position(seconds: float, end: float) -> float:
    """Return the x coordinate of a moment on an axis of `end` seconds."""
    return LEFT + seconds / end * (RIGHT - LEFT)


def format_seconds(seconds: float) -> str:
    """Return a duration as text."""
    return "none" if seconds == math.inf else f"{seconds:.1f} s"


def draw_label(
    svg: Element,
    x: float,
    y: float,
    words: str,
    *,
    size: int = 14,
    weight: int = 400,
    fill: str = INK,
    anchor: str = "start",
) -> Element:
    """Draw a text, and return its element."""
    attributes = {
        "x": format_number(x),
        "y": format_number(y),
        "font-size": f"{size}",
        "font-weight": f"{weight}",
        "fill": fill,
        "text-anchor": anchor,
    }
    element = SubElement(svg, "text", attributes)
    element.text = words
    return element


def format_number(value: float) -> str:
    """Return a number as it is written in the chart."""
    return f"{value:.1f}".removesuffix(".0")


#: One colour for each process, in the order of their names.
PROCESS_COLOURS: Final = ("#c2410c", "#2563eb", "#7c3aed", "#a16207", "#0e7490")
_LINE: Final = 15  # the height of a line of small text


def draw_report(report: DrillReport) -> str:
    """Return the drill as a chart."""
    kills, judgement = len(report.history.kills), report.judgement
    about = f"{report.stack}; kill -9 at random moments, seed {report.seed}; a lease lasts {report.lease_seconds:g} s"
    tiles = (
        ("exports", f"{len(report.history.submissions):,}", INK),
        ("executed, all notified", f"{report.executed:,}", GOOD),
        ("lost", f"{judgement.exports_lost}", BAD if judgement.lost else GOOD),
        ("done twice", f"{judgement.exports_duplicated}", BAD if judgement.duplicated else GOOD),
        ("recovery, median", format_seconds(report.recovery_percentile(0.5)), INK),
        ("recovery, p99", format_seconds(report.recovery_percentile(0.99)), INK),
    )
    svg = new_sheet(_description(report), f"{kills} kills under load", about, tiles)
    _draw_exports(svg, report)
    _draw_recoveries(svg, report)
    return to_text(svg)


def _description(report: DrillReport) -> str:
    judgement = report.judgement
    return (
        f"{len(report.history.kills)} kills, {len(report.history.submissions)} exports, {judgement.exports_lost} lost,"
        f" {judgement.exports_duplicated} duplicated, recovery p50 {format_seconds(report.recovery_percentile(0.5))}, p99 {format_seconds(report.recovery_percentile(0.99))}"
    )


def _draw_exports(svg: Element, report: DrillReport) -> None:
    """Draw submitted and executed exports over time, with a red line for each kill."""
    top, bottom = UPPER
    end = _duration(report)
    begun = sorted(began for began, _ in report.spans)
    ended = sorted(end for _, end in report.spans if end != math.inf)
    y_ticks = round_ticks(max(len(begun), 1))
    draw_heading(
        svg,
        top,
        "Exports over time",
        (("submitted", SUBMITTED), ("executed, all notified", EXECUTED), ("kill -9", KILL)),
    )
    draw_grid(svg, UPPER, y_ticks, end, "")
    for each in report.recoveries:
        x = format_number(x_position(each.kill.killed_at, end))
        SubElement(svg, "line", {"x1": x, "x2": x, "y1": format_number(top), "y2": format_number(bottom), "stroke": KILL, "stroke-opacity": "0.45"})  # fmt: skip
    draw_curves(svg, begun, ended, end, y_ticks[-1])


def _draw_recoveries(svg: Element, report: DrillReport) -> None:
    """Draw the recovery time of each kill, at the moment of the kill."""
    top, bottom = LOWER
    end = _duration(report)
    finite = [each.seconds for each in report.recoveries if each.seconds != math.inf]
    ticks = round_ticks(max([*finite, 1.0]), 4)
    names = sorted({each.kill.process for each in report.recoveries})
    colours = dict(zip(names, PROCESS_COLOURS * len(names), strict=False))
    draw_heading(svg, top, "Recovery: until the API answers and all active exports have ended", tuple(colours.items()))
    draw_grid(svg, LOWER, ticks, end, " s")

    def y(seconds: float) -> float:
        return bottom - min(seconds, ticks[-1]) / ticks[-1] * (bottom - top)

    label_y = 0.0
    for share, name in ((0.5, "median"), (0.99, "p99")):
        value = report.recovery_percentile(share)
        if value != math.inf:
            SubElement(svg, "line", {"x1": format_number(LEFT), "x2": format_number(RIGHT), "y1": format_number(y(value)), "y2": format_number(y(value)), "stroke": INK, "stroke-dasharray": "5 4", "stroke-opacity": "0.6"})  # fmt: skip
            # Beside its line, or above the previous label if the two lines are too close.
            label_y = min(y(value) + 4, label_y - _LINE) if label_y else y(value) + 4
            draw_label(svg, RIGHT + 8, label_y, f"{name} {format_seconds(value)}", size=12)
    for each in report.recoveries:
        x, colour = format_number(x_position(each.kill.killed_at, end)), colours[each.kill.process]
        SubElement(svg, "line", {"x1": x, "x2": x, "y1": format_number(bottom), "y2": format_number(y(each.seconds)), "stroke": colour, "stroke-width": "2", "stroke-opacity": "0.55"})  # fmt: skip
        SubElement(svg, "circle", {"cx": x, "cy": format_number(y(each.seconds)), "r": "4", "fill": colour})
    draw_label(
        svg,
        (LEFT + RIGHT) / 2,
        bottom + 44,
        "seconds since the start of the drill",
        size=13,
        fill=SOFT,
        anchor="middle",
    )


def _duration(report: DrillReport) -> float:
    return max(report.history.seconds, 1.0)
