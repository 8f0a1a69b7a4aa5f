"""The pictures of logos: what somebody uploads becomes a small PNG of plain pixels, drawn by the processes of the PDF engine.

Only PNG and JPEG are taken: SVG can hold scripts, and name files and addresses that the engine would read. The stored
picture has no metadata, no transparency and no colour profile, so it fits PDF/A and reveals nothing of its maker.
"""

import json
import struct
from dataclasses import dataclass
from typing import Final

from pipeline.core.errors import RendererCrashed, StepFailed, ValidationFailed
from pipeline.documents.pdf.pictures import PICTURES
from pipeline.documents.pdf.supervisor import RENDERER

#: The largest upload.
MAX_BYTES: Final = 512 * 1024

#: The longest side of an upload, and the shortest one, in pixels.
MAX_SIDE: Final = 4096
MIN_SIDE: Final = 16

#: A logo is at most so many times as wide as high, and so many times as high as wide.
MAX_WIDE: Final = 12
MAX_HIGH: Final = 3

#: The stored picture fits into so many pixels.
STORED_WIDTH: Final = 720
STORED_HEIGHT: Final = 192

#: The largest stored picture: it is in each printed document, and carriers refuse large files.
MAX_STORED_BYTES: Final = 128 * 1024

#: A page shows the picture within this width and height, but not coarser than this.
PRINTED_WIDTH_MM: Final = 60
PRINTED_HEIGHT_MM: Final = 15
LEAST_PIXELS_PER_MM: Final = 6

_FIELD: Final = "/logo"
_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_JPEG: Final = b"\xff\xd8\xff"
#: The JPEG segments that give height and width (SOF0 to SOF15 without DHT, JPG and DAC).
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Logo:
    """A logo as it is stored and printed: a PNG, and its size in pixels."""

    picture: bytes
    width: int
    height: int

    @property
    def printed_width_um(self) -> int:
        """The width on a page in micrometres; the height follows from the proportions."""
        by_height = 1000 * PRINTED_HEIGHT_MM * self.width // self.height
        return min(1000 * PRINTED_WIDTH_MM, by_height, 1000 * self.width // LEAST_PIXELS_PER_MM)


def prepare_logo(body: bytes) -> Logo:
    """Return the uploaded picture as it is stored.

    Raises ValidationFailed, which names what is wrong with the picture, and RendererUnavailable if this machine cannot
    draw it now.
    """
    if len(body) > MAX_BYTES:
        raise _refuse(f"has {len(body):,} bytes; send at most {MAX_BYTES:,}")
    width, height = _read_size(body)
    if max(width, height) > MAX_SIDE or min(width, height) < MIN_SIDE:
        raise _refuse(f"has {width} x {height} pixels; each side must have {MIN_SIDE} to {MAX_SIDE:,}")
    if width > MAX_WIDE * height or height > MAX_HIGH * width:
        raise _refuse(
            f"has {width} x {height} pixels; it may be at most {MAX_WIDE} times as wide as high, and {MAX_HIGH} times as"
            " high as wide"
        )
    stored_width = min(width, STORED_WIDTH, STORED_HEIGHT * width // height)
    facts = json.dumps({"width": width, "height": height}).encode()
    try:
        page = RENDERER.set_document("logo.typ", facts, {}, 0, body)
        picture = PICTURES.draw_first_page(page, stored_width)
    except (StepFailed, RendererCrashed) as error:
        raise _refuse("cannot be drawn: the file is damaged or too complex; save it again as PNG") from error
    if len(picture) > MAX_STORED_BYTES:
        raise _refuse(
            f"has too much detail: drawn for print, it has {len(picture):,} bytes, and {MAX_STORED_BYTES:,} are allowed;"
            " use a picture with fewer colours, not a photo"
        )
    return read_logo(picture)


def read_logo(picture: bytes) -> Logo:
    """Return the logo of a stored picture."""
    return Logo(picture, *_read_size(picture))


def _read_size(body: bytes) -> tuple[int, int]:
    # Before the engine unpacks anything: a small file may claim billions of pixels.
    if body.startswith(_PNG) and len(body) >= len(_PNG) + 8:
        width, height = struct.unpack_from(">II", body, len(_PNG))
        return width, height
    if body.startswith(_JPEG):
        return _read_jpeg_size(body)
    raise _refuse("is neither PNG nor JPEG; save it as PNG, with text drawn as shapes or pixels")


def _read_jpeg_size(body: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(body) and body[at] == 0xFF:
        marker, length = body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", body, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + max(length, 2)
    raise _refuse("is a damaged JPEG: it does not say its size; save it again as PNG")


def _refuse(reason: str) -> ValidationFailed:
    return ValidationFailed(f"the logo {reason}", field=_FIELD)
