"""The characters that the vendored fonts can print. A missing one becomes a finding instead of an empty box."""

import json
import unicodedata
from functools import cache
from pathlib import Path

FONTS = Path(__file__).resolve().parents[2] / "templates" / "fonts"

#: Characters that are never drawn: joiners, direction marks, variation selectors, the soft hyphen.
_INVISIBLE = frozenset(
    "\u00ad\u034f\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
) | frozenset(map(chr, range(0xFE00, 0xFE10)))


def font_files() -> list[Path]:
    """Return the vendored font files, by name."""
    return sorted(path for path in FONTS.iterdir() if path.suffix in (".otf", ".ttf"))


@cache
def printable_characters() -> frozenset[str]:
    """Return every character that one of the fonts has, from the list beside the fonts."""
    # The fonts themselves take half a second to read.
    ranges: list[tuple[int, int]] = json.loads((FONTS / "characters.json").read_bytes())
    return _INVISIBLE.union(*(map(chr, range(first, last + 1)) for first, last in ranges))


def unsupported_characters(text: str) -> list[str]:
    """Return the characters of `text` that no font has, each once, in the order of the text."""
    if text.isascii():
        return []
    known = printable_characters()
    missing = dict.fromkeys(character for character in text if character not in known)
    # A letter with a combining accent prints if a font has the composed character.
    composed = unicodedata.normalize("NFC", text)
    return [character for character in missing if character in composed]
