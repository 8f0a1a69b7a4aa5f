"""The style sheet and the scripts of the console; its pages load nothing from other hosts."""

import gzip
from functools import cache
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.core.errors import NotFound
from pipeline.core.templating import SOURCES, TEMPLATES
from pipeline.interfaces.api.dependencies import get_runtime

router = APIRouter(include_in_schema=False)

_FOLDER: Final = TEMPLATES / "console"
_STYLE, _SCRIPT = "text/css", "text/javascript"

#: name in an address -> source and media type
_ASSETS: Final = {
    "style.css": ("console/style.css", _STYLE),
    "icon.svg": ("console/icon.svg", "image/svg+xml"),
    "console.js": ("console/console.js", _SCRIPT),
    "reference.js": ("console/reference.js", _SCRIPT),
    "portal.css": ("portal/style.css", _STYLE),
    "portal.js": ("portal/portal.js", _SCRIPT),
}

#: One file: htmx reads the page soon after it has run, and an extension that comes later is never asked.
_HTMX: Final = "htmx-4.0.1-sse.js"
_HTMX_PARTS: Final = [_FOLDER / "vendor" / f"{name}-4.0.1.min.js" for name in ("htmx", "hx-sse")]

#: The viewer of the API reference: 4.9 MB, and 1.4 MB on the wire.
VIEWER: Final = "scalar-api-reference-1.76.0.min.js"
_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


@router.get("/console/assets/{name}")
def read_asset(name: str, request: Request) -> Response:
    """Return a file that pages load. A browser asks again whether the project's own files have changed."""
    if name == _HTMX:
        return Response(_read_parts(), media_type=_SCRIPT, headers=_FOR_EVER)
    if name == VIEWER and get_runtime(request).settings.docs:
        return _viewer_response("gzip" in request.headers.get("accept-encoding", ""))
    if name not in _ASSETS:
        raise NotFound(f"there is no file {name}")
    source, media_type = _ASSETS[name]
    return Response(SOURCES[source], media_type=media_type, headers={"Cache-Control": "no-cache"})


def _viewer_response(compressed: bool) -> Response:  # noqa: FBT001 - what the browser accepts
    headers = {**_FOR_EVER, "Vary": "Accept-Encoding"}
    if not compressed:
        return Response(_read_viewer(), media_type=_SCRIPT, headers=headers)
    return Response(_compress_viewer(), media_type=_SCRIPT, headers={**headers, "Content-Encoding": "gzip"})


# Answers share these bytes: a copy for each caller that does not take its answer could fill the memory.
@cache
def _read_parts() -> bytes:
    return b"\n".join(path.read_bytes() for path in _HTMX_PARTS)


@cache
def _read_viewer() -> bytes:
    return (_FOLDER / "vendor" / VIEWER).read_bytes()


@cache
def _compress_viewer() -> bytes:
    return gzip.compress(_read_viewer(), mtime=0)
