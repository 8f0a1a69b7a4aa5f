"""Who looks at the pages: a signed, short-lived cookie that names a key and holds no secret of it."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final

from pipeline.accounts.api_keys import READ, Caller, caller_of_key, find_caller
from pipeline.core import tenancy
from pipeline.core.db import utc_now
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import InvalidApiKey
from pipeline.core.runtime import Runtime

COOKIE: Final = "exports_console"
LASTS: Final = timedelta(hours=8)


def sign_in(runtime: Runtime, bearer: str, *, now: datetime | None = None) -> str:
    """Return the cookie's value for the holder of a key that may read.

    Raises InvalidApiKey, InsufficientRole.
    """
    caller = find_caller(runtime, bearer, now=now)
    caller.need(READ)
    until = int(((now or utc_now()) + LASTS).timestamp())
    said = f"{caller.key_id}.{until}"
    return f"{said}.{_signature(runtime, said)}"


def signed_in(runtime: Runtime, cookie: str, *, now: datetime | None = None) -> Caller:
    """Return who the cookie was given to; raises InvalidApiKey where it is none of ours, or its key has ended since."""
    said, _, signature = cookie.rpartition(".")
    key_id, _, until = said.partition(".")
    moment = now or utc_now()
    if not hmac.compare_digest(signature.encode(), _signature(runtime, said).encode()):
        raise InvalidApiKey("sign in with an API key")
    if moment.timestamp() >= int(until):
        raise InvalidApiKey("the session has ended; sign in again")
    caller = caller_of_key(runtime, key_id, now=moment)
    caller.need(READ)
    tenancy.act_for(caller.account_id)
    return caller


def token_of(runtime: Runtime, cookie: str) -> str:
    """Return the sign that forms carry, so that only a page which this session was shown can send one."""
    return _signature(runtime, f"form\n{cookie}")


def _signature(runtime: Runtime, said: str) -> str:
    key = SecretBox(runtime.settings.secret_key).token("console-sessions").encode()
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()
