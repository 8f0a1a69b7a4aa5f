"""Sessions of the console, and the CSRF tokens of their forms."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from config.settings import Settings
from pipeline.accounts.api_keys import READ, Caller, find_caller, find_caller_by_key_id
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import InsufficientRole, InvalidApiKey
from pipeline.core.runtime import Runtime

COOKIE: Final = "exports_console"
SESSION_LIFETIME: Final = timedelta(hours=8)


def sign_in(runtime: Runtime, bearer: str, *, now: datetime | None = None) -> str:
    """Return the cookie's value for a key with the role `read`.

    Raises InvalidApiKey, InsufficientRole.
    """
    caller = find_caller(runtime, bearer, now=now)
    caller.require(READ)
    until = int(((now or utc_now()) + SESSION_LIFETIME).timestamp())
    payload = f"{caller.key_id}.{until}"
    return f"{payload}.{_signature(runtime, payload)}"


def authenticate(runtime: Runtime, cookie: str, *, now: datetime | None = None) -> Caller:
    """Return the cookie's caller; raises InvalidApiKey if the cookie is not valid, or its session or key has ended."""
    payload, _, signature = cookie.rpartition(".")
    key_id, _, until = payload.partition(".")
    moment = now or utc_now()
    if not hmac.compare_digest(signature.encode(), _signature(runtime, payload).encode()):
        raise InvalidApiKey("sign in with an API key")
    if moment.timestamp() >= int(until):
        raise InvalidApiKey("the session has ended; sign in again")
    caller = find_caller_by_key_id(runtime, key_id, now=moment)
    caller.require(READ)
    tenancy.set_account(caller.account_id)
    return caller


def compute_csrf_token(runtime: Runtime, cookie: str) -> str:
    """Return the token that forms carry, so that only a page of this session can send them."""
    return _signature(runtime, f"form\n{cookie}")


def _signature(runtime: Runtime, payload: str) -> str:
    key = SecretBox(runtime.settings.secret_key).token("console-sessions").encode()
    return hmac.new(key, payload.encode(), hashlib.sha256).hexdigest()


def check_same_origin(settings: Settings, request: Request) -> None:
    """Raise InsufficientRole if the browser says that a page of another site sent the form.

    Before sign-in there is no CSRF token; another site's page could sign the user in with its own key. An old browser,
    or one without TLS, names only the page's origin; a program names nothing.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        own = site in {"same-origin", "none"}
    else:
        here = {request.headers.get("host"), urlsplit(settings.public_url).netloc}
        own = origin is None or origin.partition("://")[2] in here
    if not own:
        raise InsufficientRole("this form came from another site; open this service's own page and sign in there")


def check_csrf_token(runtime: Runtime, request: Request, csrf_token: str) -> None:
    """Raise InsufficientRole unless the form's token is that of the signed-in session.

    A page of another site in the same browser cannot know the token: it is not part of the cookie.
    """
    expected = compute_csrf_token(runtime, request.cookies.get(COOKIE, ""))
    if not hmac.compare_digest(csrf_token.encode(), expected.encode()):
        raise InsufficientRole("this form does not belong to your session; load the page again")
