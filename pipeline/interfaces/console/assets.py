"""The style sheet and the scripts of the console; its pages load nothing from other hosts."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.core.errors import NotFound
from pipeline.core.templating import TEMPLATES

router = APIRouter(include_in_schema=False)

_FOLDER: Final = TEMPLATES / "console"
_STYLE, _SCRIPT = "text/css", "text/javascript"

#: name in an address -> file and media type
_ASSETS: Final = {
    "style.css": (_FOLDER / "style.css", _STYLE),
    "icon.svg": (_FOLDER / "icon.svg", "image/svg+xml"),
    "console.js": (_FOLDER / "console.js", _SCRIPT),
    "portal.css": (TEMPLATES / "portal" / "style.css", _STYLE),
    "portal.js": (TEMPLATES / "portal" / "portal.js", _SCRIPT),
}

#: One file: htmx reads the page soon after it has run, and an extension that comes later is never asked.
_HTMX: Final = "htmx-4.0.1-sse.js"
_HTMX_PARTS: Final = [_FOLDER / "vendor" / f"{name}-4.0.1.min.js" for name in ("htmx", "hx-sse")]


@router.get("/console/assets/{name}")
def read_asset(name: str) -> Response:
    """Return a file that pages load. A browser asks again whether the project's own files have changed."""
    if name == _HTMX:
        body, cached = b"\n".join(path.read_bytes() for path in _HTMX_PARTS), "public, max-age=31536000, immutable"
        return Response(body, media_type=_SCRIPT, headers={"Cache-Control": cached})
    if name not in _ASSETS:
        raise NotFound(f"there is no file {name}")
    path, media_type = _ASSETS[name]
    return Response(path.read_bytes(), media_type=media_type, headers={"Cache-Control": "no-cache"})
