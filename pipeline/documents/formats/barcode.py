"""Barcodes as paths that the templates draw: GS1-128 for packages, Code 128 for trucks."""

from itertools import groupby
from typing import Final

#: The application identifier of an SSCC (GS1 General Specifications, section 3.2).
_SSCC: Final = "00"


def sscc_bars(sscc: str) -> str:
    """Return the bars of the GS1-128 symbol of an SSCC as an SVG path, in modules: 156 wide, 1 high.

    The quiet zones of ten modules on both sides are not part of it.
    """
    from barcode.codex import Gs1_128  # noqa: PLC0415 - only printing needs it, and it loads what draws pictures

    (modules,) = Gs1_128(_SSCC + sscc).build()
    return _draw_bars(modules)


def code128_bars(text: str) -> tuple[int, str]:
    """Return the width in modules of the Code 128 symbol of an ASCII text, and its bars as for `sscc_bars`."""
    from barcode.codex import Code128  # noqa: PLC0415 - as above

    (modules,) = Code128(text).build()
    return len(modules), _draw_bars(modules)


def _draw_bars(modules: str) -> str:
    bars, at = [], 0
    for module, run in groupby(modules):
        width = len(list(run))
        if module == "1":
            bars.append(f"M{at} 0h{width}v1h-{width}z")
        at += width
    return "".join(bars)
