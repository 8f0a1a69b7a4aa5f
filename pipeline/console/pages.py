"""The operator's pages: a list of exports, and everything of one of them; they only show."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from pipeline import delivery, inspection, sandbox
from pipeline.accounts import Caller
from pipeline.console import facts
from pipeline.console.session import COOKIE, LASTS, sign_in, signed_in
from pipeline.documents.render import TEMPLATES, render
from pipeline.errors import NotFound, Refused
from pipeline.inspection import Filter
from pipeline.runtime import Runtime
from pipeline.states import ExportState

router = APIRouter(prefix="/console", include_in_schema=False)

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_PAGE: Final = 50
_LONGEST_FORM: Final = 4096


@router.get("/style.css")
def style() -> Response:
    """Return the one style sheet; nothing is loaded from elsewhere."""
    return Response((TEMPLATES / "console" / "style.css").read_bytes(), media_type="text/css")


@router.get("/sign-in")
def show_sign_in() -> Response:
    """Ask for a key."""
    return _page(render("console/sign_in.html", refusal=None))


@router.post("/sign-in")
async def take_sign_in(request: Request) -> Response:
    """Take a key, and remember who holds it for a few hours; the key itself is not kept."""
    runtime = _runtime(request)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            break
    given = parse_qs(body[:_LONGEST_FORM].decode(errors="replace")).get("key", [""])[0].strip()
    try:
        cookie = await run_in_threadpool(sign_in, runtime, given)
    except Refused as refused:
        return _page(render("console/sign_in.html", refusal=refused.message), refused.status)
    response = RedirectResponse("/console", 303, HEADERS)
    secure = runtime.settings.public_url.startswith("https:")
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(LASTS.total_seconds()),
        path="/console",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/sign-out")
def sign_out() -> Response:
    """Forget who looked."""
    response = RedirectResponse("/console/sign-in", 303, HEADERS)
    response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")
    return response


@router.get("")
def show_exports(
    request: Request,
    state: Annotated[ExportState | None, Query()] = None,
    quarantined: Annotated[bool, Query()] = False,  # noqa: FBT002 - a filter that is on or off
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Show the account's exports, newest first."""
    runtime = _runtime(request)
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    with runtime.db.read() as session:
        wanted = Filter(state=state, quarantined=quarantined or None)
        page = inspection.listed(session, caller.account_id, wanted, cursor=cursor, limit=_PAGE)
    following = None
    if page.next_cursor is not None:
        following = f"/console?cursor={quote(page.next_cursor)}" + (f"&state={state.value}" if state else "")
        following += "&quarantined=true" if quarantined else ""
    return _page(
        render(
            "console/exports.html",
            account=caller.account_id,
            states=facts.state_links(state, quarantined=quarantined),
            exports=[facts.row(item) for item in page.items],
            following=following,
        )
    )


@router.get("/exports/{id}")
def show_export(id: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Show everything of one export."""
    runtime = _runtime(request)
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    try:
        with runtime.db.read() as session:
            export = inspection.read(session, caller.account_id, id)
    except NotFound as missing:
        return _page(render("console/missing.html", account=caller.account_id, message=missing.message), 404)
    deliveries = delivery.listed(runtime, caller.account_id, export_id=export.export_id, limit=_PAGE)
    return _page(
        render(
            "console/export.html",
            account=caller.account_id,
            export=export,
            page=facts.page(export),
            deliveries=[facts.delivery(each) for each in deliveries.items],
            more_deliveries=deliveries.next_cursor is not None,
        )
    )


@router.get("/sandbox")
def show_sandbox(request: Request, cursor: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    """Show what the sandbox broker received of the account, newest first."""
    runtime = _runtime(request)
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    page = sandbox.received(runtime, caller.account_id, after=cursor, limit=_PAGE)
    return _page(
        render(
            "console/sandbox.html",
            account=caller.account_id,
            handoffs=[facts.handoff(item) for item in page.items],
            following=None if page.next_cursor is None else f"/console/sandbox?cursor={quote(page.next_cursor)}",
        )
    )


@router.get("/artifacts/{id}")
def download(id: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Return a document to whoever looks at its export."""
    runtime = _runtime(request)
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    with runtime.db.read() as session:
        row = inspection.find_artifact(session, caller.account_id, id).artifact
    headers = {
        "Content-Disposition": f'attachment; filename="{facts.safe(row.filename)}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return Response(runtime.store.get(row.sha256), headers=headers, media_type=row.media_type)


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _caller(request: Request) -> Caller | None:
    try:
        return signed_in(_runtime(request), request.cookies.get(COOKIE, ""))
    except Refused:
        return None


def _to_sign_in() -> Response:
    return RedirectResponse("/console/sign-in", 303, HEADERS)


def _page(html: str, status: int = 200) -> Response:
    return Response(html, status, HEADERS, "text/html; charset=utf-8")
