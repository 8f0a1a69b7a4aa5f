"""What a form on a page says: bounded, and only taken with the sign that the page itself was given."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request

from config.settings import Settings
from pipeline.accounts.api_keys import READ, Caller, find_caller, find_caller_by_key_id
from pipeline.core import tenancy
from pipeline.core.db import utc_now
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import InsufficientRole, InvalidApiKey
from pipeline.core.runtime import Runtime

COOKIE: Final = "exports_console"
SESSION_LIFETIME: Final = timedelta(hours=8)


def sign_in(runtime: Runtime, bearer: str, *, now: datetime | None = None) -> str:
    """Return the cookie's value for the holder of a key that may read.

    Raises InvalidApiKey, InsufficientRole.
    """
    caller = find_caller(runtime, bearer, now=now)
    caller.require(READ)
    until = int(((now or utc_now()) + SESSION_LIFETIME).timestamp())
    payload = f"{caller.key_id}.{until}"
    return f"{payload}.{_signature(runtime, payload)}"


def authenticate(runtime: Runtime, cookie: str, *, now: datetime | None = None) -> Caller:
    """Return who the cookie was given to; raises InvalidApiKey where it is none of ours, or its key has ended since."""
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
    """Return the sign that forms carry, so that only a page which this session was shown can send one."""
    return _signature(runtime, f"form\n{cookie}")


def _signature(runtime: Runtime, payload: str) -> str:
    key = SecretBox(runtime.settings.secret_key).token("console-sessions").encode()
    return hmac.new(key, payload.encode(), hashlib.sha256).hexdigest()


MAX_FORM_BYTES: Final = 4096

#: The hidden field that every form but that of signing in carries.
CSRF_FIELD: Final = "csrf_token"


async def read_form_fields(request: Request) -> Mapping[str, str]:
    """Return the fields of a form; what is beyond any form of ours is cut off."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            break
    given = parse_qs(body[:MAX_FORM_BYTES].decode(errors="replace"))
    return {name: values[0].strip() for name, values in given.items()}


def check_same_origin(settings: Settings, request: Request) -> None:
    """Raise InsufficientRole where the browser says that another site's page sent the form.

    For whoever is not signed in yet there is no sign; a stranger's page could sign them in with the stranger's key. A
    browser that is old, or is here without TLS, says only whose page it was; a program says nothing.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        own = site in {"same-origin", "none"}
    else:
        here = {request.headers.get("host"), urlsplit(settings.public_url).netloc}
        own = origin is None or origin.partition("://")[2] in here
    if not own:
        raise InsufficientRole(
            "this form was sent by a page of another site; open this service's own page and sign in there"
        )


def check_csrf_token(runtime: Runtime, request: Request, fields: Mapping[str, str]) -> None:
    """Raise InsufficientRole unless the form comes from a page of whoever is signed in.

    A page of somebody else's, opened in the same browser, cannot know the sign: it is no part of the cookie.
    """
    expected = compute_csrf_token(runtime, request.cookies.get(COOKIE, ""))
    if not hmac.compare_digest(fields.get(CSRF_FIELD, "").encode(), expected.encode()):
        raise InsufficientRole("this form is not of a page that you have open; load the page again")
