"""Views of a document and its place in an export: the preview, the data beside it, and the ways to its neighbours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from pipeline.core.errors import ArtifactConflict, ExportsError, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.documents.pdf.pictures import MAX_PDF_BYTES, PICTURES, WIDTH
from pipeline.documents.queries import DocumentPlace
from pipeline.exports.models import Artifact
from pipeline.interfaces.event_text import format_size
from pipeline.interfaces.pages import previews
from pipeline.interfaces.pages.previews import HTML, PDF, Preview, PreviewFailed, TreeNode

T = TypeVar("T")

#: The most pages of a PDF on one page of the console; browsers load them as they are scrolled into view.
MAX_PICTURES: Final = 40

#: The size that the browser reserves for a picture, of a page in US Letter.
PICTURE_SIZE: Final = (WIDTH, WIDTH * 11 * 2 // 17)


@dataclass(frozen=True)
class ShownDocument:
    """The preview of a document and its data; `failure` says why the preview is missing, `data_failure` why the data is.

    `pages` is the number of its pages if it is a PDF; the first `shown_pages` are drawn.
    """

    pages: int = 0
    framed: bool = False
    preview: Preview | None = None
    failure: str = ""
    data: TreeNode | None = None
    data_failure: str = ""

    @property
    def shown_pages(self) -> int:
        """How many pages stand on the page."""
        return min(self.pages, MAX_PICTURES)

    @property
    def more_pages(self) -> int:
        """How many pages do not stand on it."""
        return self.pages - self.shown_pages


def show_document(runtime: Runtime, place: DocumentPlace) -> ShownDocument:
    """Return the document for its page; reads it from the store, and its data if it has some."""
    row, data_row = place.artifact, place.data
    if row.media_type == PDF:
        shown = _count_pages(runtime, row)
    elif row.media_type.startswith(HTML):
        shown = ShownDocument(framed=True)
    else:
        preview, failure = _try(lambda: previews.read_preview(_read(runtime, row), row.media_type))
        shown = ShownDocument(preview=preview, failure=failure)
    if data_row is None:
        return shown
    data, failure = _try(lambda: previews.read_preview(_read(runtime, data_row), data_row.media_type))
    return replace(shown, data=None if data is None else data.tree, data_failure=failure)


def _count_pages(runtime: Runtime, row: Artifact) -> ShownDocument:
    if row.size > MAX_PDF_BYTES:
        reason = f"it has {format_size(row.size)}, and a PDF is drawn up to {format_size(MAX_PDF_BYTES)}"
        return ShownDocument(failure=reason)
    count, failure = _try(lambda: PICTURES.count_pdf_pages(row.sha256, lambda: runtime.store.get(row.sha256)))
    return ShownDocument(pages=count or 0, failure=failure)


def _read(runtime: Runtime, row: Artifact) -> bytes:
    if row.size > previews.MAX_BYTES:
        raise PreviewFailed(
            f"it has {format_size(row.size)}, and a preview shows at most {format_size(previews.MAX_BYTES)}"
        )
    return runtime.store.get(row.sha256)


def _try(read: Callable[[], T]) -> tuple[T | None, str]:
    """Return what was read, or None and the reason why not."""
    try:
        return read(), ""
    except StoreUnavailable as error:
        return None, f"{error}. `exports artifacts check` says which documents are missing, and how to restore them"
    except ArtifactConflict as error:
        return None, f"{error}. `exports artifacts check` says which documents are damaged, and how to restore them"
    except ExportsError as error:
        return None, str(error)
