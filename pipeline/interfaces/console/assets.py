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
    "htmx-4.0.1.js": (_FOLDER / "vendor" / "htmx-4.0.1.min.js", _SCRIPT),
    "htmx-sse-4.0.1.js": (_FOLDER / "vendor" / "hx-sse-4.0.1.min.js", _SCRIPT),
}


@router.get("/console/assets/{name}")
def read_asset(name: str) -> Response:
    """Return a file that pages load. A browser asks again whether the project's own files have changed."""
    if name not in _ASSETS:
        raise NotFound(f"there is no file {name}")
    path, media_type = _ASSETS[name]
    cached = "public, max-age=31536000, immutable" if path.parent.name == "vendor" else "no-cache"
    return Response(path.read_bytes(), media_type=media_type, headers={"Cache-Control": cached})
