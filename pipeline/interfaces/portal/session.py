"""Sessions of the portal: a link's token starts one, and a signed cookie holds the link's id and the session's end."""

from datetime import datetime, timedelta
from typing import Final

from starlette.responses import Response

from pipeline.accounts import portal_links
from pipeline.accounts.portal_links import PortalVisitor, portal_link_not_found
from pipeline.accounts.secrets import build_secret_box
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures, sign_text

COOKIE: Final = "exports_portal"
PATH: Final = "/portal"
SESSION_LIFETIME: Final = timedelta(hours=8)


def start_session(runtime: Runtime, response: Response, token: str) -> PortalVisitor:
    """Set the session's cookie for the holder of a link's token, and return the visitor. Raises NotFound.

    The session ends after some hours, or with the link if that is sooner.
    """
    visitor = portal_links.open_portal(runtime, token)
    now = utc_now()
    ends_at = min(now + SESSION_LIFETIME, visitor.expires_at)
    payload = f"{visitor.link_id}.{int(ends_at.timestamp())}"
    response.set_cookie(
        COOKIE,
        f"{payload}.{_sign(runtime, payload).newest}",
        max_age=int((ends_at - now).total_seconds()),
        path=PATH,
        secure=runtime.settings.public_url.startswith("https:"),
        httponly=True,
        samesite="strict",
    )
    return visitor


def end_session(response: Response) -> None:
    """Delete the session's cookie. The link still works."""
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")


def authenticate(runtime: Runtime, cookie: str, *, now: datetime | None = None) -> PortalVisitor:
    """Return the cookie's visitor.

    Raises NotFound if the cookie is not valid, or its session or link has ended.
    """
    payload, _, signature = cookie.rpartition(".")
    link_id, _, until = payload.partition(".")
    if _sign(runtime, payload).find_key(signature) is None:
        raise portal_link_not_found()
    if (now or utc_now()).timestamp() >= int(until):
        raise NotFound("your session has ended; open your link again")
    return portal_links.find_visitor(runtime, link_id)


def sign_form(runtime: Runtime, cookie: str) -> Signatures:
    """Return the tokens that forms may carry, so that only a page of this session can send them."""
    return _sign(runtime, f"form\n{cookie}")


def _sign(runtime: Runtime, payload: str) -> Signatures:
    return sign_text(build_secret_box(runtime.settings), "portal-sessions", payload.encode())
