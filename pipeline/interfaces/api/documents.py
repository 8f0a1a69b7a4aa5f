"""Customs packages, their documents, and the whole handoff as one zip file."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from pipeline.accounts.api_keys import READ
from pipeline.deliveries import handoff_bundle
from pipeline.deliveries.submissions import links
from pipeline.exports import queries
from pipeline.exports.schemas.export import CustomsPackageView
from pipeline.interfaces.api.dependencies import KeyHolder, Reader, RuntimeDep
from pipeline.interfaces.api.headers import conditional_response, download_headers, has_current_version
from pipeline.interfaces.api.openapi import ANY_FILE, FILE, READ_REFUSALS, Responses, refusal_responses
from pipeline.workflow import read_model

router = APIRouter(prefix="/api", tags=["packages"])

_NOT_MODIFIED: Final[Responses] = {304: {"description": "Not changed"}}


@router.get("/customs-packages/{id}", response_model=CustomsPackageView, responses={**_NOT_MODIFIED, **READ_REFUSALS})
def read_customs_package(id: str, request: Request, runtime: RuntimeDep, caller: Reader) -> Response:
    """Return a customs package with all of its documents, packages and treatment."""
    with runtime.db.read() as session:
        view = read_model.read_customs_package(session, caller.account_id, id)
    return conditional_response(request, view.model_dump_json(by_alias=True).encode(), "application/json")


@router.get(
    "/artifacts/{id}",
    response_class=Response,
    responses={
        200: {"content": ANY_FILE, "description": "The document, in its own media type"},
        **_NOT_MODIFIED,
        **READ_REFUSALS,
        **refusal_responses(410),
    },
)
def download_artifact(id: str, request: Request, runtime: RuntimeDep, caller: KeyHolder) -> Response:
    """Return a document's bytes; the entity tag is their SHA-256. A customs broker's key may read those that its messages name."""
    with runtime.db.read() as session:
        row = links.find_readable(session, caller, id)
    etag = f'"{row.sha256}"'
    content = b"" if has_current_version(request, etag) else runtime.store.get(row.sha256)
    return conditional_response(request, content, row.media_type, etag=etag, headers=download_headers(row.filename))


@router.get(
    "/exports/{id}/bundle",
    response_class=Response,
    responses={200: {"content": {"application/zip": FILE}}, **_NOT_MODIFIED, **refusal_responses(404, 409)},
)
def download_bundle(id: str, request: Request, runtime: RuntimeDep, caller: KeyHolder) -> Response:
    """Return an export's plan, broker message and documents as one zip file; its bytes are always the same.

    A customs broker's key gets the documents that its message names, and the plan only if these are all.
    """
    with runtime.db.read() as session:
        export = queries.find_export(session, caller.account_id, id, test=caller.test)
        links.check_may_read(caller, export.broker_id, f"there is no export or batch {id} in this account")
        bundle = handoff_bundle.gather_bundle(session, runtime.settings, export, to_partner=not caller.has_role(READ))
    etag = f'"{bundle.digest}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", **download_headers(f"{export.batch_id}.zip")}
    if has_current_version(request, etag):
        return Response(status_code=304, headers=headers)
    return StreamingResponse(
        handoff_bundle.stream_bundle(runtime.store, bundle), headers=headers, media_type="application/zip"
    )
