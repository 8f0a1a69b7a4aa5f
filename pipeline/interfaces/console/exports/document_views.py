"""Views of a document and its place in an export: the preview, the data beside it, and the ways to its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from pipeline.core.errors import ArtifactConflict, ExportsError, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.documents.pdf.pictures import MAX_PDF_BYTES, PICTURES, WIDTH
from pipeline.documents.queries import DocumentPlace
from pipeline.documents.registry import describe_kind
from pipeline.exports.models import Artifact
from pipeline.interfaces.event_text import count_noun, format_size
from pipeline.interfaces.pages import previews
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.previews import HTML, PDF, Preview, PreviewFailed, TreeNode

T = TypeVar("T")

#: The most pages of a PDF on one page of the console; browsers load them as they are scrolled into view.
MAX_PICTURES: Final = 40

#: The height that the browser reserves for a picture, of a page in US Letter.
_PICTURE_HEIGHT: Final = WIDTH * 11 * 2 // 17


@dataclass(frozen=True)
class Picture:
    """A page of a PDF as a picture."""

    link: str
    text: str
    width: int = WIDTH
    height: int = _PICTURE_HEIGHT


@dataclass(frozen=True)
class NearbyDocument:
    """A way to another document of the export."""

    link: str
    name: str


@dataclass(frozen=True)
class ShownDocument:
    """A document on its page; `failure` says why its preview is missing, `data_failure` why its data is."""

    export_link: str
    batch_id: str
    title: str
    kind: str
    unit_ref: str
    package_number: str
    size: str
    digest: str
    generated: str
    version: str
    download: str
    previous: NearbyDocument | None
    following: NearbyDocument | None
    pictures: list[Picture]
    more_pictures: str
    frame: str
    preview: Preview | None
    failure: str
    data: TreeNode | None
    data_link: NearbyDocument | None
    data_failure: str


def show_document(runtime: Runtime, place: DocumentPlace) -> ShownDocument:
    """Return the document for its page; reads it from the store, and its data if it has some."""
    row = place.artifact
    shown = ShownDocument(
        export_link=f"/console/exports/{row.export_id}",
        batch_id=place.batch_id,
        title=row.filename,
        kind=describe_kind(row.artifact_type),
        unit_ref=place.unit_ref,
        package_number=place.package_number or "no number yet",
        size=format_size(row.size),
        digest=row.sha256,
        generated=format_instant(row.generated_at),
        version=row.template_version,
        download=f"/console/artifacts/{row.id}",
        previous=_link(place.previous),
        following=_link(place.following),
        pictures=[],
        more_pictures="",
        frame="",
        preview=None,
        failure="",
        data=None,
        data_link=_link(place.data),
        data_failure="",
    )
    if row.media_type == PDF:
        shown = _with_pictures(runtime, row, shown)
    elif row.media_type.startswith(HTML):
        shown = replace(shown, frame=f"/console/artifacts/{row.id}/content")
    else:
        preview, failure = _try(lambda: previews.read_preview(_read(runtime, row), row.media_type))
        shown = replace(shown, preview=preview, failure=failure)
    if place.data is not None:
        data_row = place.data
        data, failure = _try(lambda: previews.read_preview(_read(runtime, data_row), data_row.media_type))
        shown = replace(shown, data=None if data is None else data.tree, data_failure=failure)
    return shown


def _with_pictures(runtime: Runtime, row: Artifact, shown: ShownDocument) -> ShownDocument:
    if row.size > MAX_PDF_BYTES:
        reason = f"it has {format_size(row.size)}, and a PDF is drawn up to {format_size(MAX_PDF_BYTES)}"
        return replace(shown, failure=reason)
    count, failure = _try(lambda: PICTURES.count_pdf_pages(row.sha256, lambda: runtime.store.get(row.sha256)))
    pages = count or 0
    return replace(
        shown,
        failure=failure,
        pictures=[
            Picture(f"/console/artifacts/{row.id}/pages/{page}", f"Page {page} of {pages} of {row.filename}")
            for page in range(1, min(pages, MAX_PICTURES) + 1)
        ],
        more_pictures=f"{count_noun(pages - MAX_PICTURES, 'page')} not shown" if pages > MAX_PICTURES else "",
    )


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


def _link(row: Artifact | None) -> NearbyDocument | None:
    return None if row is None else NearbyDocument(document_link(row.export_id, row.id), row.filename)


def document_link(export_id: str, artifact_id: str) -> str:
    """Return the address of a document's page."""
    return f"/console/exports/{export_id}/documents/{artifact_id}"
