"""The pages that begin and end a session."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core.errors import Refused
from pipeline.core.templating import render
from pipeline.interfaces.api.dependencies import RuntimeDep
from pipeline.interfaces.console.pages import ConsoleRoute, Fields, Visitor, page_response, read_fields, redirect_to
from pipeline.interfaces.console.session import COOKIE, SESSION_LIFETIME, check_same_origin, sign_in

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/sign-in")
def show_sign_in() -> Response:
    """Show the form that asks for a key."""
    return _sign_in_page(None)


@router.post("/sign-in")
async def submit_sign_in(request: Request, runtime: RuntimeDep) -> Response:
    """Check a key and start a session of some hours; the key itself is not stored."""
    try:
        check_same_origin(runtime.settings, request)
        given = (await read_fields(request)).get("key")
        cookie = await run_in_threadpool(sign_in, runtime, given)
    except Refused as refused:
        return _sign_in_page(refused)
    response = redirect_to("/console")
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
def sign_out(visit: Visitor, form: Fields) -> Response:
    """End the session."""
    response = redirect_to("/console/sign-in")
    response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")
    return response


def _sign_in_page(refused: Refused | None) -> Response:
    message, status = (None, 200) if refused is None else (refused.message, refused.status)
    response = page_response(render("console/sign_in.html", refusal=message), status)
    # With `no-referrer`, the browser would also hide that the form came from this site.
    response.headers["Referrer-Policy"] = "same-origin"
    return response
