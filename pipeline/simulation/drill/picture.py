"""Draws a drill as an SVG file that fetches nothing from anywhere: exports over time, every kill, and how long it was felt."""

from __future__ import annotations

import math
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from pipeline.simulation.drill.report import Report
from pipeline.simulation.drill.svg import (
    BAD,
    EXECUTED,
    GOOD,
    INK,
    KILL,
    LEFT,
    LOWER,
    RIGHT,
    SOFT,
    SUBMITTED,
    UPPER,
    curves,
    grid,
    heading,
    label,
    n,
    sheet,
    span,
    ticks_of,
    written,
    x_of,
)

#: One colour a process, in the order of their names.
PROCESSES: Final = ("#c2410c", "#2563eb", "#7c3aed", "#a16207", "#0e7490")
_LINE: Final = 15  # from one line of small text to the next


def drawn(report: Report) -> str:
    """Return the drill as a picture."""
    kills, found = len(report.history.kills), report.judgement
    about = f"{report.stack}; kill -9 at random moments, seed {report.seed}; a lease lasts {report.lease_seconds:g} s"
    tiles = (
        ("exports", f"{len(report.history.submissions):,}", INK),
        ("executed, all told", f"{report.executed:,}", GOOD),
        ("lost", f"{found.exports_lost}", BAD if found.lost else GOOD),
        ("done twice", f"{found.exports_doubled}", BAD if found.doubled else GOOD),
        ("recovery, median", span(report.recovery(0.5)), INK),
        ("recovery, p99", span(report.recovery(0.99)), INK),
    )
    svg = sheet(_sentence(report), f"{kills} kills under load", about, tiles)
    _curves(svg, report)
    _felt(svg, report)
    return written(svg)


def _sentence(report: Report) -> str:
    found = report.judgement
    return (
        f"{len(report.history.kills)} kills, {len(report.history.submissions)} exports, {found.exports_lost} lost,"
        f" {found.exports_doubled} doubled, recovery p50 {span(report.recovery(0.5))}, p99 {span(report.recovery(0.99))}"
    )


def _curves(svg: Element, report: Report) -> None:
    """Exports submitted and executed over time; what lies between the two curves is under way. A red line is a kill."""
    top, bottom = UPPER
    end = _end(report)
    begun = sorted(began for began, _ in report.spans)
    ended = sorted(end for _, end in report.spans if end != math.inf)
    y_ticks = ticks_of(max(len(begun), 1))
    heading(
        svg,
        top,
        "Exports over time",
        (("submitted", SUBMITTED), ("executed, everybody told", EXECUTED), ("kill -9", KILL)),
    )
    grid(svg, UPPER, y_ticks, end, "")
    for each in report.recoveries:
        x = n(x_of(each.kill.at, end))
        SubElement(svg, "line", {"x1": x, "x2": x, "y1": n(top), "y2": n(bottom), "stroke": KILL, "stroke-opacity": "0.45"})  # fmt: skip
    curves(svg, begun, ended, end, y_ticks[-1])


def _felt(svg: Element, report: Report) -> None:
    """How long each kill was felt, at the moment of the kill."""
    top, bottom = LOWER
    end = _end(report)
    known = [each.seconds for each in report.recoveries if each.seconds != math.inf]
    ticks = ticks_of(max([*known, 1.0]), 4)
    names = sorted({each.kill.process for each in report.recoveries})
    colours = dict(zip(names, PROCESSES * len(names), strict=False))
    heading(svg, top, "Recovery: until the API answers and all that was under way has ended", tuple(colours.items()))
    grid(svg, LOWER, ticks, end, " s")

    def y(seconds: float) -> float:
        return bottom - min(seconds, ticks[-1]) / ticks[-1] * (bottom - top)

    apart = 0.0
    for share, name in ((0.5, "median"), (0.99, "p99")):
        value = report.recovery(share)
        if value != math.inf:
            SubElement(svg, "line", {"x1": n(LEFT), "x2": n(RIGHT), "y1": n(y(value)), "y2": n(y(value)), "stroke": INK, "stroke-dasharray": "5 4", "stroke-opacity": "0.6"})  # fmt: skip
            # Beside its line, and above the one before it where the two are as good as one.
            apart = min(y(value) + 4, apart - _LINE) if apart else y(value) + 4
            label(svg, RIGHT + 8, apart, f"{name} {span(value)}", size=12)
    for each in report.recoveries:
        x, colour = n(x_of(each.kill.at, end)), colours[each.kill.process]
        SubElement(svg, "line", {"x1": x, "x2": x, "y1": n(bottom), "y2": n(y(each.seconds)), "stroke": colour, "stroke-width": "2", "stroke-opacity": "0.55"})  # fmt: skip
        SubElement(svg, "circle", {"cx": x, "cy": n(y(each.seconds)), "r": "4", "fill": colour})
    label(svg, (LEFT + RIGHT) / 2, bottom + 44, "seconds since the drill began", size=13, fill=SOFT, anchor="middle")


def _end(report: Report) -> float:
    return max(report.history.seconds, 1.0)
