"""The API reference: a viewer of the OpenAPI document, which loads nothing from other hosts, and the error codes."""

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from pipeline.core.templating import render
from pipeline.interfaces.api.openapi import REFUSALS_BY_CODE
from pipeline.interfaces.api.remedies import REMEDIES
from pipeline.interfaces.pages.pages import public_page

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


@dataclass(frozen=True)
class DocumentedProblem:
    """One error code with its cause and its remedy."""

    code: str
    status: int
    cause: str
    remedy: str


@router.get("/docs/problems")
def read_problems() -> Response:
    """Show every error code; the `help` of a problem document leads to its section."""
    problems = [
        DocumentedProblem(code, kind.status, (kind.__doc__ or "").split("\n")[0], REMEDIES[code])
        for code, kind in sorted(REFUSALS_BY_CODE.items())
    ]
    return public_page("console/problems.html", problems=problems)
