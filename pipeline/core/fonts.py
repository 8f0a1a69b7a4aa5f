"""The characters that the vendored fonts can print. A missing one becomes a finding instead of an empty box."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont

FONTS = Path(__file__).resolve().parents[2] / "templates" / "fonts"

#: Characters that are never drawn: joiners, direction marks, variation selectors, the soft hyphen.
_INVISIBLE = frozenset(
    "\u00ad\u034f\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
) | frozenset(map(chr, range(0xFE00, 0xFE10)))


def font_files() -> list[Path]:
    """Return the vendored font files, by name."""
    return sorted(path for path in FONTS.iterdir() if path.suffix in (".otf", ".ttf"))


#: Fonts that the templates use only for some of their characters (`covers` in templates/documents/page.typ).
FONT_RANGES = {"NanumSquareR.ttf": (range(0x1100, 0x1200), range(0x3130, 0x3190), range(0xAC00, 0xD7A4))}


@cache
def printable_characters() -> frozenset[str]:
    """Return every character that one of the fonts has."""
    drawn: set[int] = set()
    for path in font_files():
        with TTFont(path, lazy=True) as font:
            has = font.getBestCmap().keys()
        wanted = FONT_RANGES.get(path.name)
        drawn.update(has if wanted is None else (code for code in has if any(code in some for some in wanted)))
    return frozenset(map(chr, drawn)) | _INVISIBLE


def unsupported_characters(text: str) -> list[str]:
    """Return the characters of `text` that no font has, each once, in the order of the text."""
    if text.isascii():
        return []
    known = printable_characters()
    missing = dict.fromkeys(character for character in text if character not in known)
    # A letter with a combining accent prints if a font has the composed character.
    composed = unicodedata.normalize("NFC", text)
    return [character for character in missing if character in composed]
