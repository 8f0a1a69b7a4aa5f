"""The picture of a run: where an export's processor time goes, drawn as SVG from the figures of S2 and S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from tests.system.benchmarks.figures import Comparison
from tests.system.benchmarks.interleave import PROCESSOR
from tests.system.benchmarks.processor import BROKER, DATABASE, PDF_ENGINE, SERVICE

_TEMPLATE: Final = (Path(__file__).parent / "picture.svg.j2").read_text(encoding="utf-8")
_COLOURS: Final = {SERVICE: "#2f6f8f", PDF_ENGINE: "#c77d2e", DATABASE: "#5b8c5a", BROKER: "#8a6d9e"}
_WIDTH: Final = 520.0


def draw(found: Comparison) -> str:
    """Return one bar for each side, divided by kind of process."""
    longest = max(found.median(side, PROCESSOR) for side in found.rounds)
    bars: list[dict[str, Any]] = []
    for side, measures in found.rounds.items():
        x, parts = 0.0, []
        for kind, colour in _COLOURS.items():
            spent = found.median(side, kind) if kind in measures else 0.0
            width = spent / longest * _WIDTH
            parts.append({"x": x, "width": width, "colour": colour, "ms": spent})
            x += width
        bars.append({"side": side, "parts": parts, "end": x, "ms": found.median(side, PROCESSOR)})
    bars.sort(key=lambda bar: bar["ms"])
    return (
        Environment(autoescape=True, keep_trailing_newline=True)
        .from_string(_TEMPLATE)
        .render(bars=bars, colours=_COLOURS)
    )
