"""The console's pages of documents: each with its preview, its pages as pictures, its content and its download."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from pipeline.core.errors import ExportsError, NotFound, RendererUnavailable, StoreUnavailable
from pipeline.deliveries import handoff_bundle
from pipeline.deliveries.handoff_bundle import safe_filename
from pipeline.deliveries.submissions import links
from pipeline.documents import queries, repository
from pipeline.documents.pdf.pictures import MAX_PDF_BYTES, PICTURES
from pipeline.exports.models import Artifact
from pipeline.exports.queries import find_export
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.console.exports.document_views import PICTURE_SIZE, show_document
from pipeline.interfaces.pages.pages import ConsoleRoute, Visit, Visitor
from pipeline.interfaces.pages.previews import HTML, PDF

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

#: A document is shown without script, and without what other hosts serve.
_SANDBOX: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


@router.get("/exports/{id}/documents/{artifact}")
def show_document_page(id: str, artifact: str, visit: Visitor) -> Response:
    """Show a document beside its data."""
    with visit.runtime.db.read() as session:
        place = queries.find_place(session, visit.account_id, id, artifact)
    return visit.page(
        "console/exports/document.html", place=place, size=PICTURE_SIZE, document=show_document(visit.runtime, place)
    )


@router.get("/artifacts/{id}")
def download_artifact(id: str, visit: Visitor) -> Response:
    """Return a document of one of the account's exports, or a file of its conversation, as a file to keep."""
    with visit.runtime.db.read() as session:
        row = links.find_readable(session, visit.caller, id)
    headers = download_headers(row.filename) | {"Cache-Control": "no-store"}
    return Response(visit.runtime.store.get(row.sha256), headers=headers, media_type=row.media_type)


@router.get("/artifacts/{id}/content")
def show_content(id: str, visit: Visitor) -> Response:
    """Return a document of HTML for the frame of its page. It runs no script and loads nothing."""
    row = _find_row(visit, id)
    if not row.media_type.startswith(HTML):
        raise NotFound(f"document {row.filename} is {row.media_type}; only HTML has a page of its own")
    headers = {"Content-Security-Policy": _SANDBOX, "X-Frame-Options": "SAMEORIGIN", "Cache-Control": "no-store"}
    return Response(visit.runtime.store.get(row.sha256), headers=headers, media_type=row.media_type)


@router.get("/artifacts/{id}/pages/{page}")
def draw_page(id: str, page: Annotated[int, Path(ge=1, le=100_000)], visit: Visitor) -> Response:
    """Return a page of a PDF as a picture. The answer is text with the reason if it cannot be drawn."""
    row = _find_row(visit, id)
    if row.media_type != PDF or row.size > MAX_PDF_BYTES:
        raise NotFound(f"document {row.filename} is not drawn; only PDFs of at most {MAX_PDF_BYTES} bytes are")
    try:
        picture = PICTURES.draw_page(row.sha256, page, lambda: visit.runtime.store.get(row.sha256))
    except ExportsError as error:
        busy = isinstance(error, RendererUnavailable | StoreUnavailable)
        return Response(str(error), 503 if busy else 422, media_type="text/plain; charset=utf-8")
    return Response(picture, headers={"Cache-Control": "no-store"}, media_type="image/png")


@router.get("/exports/{id}/bundle")
def download_bundle(id: str, visit: Visitor, unit: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Return the export's plan, broker message and documents as a zip file; with `unit`, the documents of that unit."""
    runtime = visit.runtime
    with runtime.db.read() as session:
        export = find_export(session, visit.account_id, id, test=visit.caller.test)
        packed = (
            handoff_bundle.gather_unit(session, export, unit)
            if unit
            else handoff_bundle.gather_bundle(session, runtime.settings, export)
        )
    name = safe_filename(f"{export.batch_id}-{unit}" if unit else export.batch_id)
    headers = {**download_headers(f"{name}.zip"), "Cache-Control": "no-store"}
    parts = handoff_bundle.stream_bundle(runtime.store, packed)
    return StreamingResponse(parts, headers=headers, media_type="application/zip")


def _find_row(visit: Visit, artifact_id: str) -> Artifact:
    with visit.runtime.db.read() as session:
        return repository.find_artifact(session, visit.account_id, artifact_id).artifact
