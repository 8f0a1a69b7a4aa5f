"""Checks every text of a plan for characters that a customs document must not contain (D02) or cannot print (D01)."""

from collections.abc import Iterator

from pydantic import BaseModel

from pipeline.core.findings import Finding
from pipeline.core.fonts import unsupported_characters
from pipeline.core.text_safety import bidi_controls, describe_characters, invisible_characters, stacked_marks
from pipeline.exports.schemas.plan import as_json


def check_characters(part: BaseModel, pointer: str) -> Iterator[Finding]:
    """Yield the texts of a part of the plan with bidirectional, invisible, stacked or unprintable characters."""
    if part.model_dump_json().isascii():
        return  # most parts are ASCII; one test of the whole costs a tenth of a test per text
    for here, text in _iter_texts(as_json(part), pointer):
        if not text.isascii():
            yield from _check_text(text, here)


def _check_text(text: str, here: str) -> Iterator[Finding]:
    turns, hides, piles = bidi_controls(text), invisible_characters(text), stacked_marks(text)
    for characters, why, remedy in (
        (
            turns,
            "so people read other words than systems do",
            "Type the text again without characters that change the direction of writing.",
        ),
        (
            hides,
            "which are invisible to people but not to systems",
            "Type the text again; a copied text may contain invisible characters.",
        ),
        (
            piles,
            "stacked on one letter, so they print over other fields",
            "Type the text again with only the accents that the language has.",
        ),
    ):
        if characters:
            yield Finding.blocking("D02", here, f"The text contains {describe_characters(characters)}, {why}.", remedy)
    lacking = unsupported_characters("".join(c for c in text if c not in turns and c not in hides))
    if lacking:
        yield Finding.warning(
            "D01",
            here,
            f"The fonts of the PDF documents lack {describe_characters(lacking)}; the PDF shows empty boxes.",
            "Add the text in Latin letters, or install a font that has the characters.",
        )


def _iter_texts(value: object, here: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield here, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _iter_texts(inner, f"{here}/{str(name).replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _iter_texts(inner, f"{here}/{place}")
