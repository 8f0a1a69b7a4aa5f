"""Draws a soak: exports over time, every fault with its duration, and the exports' times to the end."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

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
    draw_curves,
    draw_grid,
    draw_heading,
    draw_label,
    format_number,
    format_seconds,
    new_sheet,
    round_ticks,
    to_text,
    x_position,
)
from pipeline.simulation.evidence import Row
from tests.system.soak.history import Fault, Record

OUTAGE: Final = "#c9d1db"
SLOW: Final = "#c2410c"
#: The number of equal intervals for the exports' times.
INTERVALS: Final = 120

Span = tuple[float, float]


def draw_soak(record: Record, exports: Sequence[Row], *, stack: str, violations: int, figures: dict[str, Any]) -> str:
    """Return the soak as an SVG picture; `figures` are by name."""
    spans = [
        (row["accepted_at"].timestamp() - record.began_at, row["finished_at"].timestamp() - record.began_at)
        for row in exports
        if row["finished_at"] is not None
    ]
    end = max([1.0, *(fault.until for fault in record.faults), *(ended for _, ended in spans)])
    accept = figures["accept p95 outside outages, against that without faults"]
    terminal = figures["time to terminal p99 outside outages, s"]
    tiles = (
        ("exports", f"{len(exports):,}", INK),
        ("executed", f"{sum(row['state'] == 'executed' for row in exports):,}", GOOD),
        ("faults", f"{len(record.faults):,}", INK),
        ("violations", f"{violations}", BAD if violations else GOOD),
        ("acceptance, p95", "none" if accept is None else f"x {accept:.1f}", INK),
        ("to the end, p99", format_seconds(math.inf if terminal is None else terminal), INK),
    )
    minutes = round(end / 60)
    sentence = f"{len(exports)} exports and {len(record.faults)} faults in {minutes} minutes, {violations} violations"
    about = f"{stack}; three workers, a process for deliveries, two APIs, every task message twice or lost, seed {record.seed}; p95 against that without faults"
    svg = new_sheet(sentence, f"{minutes} minutes of faults under load", about, tiles)
    _exports(svg, record.faults, spans, end)
    _times(svg, spans, end)
    return to_text(svg)


def _exports(svg: Element, faults: Sequence[Fault], spans: Sequence[Span], end: float) -> None:
    ticks = round_ticks(max(len(spans), 1))
    legend = (
        ("accepted", SUBMITTED),
        ("ended", EXECUTED),
        ("fault", KILL),
        ("database or message broker away", OUTAGE),
    )
    draw_heading(svg, UPPER[0], "Exports over time", legend)
    draw_grid(svg, UPPER, ticks, end, "")
    top, bottom = UPPER
    for fault in faults:
        x = x_position(fault.at, end)
        if fault.outage:
            wide = max(x_position(fault.until, end) - x, 0.5)
            box = {
                "x": format_number(x),
                "y": format_number(top),
                "width": f"{wide:.2f}",
                "height": format_number(bottom - top),
                "fill": OUTAGE,
            }
            SubElement(svg, "rect", box)
        else:
            # Ticks at the foot: a thousand lines through the field would hide everything else.
            line = {
                "x1": format_number(x),
                "x2": format_number(x),
                "y1": format_number(bottom - 10),
                "y2": format_number(bottom),
                "stroke": KILL,
            }
            SubElement(svg, "line", line | {"stroke-opacity": "0.45"})
    draw_curves(svg, sorted(began for began, _ in spans), sorted(ended for _, ended in spans), end, ticks[-1])


def _times(svg: Element, spans: Sequence[Span], end: float) -> None:
    stretches = list(_split_intervals(spans, end))
    ticks = round_ticks(max([1.0, *(longest for _, _, longest in stretches)]), 4)
    draw_heading(
        svg,
        LOWER[0],
        "From acceptance to the end, by when it ended",
        (("half of them within", EXECUTED), ("all within", SLOW)),
    )
    draw_grid(svg, LOWER, ticks, end, " s")
    top, bottom = LOWER
    for place, colour in ((2, SLOW), (1, EXECUTED)):
        points = (
            f"{format_number(x_position(each[0], end))},{format_number(bottom - each[place] / ticks[-1] * (bottom - top))}"
            for each in stretches
        )
        SubElement(
            svg, "polyline", {"points": " ".join(points), "fill": "none", "stroke": colour, "stroke-width": "1.5"}
        )
    draw_label(
        svg, (LEFT + RIGHT) / 2, bottom + 44, "seconds since the soak began", size=13, fill=SOFT, anchor="middle"
    )


def _split_intervals(spans: Sequence[Span], end: float) -> Iterator[tuple[float, float, float]]:
    """Yield the middle of each interval with ended exports, and the median and the maximum of their times."""
    length = end / INTERVALS
    by_stretch: dict[int, list[float]] = {}
    for began, ended in spans:
        by_stretch.setdefault(int(ended / length), []).append(ended - began)
    for number, times in sorted(by_stretch.items()):
        yield min((number + 0.5) * length, end), sorted(times)[len(times) // 2], max(times)
