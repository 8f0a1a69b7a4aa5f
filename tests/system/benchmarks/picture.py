"""The picture of a run: where an export's processor time goes, drawn as SVG from the figures of S2 and S3."""

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from tests.system.benchmarks.figures import Comparison
from tests.system.benchmarks.processor import BROKER, DATABASE, PDF_ENGINE, SERVICE

_TEMPLATE: Final = (Path(__file__).parent / "picture.svg.j2").read_text(encoding="utf-8")
_COLOURS: Final = {SERVICE: "#2f6f8f", PDF_ENGINE: "#c77d2e", DATABASE: "#5b8c5a", BROKER: "#8a6d9e"}
_WIDTH: Final = 520.0
#: Of the first version of the service, which this benchmark cannot run. Measured on the machine of the picture in docs.
_FIRST_VERSION: Final = {SERVICE: 123.0, PDF_ENGINE: 81.0, DATABASE: 35.0, BROKER: 2.0}


def draw(found: Comparison) -> str:
    """Return one bar for each side and one for the first version, divided by kind of process."""
    spent = {
        side: {kind: found.median(side, kind) for kind in _COLOURS if kind in measures}
        for side, measures in found.rounds.items()
    }
    spent["the service, first version"] = _FIRST_VERSION
    longest = max(sum(by_kind.values()) for by_kind in spent.values())
    bars: list[dict[str, Any]] = []
    for side, by_kind in spent.items():
        x, parts = 0.0, []
        for kind, colour in _COLOURS.items():
            milliseconds = by_kind.get(kind, 0.0)
            width = milliseconds / longest * _WIDTH
            parts.append({"x": x, "width": width, "colour": colour, "ms": milliseconds})
            x += width
        bars.append({"side": side, "parts": parts, "end": x, "ms": sum(by_kind.values())})
    bars.sort(key=lambda bar: bar["ms"])
    return (
        Environment(autoescape=True, keep_trailing_newline=True)
        .from_string(_TEMPLATE)
        .render(bars=bars, colours=_COLOURS)
    )
