"""Pictures of the pages of PDFs, drawn by a process of their own, a limited number at a time, and kept for a while."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from pipeline.core.errors import RendererUnavailable
from pipeline.documents.pdf.supervisor import Renderer, RendererLimits
from pipeline.documents.pdf.worker import EngineMessage

#: The width of a picture in pixels.
WIDTH: Final = 1100

#: A larger document is not drawn.
MAX_PDF_BYTES: Final = 32 * 1024**2

#: The most threads that wait for pictures: others serve the rest of the service.
MAX_WAITING: Final = 12

#: The most bytes of pictures that a process keeps; a page has some hundred thousand.
MAX_KEPT_BYTES: Final = 32 * 1024**2

_LIMITS: Final = RendererLimits(seconds=20, cpu_seconds=10, resident_bytes=256 * 1024**2)


class PictureRenderer(Renderer):
    """Draws pages of PDFs. Threads may share it."""

    refusal = "PDFium cannot read the document"

    def __init__(self, limits: RendererLimits = _LIMITS) -> None:
        super().__init__(limits, "pipeline.documents.pdf.picture_worker")
        self._waiting = 0
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._page_counts: OrderedDict[str, int] = OrderedDict()
        self._keeping = threading.Lock()

    @property
    def waiting(self) -> int:
        """The number of threads that wait for a picture."""
        return self._waiting

    def count_pdf_pages(self, sha256: str, read: Callable[[], bytes]) -> int:
        """Return the number of pages of the PDF with this SHA-256; `read` fetches its bytes if they are needed.

        Raises StepFailed if it is not a readable PDF, RendererCrashed if it kills the process or takes too long, and
        RendererUnavailable if the process does not start or too many threads wait.
        """
        with self._keeping:
            known = self._page_counts.get(sha256)
        return known if known is not None else int(self._ask(sha256, read, {"task": "count"}).head["pages"])

    def draw_page(self, sha256: str, page: int, read: Callable[[], bytes]) -> bytes:
        """Return the page, counted from 1, as a PNG. Raises the same errors as `count_pdf_pages`."""
        with self._keeping:
            if (kept := self._kept.get((sha256, page))) is not None:
                self._kept.move_to_end((sha256, page))
                return kept
        picture = self._ask(sha256, read, {"task": "draw", "page": page, "width": WIDTH}).bodies[0]
        with self._keeping:
            self._kept[sha256, page] = picture
            while sum(map(len, self._kept.values())) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)
        return picture

    def draw_first_page(self, pdf: bytes, width: int) -> bytes:
        """Return the first page of the PDF as a PNG of `width` pixels. Raises the errors of `count_pdf_pages`."""
        return self._request(EngineMessage({"task": "draw", "page": 1, "width": width}, [pdf])).bodies[0]

    def _ask(self, sha256: str, read: Callable[[], bytes], head: dict[str, str | int]) -> EngineMessage:
        with self._keeping:
            if self._waiting >= MAX_WAITING:
                raise RendererUnavailable(
                    "too many pictures are drawn at this moment; load the page again in some seconds"
                )
            self._waiting += 1
        try:
            response = self._request(EngineMessage(head, [read()]))
        finally:
            with self._keeping:
                self._waiting -= 1
        with self._keeping:
            self._page_counts[sha256] = int(response.head["pages"])
            while len(self._page_counts) > MAX_WAITING * 100:
                self._page_counts.popitem(last=False)
        return response

    def detach(self) -> None:
        """Forget the process after a fork. See Renderer."""
        super().detach()
        self._keeping, self._waiting = threading.Lock(), 0


#: The renderer of pictures of this operating system process; it starts with the first picture.
PICTURES: Final = PictureRenderer()

atexit.register(PICTURES.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PICTURES.detach)
