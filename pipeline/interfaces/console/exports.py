"""The console's read-only pages: the list of exports, and one export in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from pipeline.accounts.api_keys import Caller, record_key_use
from pipeline.core.errors import NotFound, Refused
from pipeline.core.runtime import Runtime
from pipeline.core.templating import TEMPLATES, render
from pipeline.deliveries import queries, sandbox_broker
from pipeline.documents import repository
from pipeline.exports.states import ExportState, Outcome
from pipeline.interfaces.console import export_views, partner_views
from pipeline.interfaces.console.session import (
    COOKIE,
    SESSION_LIFETIME,
    authenticate,
    check_csrf_token,
    check_same_origin,
    compute_csrf_token,
    read_form_fields,
    sign_in,
)
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow import read_model
from pipeline.workflow.queries import ExportFilter
from pipeline.workflow.search import search_exports

router = APIRouter(prefix="/console", include_in_schema=False)

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_PAGE_SIZE: Final = 50


@router.get("/style.css")
def read_style() -> Response:
    """Return the only style sheet; pages load nothing from other hosts."""
    return Response((TEMPLATES / "console" / "style.css").read_bytes(), media_type="text/css")


@router.get("/sign-in")
def show_sign_in() -> Response:
    """Show the form that asks for a key."""
    return _sign_in_page(None)


def _sign_in_page(refused: Refused | None) -> Response:
    message, status = (None, 200) if refused is None else (refused.message, refused.status)
    response = page_response(render("console/sign_in.html", refusal=message), status)
    # With `no-referrer`, the browser would also hide that the form came from this site.
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@router.post("/sign-in")
async def submit_sign_in(request: Request) -> Response:
    """Check a key and start a session of some hours; the key itself is not stored."""
    runtime = get_runtime(request)
    try:
        check_same_origin(runtime.settings, request)
        given = (await read_form_fields(request)).get("key", "")
        cookie = await run_in_threadpool(sign_in, runtime, given)
    except Refused as refused:
        return _sign_in_page(refused)
    response = RedirectResponse("/console", 303, HEADERS)
    secure = runtime.settings.public_url.startswith("https:")
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/console",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session if a form of one of its own pages asks for it."""
    return await run_in_threadpool(_sign_out, request, await read_form_fields(request))


def _sign_out(request: Request, fields: Mapping[str, str]) -> Response:
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    try:
        check_csrf_token(get_runtime(request), request, fields)
    except Refused as refused:
        return refused_page(request, caller, refused)
    response = RedirectResponse("/console/sign-in", 303, HEADERS)
    response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")
    return response


@router.get("/")
def show_start() -> Response:
    """Redirect to the first page; relative, because the caller may use another host name."""
    return RedirectResponse("/console", 308, HEADERS)


@router.get("/exports")
def show_exports(
    request: Request,
    state: Annotated[ExportState | None, Query()] = None,
    outcome: Annotated[list[Outcome], Query(max_length=len(Outcome))] = [],  # noqa: B006 - never changed
    quarantined: Annotated[bool, Query()] = False,  # noqa: FBT002 - a filter that is on or off
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Show the account's exports, newest first."""
    runtime = get_runtime(request)
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    with runtime.db.read() as session:
        filters = ExportFilter(state=state, quarantined=quarantined or None, outcomes=outcome)
        found = workflow_queries.list_exports(session, caller.account_id, filters, cursor=cursor, limit=_PAGE_SIZE)
    next_link = None
    if found.next_cursor is not None:
        next_link = f"/console/exports?cursor={quote(found.next_cursor)}" + (f"&state={state.value}" if state else "")
        next_link += "&quarantined=true" if quarantined else ""
        next_link += f"&{export_views.encode_outcomes(outcome)}" if outcome else ""
    return page_response(
        render(
            "console/exports.html",
            **page_context(request, caller),
            outcomes=export_views.build_outcome_links(outcome, filtered=bool(state or outcome or quarantined)),
            states=export_views.build_state_links(state, quarantined=quarantined),
            exports=[export_views.show_row(item) for item in found.items],
            next_link=next_link,
        )
    )


@router.get("/search")
def search(request: Request, q: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Show the exports with a number, or the export itself if there is one."""
    runtime = get_runtime(request)
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    with runtime.db.read() as session:
        hits = search_exports(session, caller.account_id, q)
    if len(hits) == 1:
        return RedirectResponse(f"/console/exports/{quote(hits[0].export_id)}", 303, HEADERS)
    return page_response(render("console/search.html", **page_context(request, caller), wanted=q, hits=hits))


@router.get("/exports/{id}")
def show_export(id: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Show one export in full."""
    runtime = get_runtime(request)
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    try:
        with runtime.db.read() as session:
            export = read_model.read_export(session, caller.account_id, id, test=caller.test)
    except NotFound as missing:
        return refused_page(request, caller, missing)
    deliveries = queries.list_deliveries(runtime, caller.account_id, export_id=export.export_id, limit=_PAGE_SIZE)
    return page_response(
        render(
            "console/export.html",
            **page_context(request, caller),
            export=export,
            page=export_views.show_page(export),
            deliveries=[partner_views.show_delivery(each) for each in deliveries.items],
            more_deliveries=deliveries.next_cursor is not None,
        )
    )


@router.get("/sandbox")
def show_sandbox(request: Request, cursor: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    """Show what the sandbox broker received from the account, newest first."""
    runtime = get_runtime(request)
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    found = sandbox_broker.list_handoffs(runtime, caller.account_id, after=cursor, limit=_PAGE_SIZE)
    return page_response(
        render(
            "console/sandbox.html",
            **page_context(request, caller),
            handoffs=[export_views.show_handoff(item) for item in found.items],
            next_link=None if found.next_cursor is None else f"/console/sandbox?cursor={quote(found.next_cursor)}",
        )
    )


@router.get("/artifacts/{id}")
def download_artifact(id: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Return a document of one of the account's exports."""
    runtime = get_runtime(request)
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    with runtime.db.read() as session:
        row = repository.find_artifact(session, caller.account_id, id).artifact
    headers = {
        "Content-Disposition": f'attachment; filename="{export_views.safe_filename(row.filename)}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return Response(runtime.store.get(row.sha256), headers=headers, media_type=row.media_type)


def get_runtime(request: Request) -> Runtime:
    """Return the runtime of the process."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def find_caller(request: Request) -> Caller | None:
    """Return the signed-in caller; None if there is none."""
    try:
        caller = authenticate(get_runtime(request), request.cookies.get(COOKIE, ""))
    except Refused:
        return None
    if request.app.state.keys.should_touch(caller.key_id):
        record_key_use(get_runtime(request), caller)
    return caller


def page_context(request: Request, caller: Caller) -> dict[str, str]:
    """Return what every page needs of the caller: the account, and the CSRF token of its forms."""
    csrf_token = compute_csrf_token(get_runtime(request), request.cookies.get(COOKIE, ""))
    return {"account": caller.account_id, "csrf_token": csrf_token}


def redirect_to_sign_in() -> Response:
    """Redirect to the sign-in page."""
    return RedirectResponse("/console/sign-in", 303, HEADERS)


def refused_page(request: Request, caller: Caller, refused: Refused) -> Response:
    """Return a page that only says why the request was refused."""
    html = render("console/missing.html", **page_context(request, caller), message=refused.message)
    return page_response(html, refused.status)


def page_response(html: str, status: int = 200) -> Response:
    """Return a page of the console."""
    return Response(html, status, HEADERS, "text/html; charset=utf-8")
