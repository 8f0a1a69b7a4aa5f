"""The list of characters beside the fonts, made from the fonts. `make fonts` writes it."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from fontTools.ttLib import TTFont

from pipeline.core.fonts import FONTS, font_files

CHARACTERS: Final = FONTS / "characters.json"

REMEDY: Final = "run `make fonts`"

#: Fonts that the templates use only for some of their characters (`covers` in templates/documents/page.typ).
FONT_RANGES: Final = {"NanumSquareR.ttf": (range(0x1100, 0x1200), range(0x3130, 0x3190), range(0xAC00, 0xD7A4))}

_RANGES_A_LINE: Final = 8


def read_fonts() -> set[int]:
    """Return the code of every character that one of the fonts has and the templates use."""
    drawn: set[int] = set()
    for path in font_files():
        with TTFont(path, lazy=True) as font:
            has = font.getBestCmap().keys()
        wanted = FONT_RANGES.get(path.name)
        drawn.update(has if wanted is None else (code for code in has if any(code in some for some in wanted)))
    return drawn


def format_ranges(codes: Iterable[int]) -> str:
    """Return the codes as JSON: pairs of the first and the last code of each range."""
    ordered = sorted(codes)
    ends = [code for code, after in pairwise([*ordered, ordered[-1] + 2]) if after > code + 1]
    starts = [code for before, code in pairwise([ordered[0] - 2, *ordered]) if code > before + 1]
    pairs = [f"[{first}, {last}]" for first, last in zip(starts, ends, strict=True)]
    lines = [", ".join(pairs[at : at + _RANGES_A_LINE]) for at in range(0, len(pairs), _RANGES_A_LINE)]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    CHARACTERS.write_text(format_ranges(read_fonts()), encoding="utf-8")
