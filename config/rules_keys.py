"""The public keys of the people who may sign customs rules."""

from __future__ import annotations

from base64 import b64decode

#: The length of a public key of Ed25519.
_KEY_BYTES = 32


def check_rules_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys without spaces around them; raise ValueError for one that is not a public key of Ed25519."""
    return tuple(map(_check_key, keys))


def _check_key(text: str) -> str:
    key = text.strip()
    try:
        length = len(b64decode(key, validate=True))
    except ValueError:
        length = 0
    if length != _KEY_BYTES:
        raise ValueError(f"{key!r} is not a public key of Ed25519 in base64; `exports rules key FILE` prints yours")
    return key
