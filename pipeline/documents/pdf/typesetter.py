"""Sets printed documents of any length: a document that is too long for the engine's memory is set in parts and joined."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipeline.core.fonts import unsupported_characters
from pipeline.documents.pdf.logos import read_logo
from pipeline.documents.pdf.supervisor import RENDERER, Renderer
from pipeline.documents.schemas.invoice import Invoice

#: The bytes also depend on the versions of the engine and the joiner.
ENGINE = f"typst-{version('typst')}/pypdf-{version('pypdf')}"

#: The characters of the longest document that is set whole. A document in parts takes twice the time, because its pages
#: are counted first.
WHOLE_CHARACTERS = 450_000

#: The characters of one part. A process sets several, and a character needs up to 400 bytes: so it stays below 300 MB.
PART_CHARACTERS = 220_000

#: The rows of the longest document that is tagged, and so PDF/UA-1. Tags cost no measurable time, but about 3 KB per row: an invoice of 3
#: lines has 69 KB instead of 42, one of 100 lines 440 instead of 117. One of 300 lines would have 1,185 KB instead of 264,
#: more than some carriers accept. For a longer document, or one in parts, the web page is the accessible form.
TAGGED_ROWS = 100

#: The character that replaces a character without a font.
MISSING = "\u25a1"

# Marks that change the direction of all text after them are removed: one value must not reverse its neighbours. Instead
# each value with a right-to-left letter is isolated, and its first letter decides its direction.
_DIRECTION_MARKS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\u200f\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ISOLATE_MARKS = ("\u2068", "\u2069")


@dataclass(frozen=True)
class TypstTemplate:
    """A Typst template and its inputs for a part of the rows: the facts as JSON, and remarks on the part.

    `attachment` makes the file (UTF-8) that is attached to the PDF; None for a PDF without one. With `letterhead`, the
    first page shows the exporter's logo.
    """

    name: str
    facts: Callable[[Invoice, slice], bytes]
    remarks: Callable[[Invoice, slice], dict[str, Any]]
    attachment: Callable[[Invoice], bytes] | None = None
    letterhead: bool = False


def plan_parts(sizes: Iterable[int]) -> list[slice]:
    """Return one slice for a document that is set whole, or the slices of its parts; `sizes` are the rows' characters."""
    listed = list(sizes)
    return split_rows(listed, WHOLE_CHARACTERS if sum(listed) <= WHOLE_CHARACTERS else PART_CHARACTERS)


def split_rows(sizes: Iterable[int], limit: int) -> list[slice]:
    """Return slices that divide rows of `sizes` characters into parts of at most `limit`, each with at least one row."""
    parts: list[slice] = []
    start = end = filled = 0
    for end, size in enumerate(sizes):
        if filled and filled + size > limit:
            parts.append(slice(start, end))
            start, filled = end, 0
        filled += size
    return [*parts, slice(start, end + 1)]


def typeset(invoice: Invoice, template: TypstTemplate, parts: Sequence[slice], renderer: Renderer = RENDERER) -> bytes:
    """Return the PDF of the invoice, set in `parts` (slices of its rows), with pages numbered x of y throughout.

    Raises RendererCrashed, RendererUnavailable and StepFailed.
    """
    midnight = datetime.combine(invoice.header.invoice_date, datetime.min.time(), UTC)
    timestamp = int(midnight.timestamp())

    logo = read_logo(invoice.logo) if invoice.logo is not None and template.letterhead else None
    pictures = [None if logo is None or at > 0 else logo.picture for at in range(len(parts))]

    def part(at: int, first_page: int, total_pages: int | None) -> tuple[bytes, dict[str, Any]]:
        place = {"first": at == 0, "last": at == len(parts) - 1, "first_page": first_page, "total_pages": total_pages}
        shown = {"french": invoice.french, "logo_um": None if logo is None else logo.printed_width_um}
        remarks = {**place, **shown, **template.remarks(invoice, parts[at])}
        return _printable_facts(template.facts(invoice, parts[at])), remarks

    attached = template.attachment(invoice) if template.attachment else None
    if len(parts) == 1:
        tagged = parts[0].stop - parts[0].start <= TAGGED_ROWS
        return renderer.set_document(
            template.name, *part(0, 1, None), timestamp, attached, logo=pictures[0], tagged=tagged
        )
    # The first page shows the total number of pages: count the pages of all parts, then set them.
    counts = [renderer.count_pages(template.name, *part(at, 1, None), pictures[at]) for at in range(len(parts))]
    numbered = [(1 + sum(counts[:at]), sum(counts)) for at in range(len(parts))]
    return renderer.join_documents(
        [
            renderer.set_document(
                template.name, *part(at, *pages), timestamp, attached if at == 0 else None, logo=pictures[at]
            )
            for at, pages in enumerate(numbered)
        ]
    )


def _printable_facts(facts: bytes) -> bytes:
    if facts.isascii():
        return facts
    text = facts.decode()
    # PDF/A forbids the font's box for a missing glyph, so the character of an empty box replaces it.
    text = text.translate({**_DIRECTION_MARKS, **dict.fromkeys(map(ord, unsupported_characters(text)), MISSING)})
    return (_STRING.sub(_isolate, text) if _RIGHT_TO_LEFT.search(text) else text).encode()


def _isolate(string: re.Match[str]) -> str:
    return f'"{_ISOLATE_MARKS[0]}{string[1]}{_ISOLATE_MARKS[1]}"' if _RIGHT_TO_LEFT.search(string[1]) else string[0]
