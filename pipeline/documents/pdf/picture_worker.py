"""The process that draws pages of PDFs as pictures, the only user of PDFium: one request at a time, on stdin and stdout.

PDFium is native code that reads whole files, so it runs in no process that answers requests. It gets only the bytes of
the document, and no setting or secret.
"""

import struct
import zlib
from typing import Final

import pypdfium2

from pipeline.documents.pdf.worker import EngineMessage, main

#: A page that is longer than this many widths is drawn smaller.
_MAX_RATIO: Final = 3.0

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_COMPRESSION: Final = 3  # of a page with text, higher levels save a tenth and take three times as long

#: One empty page.
_TEST_PDF: Final = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


class PictureEngine:
    """PDFium. A document is open only during a request."""

    def handle_request(self, request: EngineMessage) -> EngineMessage:
        """Return the number of pages, and the picture of one; raises RuntimeError if PDFium cannot read the document."""
        (body,) = request.bodies
        with pypdfium2.PdfDocument(body) as pdf:
            head = {"pages": len(pdf)}
            match request.head["task"]:
                case "count":
                    return EngineMessage(head)
                case "draw":
                    return EngineMessage(head, [_draw_page(pdf, request.head["page"], request.head["width"])])
                case task:
                    raise RuntimeError(f"the picture engine does not know task {task!r}")

    def self_test(self) -> None:
        """Draw a test page; raises RuntimeError or OSError if this machine does not allow it."""
        self.handle_request(EngineMessage({"task": "draw", "page": 1, "width": 9}, [_TEST_PDF]))


def _draw_page(pdf: pypdfium2.PdfDocument, number: int, width: int) -> bytes:
    if not 1 <= number <= len(pdf):
        raise RuntimeError(f"it has no page {number}; its pages are 1 to {len(pdf)}")
    page = pdf[number - 1]
    wide, high = page.get_size()
    bitmap = page.render(scale=min(width / wide, width * _MAX_RATIO / high), rev_byteorder=True)
    pixels = memoryview(bitmap.buffer).cast("B")
    return encode_png(pixels, bitmap.width, bitmap.height, bitmap.stride)


def encode_png(pixels: memoryview, width: int, height: int, stride: int) -> bytes:
    """Return a PNG of rows of RGB values, eight bits each; a row begins every `stride` bytes."""
    # A zero before each row says that its values are not filtered.
    rows = b"".join(b"\0" + bytes(pixels[at : at + width * 3]) for at in range(0, height * stride, stride))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, _COMPRESSION)), (b"IEND", b""))
    return _PNG + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


if __name__ == "__main__":
    main(PictureEngine)
