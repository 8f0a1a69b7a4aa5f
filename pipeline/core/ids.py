"""Time-ordered ids: later ids sort after earlier ones, which keeps inserts at the end of every index."""

import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Final

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_RANDOM_BITS: Final = 80
_CHARACTERS: Final = 26
#: An id can be guessed from the one before with a chance of one in two to the power of this.
_STEP_BITS: Final = 56
_last_drawn: Final[dict[str, tuple[int, int]]] = {}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def new_id(prefix: str, at: datetime | None = None) -> str:
    """Return `prefix_` and 26 characters: 48 bits of milliseconds and 80 random bits (the layout of a ULID).

    The milliseconds are those of `at`, by default of this process's clock. Of the ids with one prefix that a
    process makes in one millisecond, each is larger than the one before, so that lists keep their order.
    """
    milliseconds = time.time_ns() // 1_000_000 if at is None else _milliseconds(at)
    return _encode(prefix, milliseconds, _draw_bits(prefix, milliseconds))


def is_own_id(prefix: str, text: str) -> bool:
    """Return whether the text has the form of an id that `new_id` makes with this prefix."""
    head, _, drawn = text.rpartition("_")
    return head == prefix and len(drawn) == _CHARACTERS and not set(drawn) - set(_ALPHABET)


def _draw_bits(prefix: str, milliseconds: int) -> int:
    """Return random bits, larger than the last ones of this prefix if they were drawn for the same millisecond."""
    # Without a lock, which a fork could leave locked: threads at the same time draw different bits in any order.
    last_milliseconds, bits = _last_drawn.get(prefix, (-1, 0))
    if milliseconds == last_milliseconds:
        bits += 1 + secrets.randbits(_STEP_BITS)
    else:
        bits = secrets.randbits(_RANDOM_BITS - 1)  # the upper half is for the ids that follow
    _last_drawn[prefix] = milliseconds, bits
    return bits


def first_id(prefix: str, at: datetime) -> str:
    """Return the smallest id of the millisecond of `at`."""
    return _encode(prefix, _milliseconds(at), 0)


def last_id(prefix: str, at: datetime) -> str:
    """Return the largest id of the millisecond of `at`."""
    return _encode(prefix, _milliseconds(at), 2**_RANDOM_BITS - 1)


def _milliseconds(at: datetime) -> int:
    return max(0, (at - _EPOCH) // timedelta(milliseconds=1))


def _encode(prefix: str, milliseconds: int, low_bits: int) -> str:
    number = milliseconds << _RANDOM_BITS | low_bits
    return prefix + "_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def safe_request_id(given: str, prefix: str) -> str:
    """Return the caller's request id, or a new id if the caller's is not safe in a log or a header."""
    return given if _SAFE.fullmatch(given) else new_id(prefix)
