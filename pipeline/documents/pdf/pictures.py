"""Pictures of the pages of PDFs, drawn by a process of their own, a limited number at a time, and kept for a while."""

import atexit
import os
import threading
from collections.abc import Callable
from typing import Final

from pipeline.core.cache import Kept
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
        self._keep_nothing()

    def _keep_nothing(self) -> None:
        # A fork may copy a lock that another thread holds, so that the child needs new ones.
        self._waiting = 0
        self._pictures: Kept[tuple[str, int], bytes] = Kept(MAX_KEPT_BYTES, size=len)
        self._page_counts: Kept[str, int] = Kept(MAX_WAITING * 100)
        self._counting = threading.Lock()

    @property
    def waiting(self) -> int:
        """The number of threads that wait for a picture."""
        return self._waiting

    def count_pdf_pages(self, sha256: str, read: Callable[[], bytes]) -> int:
        """Return the number of pages of the PDF with this SHA-256; `read` fetches its bytes if they are needed.

        Raises StepFailed if it is not a readable PDF, RendererCrashed if it kills the process or takes too long, and
        RendererUnavailable if the process does not start or too many threads wait.
        """
        known = self._page_counts.get(sha256)
        return known if known is not None else int(self._ask(sha256, read, {"task": "count"}).head["pages"])

    def draw_page(self, sha256: str, page: int, read: Callable[[], bytes]) -> bytes:
        """Return the page, counted from 1, as a PNG. Raises the same errors as `count_pdf_pages`."""
        picture = self._pictures.get((sha256, page))
        if picture is None:
            picture = self._ask(sha256, read, {"task": "draw", "page": page, "width": WIDTH}).bodies[0]
            self._pictures.put((sha256, page), picture)
        return picture

    def draw_first_page(self, pdf: bytes, width: int) -> bytes:
        """Return the first page of the PDF as a PNG of `width` pixels. Raises the errors of `count_pdf_pages`."""
        return self._request(EngineMessage({"task": "draw", "page": 1, "width": width}, [pdf])).bodies[0]

    def _ask(self, sha256: str, read: Callable[[], bytes], head: dict[str, str | int]) -> EngineMessage:
        with self._counting:
            if self._waiting >= MAX_WAITING:
                raise RendererUnavailable(
                    "too many pictures are drawn at this moment; load the page again in some seconds"
                )
            self._waiting += 1
        try:
            response = self._request(EngineMessage(head, [read()]))
        finally:
            with self._counting:
                self._waiting -= 1
        self._page_counts.put(sha256, int(response.head["pages"]))
        return response

    def detach(self) -> None:
        """Forget the process after a fork. See Renderer."""
        super().detach()
        self._keep_nothing()


#: The renderer of pictures of this operating system process; it starts with the first picture.
PICTURES: Final = PictureRenderer()

atexit.register(PICTURES.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PICTURES.detach)
