"""The API reference: a viewer of the OpenAPI document; it loads nothing from other hosts."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from pipeline.core.templating import render

router = APIRouter(include_in_schema=False)

_HEADERS: Final = {
    # The viewer writes its styles into the page, and needs no other exception.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


@router.get("/docs")
def read_reference(request: Request) -> Response:
    """Show every call and webhook with its parameters, bodies and examples, and let the reader try it with a key."""
    app: FastAPI = request.app
    html = render("console/reference.html", title=app.title, version=app.version)
    return Response(html, headers=_HEADERS, media_type="text/html; charset=utf-8")
