"""Time-ordered ids: later ids sort after earlier ones, which keeps inserts at the end of every index."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def new_id(prefix: str) -> str:
    """Return `prefix_` and 26 characters: 48 bits of milliseconds and 80 random bits (the layout of a ULID)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return prefix + "_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def safe_request_id(given: str, prefix: str) -> str:
    """Return the caller's request id, or a new id if the caller's is not safe in a log or a header."""
    return given if _SAFE.fullmatch(given) else new_id(prefix)
