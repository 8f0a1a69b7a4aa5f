"""Reads printed pages back: each text with its place and width, and texts that overlap."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import pairwise
from typing import Any

from fontTools.ttLib import TTFont
from pypdf import PdfReader

from pipeline.core.fonts import FONTS

#: In points: how far text may seem to exceed its place (kerning is not measured), the side margins of the paper, and the
#: blank foot that printers need.
SLACK, SIDE, FOOT = 2.5, 39.0, 16.0
#: Kerning makes a long line narrower by up to half a percent.
KERNED = 0.995

#: Letters whose form and width depend on their neighbours.
_JOINING = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")


@dataclass(frozen=True)
class Piece:
    """A run of text on a page; in points from the left and from the bottom."""

    page: int
    x: float
    y: float
    width: float
    text: str


@dataclass(frozen=True)
class PrintedDocument:
    """A printed document: its pieces of text in drawing order, and the width of its pages."""

    width: float
    pages: int
    pieces: tuple[Piece, ...]

    def text(self, page: int | None = None) -> str:
        """Return the text of one page, or of all pages, without spaces and break points."""
        joined = "".join(each.text for each in self.pieces if page in {None, each.page})
        return "".join(joined.replace("\u200b", "").split())

    def list_faults(self) -> Iterator[str]:
        """Yield each piece that leaves the margins of the paper, or overlaps another piece."""
        rows: defaultdict[tuple[int, int], list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            rows[piece.page, round(piece.y)].append(piece)
            if not SIDE - SLACK < piece.x <= piece.x + piece.width < self.width - SIDE + SLACK:
                yield f"page {piece.page} leaves the margins: {piece.text!r} from {piece.x} over {piece.width}"
            if piece.y < FOOT:
                yield f"page {piece.page} leaves the paper at its foot: {piece.text!r} at {piece.y}"
        for (page, _), row in rows.items():
            row.sort(key=lambda each: each.x)
            for left, right in pairwise(row):
                if left.x + left.width * KERNED > right.x + SLACK and not _JOINING.search(left.text):
                    yield f"page {page}: {left.text!r} runs into {right.text!r}"


def read_printed_document(body: bytes) -> PrintedDocument:
    """Return the printed text of a PDF without running heads and watermark, which are clipped or rotated on purpose."""
    reader = PdfReader(BytesIO(body))
    found: list[Piece] = []

    def keep_page(page: int) -> Any:
        def record_text(text: str, cm: list[float], tm: list[float], font: Any, size: float) -> None:
            turned = abs(tm[1] * cm[0] + tm[0] * cm[1]) > 0.01
            x, y = tm[4] * cm[0] + tm[5] * cm[2] + cm[4], tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
            if text.strip() and font and not turned and y < top - 40:
                width = _width(str(font["/BaseFont"]), text.strip()) * (abs(tm[0] * cm[0]) * size)
                found.append(Piece(page, round(x, 1), round(y, 1), round(width, 1), text.strip()))

        return record_text

    for number, page in enumerate(reader.pages, start=1):
        top = float(page.mediabox.height)
        page.extract_text(visitor_text=keep_page(number))
    return PrintedDocument(float(reader.pages[0].mediabox.width), len(reader.pages), tuple(found))


def _width(font: str, text: str) -> float:
    # In em. A character that the font lacks, such as a joining or direction mark, takes no room.
    widths = _advances(font.rsplit("+", maxsplit=1)[-1].removesuffix("-Identity-H"))
    return sum(widths.get(character, 0.0) for character in text)


@cache
def _advances(name: str) -> dict[str, float]:
    (path,) = [each for each in FONTS.iterdir() if each.stem in {name, f"{name}Full"}]
    with TTFont(path) as font:
        em, across = font["head"].unitsPerEm, font["hmtx"].metrics
        return {chr(code): across[glyph][0] / em for code, glyph in font.getBestCmap().items()}
