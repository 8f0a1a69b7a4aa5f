"""Links to documents: callers that may read a document create them, and a link's holder follows it without a key."""

from typing import Final

import structlog
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.accounts.api_keys import READ, Caller
from pipeline.core.clock import utc_now
from pipeline.core.errors import InvalidRequest, NotFound
from pipeline.core.runtime import Runtime
from pipeline.core.templating import render
from pipeline.deliveries.schemas.views import DocumentLink, DocumentLinks
from pipeline.deliveries.submissions import links
from pipeline.interfaces.api.dependencies import (
    PARTNER,
    ApiKeyCache,
    KeyHolder,
    RuntimeDep,
    rate_limited,
    roles_allowing,
)
from pipeline.interfaces.api.errors import ForeignObject
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.api.openapi import READ_REFUSALS, SIGNED_OR_BY_KEY, refusal_responses
from pipeline.interfaces.api.request_body import read_body_up_to
from pipeline.interfaces.api.submissions import authenticate_signature, find_submission, get_caller_unless_signed

router = APIRouter(tags=["packages"])

log = structlog.get_logger(__name__)

_ANY_METHOD: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PAGE: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


@router.post("/api/artifacts/{id}/links", responses=READ_REFUSALS)
def create_document_link(id: str, runtime: RuntimeDep, caller: KeyHolder) -> DocumentLink:
    """Return a link to a document; it works without a key for some minutes, and no longer than the caller's key."""
    with runtime.db.read() as session:
        row = links.find_readable(session, caller, id)
    return links.create_key_link(runtime.settings, caller, row, utc_now())


@router.post(
    "/api/broker-submissions/{id}/links",
    responses=refusal_responses(400, 404, 413),
    openapi_extra=SIGNED_OR_BY_KEY | {"x-roles": list(roles_allowing(READ, PARTNER))},
)
async def renew_document_links(id: str, request: Request, runtime: RuntimeDep) -> DocumentLinks:
    """Return new links to the documents of a handoff, for a reader of its message whose links have expired.

    The call has no body. It carries a key that may read the documents, or the three Standard Webhooks headers made with
    the partner's secret over an empty body.
    """
    caller = await get_caller_unless_signed(request)
    if await read_body_up_to(request, 0) is None:
        # A signature over an answer's body must not open documents.
        raise InvalidRequest("the body must be empty; send none, and sign an empty one")
    return await run_in_threadpool(_renew_links, runtime, id, caller, dict(request.headers.items()))


def _renew_links(runtime: Runtime, submission_id: str, caller: Caller | None, headers: dict[str, str]) -> DocumentLinks:
    if caller is None:
        partner = authenticate_signature(runtime, submission_id, b"", headers)
        submission, holder = find_submission(runtime, submission_id), links.partner_holder(partner.partner_id)
    else:
        submission, holder = find_submission(runtime, submission_id), links.key_holder(caller.actor)
        missing = f"there is no broker submission {submission_id}"
        if submission.account_id != caller.account_id:
            raise ForeignObject(missing)
        links.check_may_read(caller, submission.partner_id, missing)
    with runtime.db.read() as session:
        found = links.create_handoff_links(session, runtime.settings, submission, holder, utc_now())
    return DocumentLinks(links=found)


@router.api_route("/documents/{token}", methods=_ANY_METHOD, include_in_schema=False)
def open_link(token: str, request: Request, runtime: RuntimeDep) -> Response:
    """Return the document that the link leads to; every invalid link gets the same 404."""
    try:
        claim = links.verify_token(runtime.settings, token, utc_now())
        if request.method not in (links.METHOD, "HEAD"):
            raise links.link_not_found()
        _count_request(request, f"{claim.holder}/{claim.artifact_id}")
        row = links.find_linked_document(runtime, claim)
    except NotFound as missing:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        html = render("email_replies/plain.html", heading="This link does not work", sentence=_DEAD_LINK)
        return Response(html, missing.status, _PAGE, "text/html; charset=utf-8")
    log.info(
        "document_fetched_by_link", account_id=claim.account_id, artifact_id=claim.artifact_id, holder=claim.holder
    )
    content = runtime.store.get(row.sha256)
    return Response(
        content, headers={**download_headers(row.filename), "Cache-Control": "no-store"}, media_type=row.media_type
    )


_DEAD_LINK: Final = (
    "This link is not valid, or has expired. Copy the whole link: a mail program may have split it. Or ask the sender for"
    " the document."
)


def _count_request(request: Request, what: str) -> None:
    limits: ApiKeyCache = request.app.state.links
    _, wait = limits.take_token(what)
    if wait:
        raise rate_limited("this link was used too often", wait)
