"""Characters that a customs document must not hold, or cannot show: found in every text of a unit, wherever it stands."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

from pipeline.documents.fonts import unsupported_characters
from pipeline.schemas.plan import Unit, as_json
from pipeline.schemas.problems import Finding

#: They turn the direction of what follows, so that a reader sees other words than a machine reads.
_TURNING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Joiners within a word are part of some scripts and of emoji.
_JOINERS: Final = frozenset("\u200c\u200d\ufe0e\ufe0f")


def check_characters(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield the texts that hold characters which turn, hide or cannot be printed."""
    if unit.model_dump_json().isascii():
        return  # as most are; to ask that of the whole costs a tenth of asking it of every text
    for here, text in _texts(as_json(unit), pointer):
        if text.isascii():
            continue
        if turning := sorted(_TURNING.intersection(text)):
            yield Finding(
                rule="D02",
                severity="block",
                pointer=here,
                message=f"The text holds {_named(turning)}, so that people read other words than systems do.",
                remedy="Type the text anew, without characters that change the direction of writing.",
            )
        hidden = sorted({c for c in text if _is_hidden(c)})
        if hidden:
            yield Finding(
                rule="D02",
                severity="warn",
                pointer=here,
                message=f"The text holds {_named(hidden)}, which nobody sees but systems compare.",
                remedy="Type the text anew.",
            )
        lacking = unsupported_characters("".join(c for c in text if c not in _TURNING and not _is_hidden(c)))
        if lacking:
            yield Finding(
                rule="D01",
                severity="warn",
                pointer=here,
                message=f"The fonts of the PDF documents lack {' '.join(lacking)}; a reader will see an empty box.",
                remedy="Write the name in Latin letters too, or install a font that has the characters.",
            )


def _is_hidden(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cf", "Cc", "Zl", "Zp")
        and character not in _TURNING
        and character not in _JOINERS
    )


def _named(characters: list[str]) -> str:
    named = [f"U+{ord(c):04X} ({unicodedata.name(c, 'unnamed').lower()})" for c in characters[:4]]
    return ", ".join(named) + (f" and {len(characters) - 4} more" if len(characters) > 4 else "")


def _texts(value: object, here: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield here, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{here}/{str(name).replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, f"{here}/{place}")
