"""Signatures of texts that leave the service and come back: links, cookies, forms.

A signature holds for one purpose. Each valid secret key makes one, so a text stays valid after its key is replaced.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.core.encryption import SecretBox

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22,200}")
_SIGNATURE_BYTES: Final = 16


@dataclass(frozen=True)
class Signatures:
    """The valid signatures of a text, by the id of their key, the newest key first."""

    by_key: Mapping[str, str]

    @property
    def newest(self) -> str:
        """The signature to send."""
        return next(iter(self.by_key.values()))

    def find_key(self, given: str) -> str | None:
        """Return the id of the key that made the given signature, or None if none of the keys did."""
        # Compare with all of them, so that the time taken reveals nothing.
        found = [
            key
            for key, each in self.by_key.items()
            if hmac.compare_digest(each.encode(), given.encode(errors="replace"))
        ]
        return found[0] if found else None


def sign_text(box: SecretBox, purpose: str, text: bytes, encode: Callable[[bytes], str] = bytes.hex) -> Signatures:
    """Return the signatures of the text for `purpose`: HMAC-SHA256, 32 bytes, written by `encode`."""
    return Signatures(
        {
            key_id: encode(hmac.digest(token.encode(), text, "sha256"))
            for key_id, token in box.named_tokens(purpose).items()
        }
    )


def encode_token(box: SecretBox, purpose: str, payload: bytes) -> str:
    """Return the payload and a signature of 16 bytes over it, in letters that a URL may have."""
    signature = bytes.fromhex(_sign_token(box, purpose, payload).newest)
    return urlsafe_b64encode(payload + signature).decode().rstrip("=")


def decode_token(box: SecretBox, purpose: str, token: str) -> bytes | None:
    """Return the payload of a token, None if `encode_token` never returned the token."""
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4)) if _TOKEN.fullmatch(token) and len(token) % 4 != 1 else b""
    # The bits after the last byte are not signed: a token is written in one way.
    if not hmac.compare_digest(urlsafe_b64encode(raw).rstrip(b"="), token.encode(errors="replace")):
        return None
    payload, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
    return None if _sign_token(box, purpose, payload).find_key(signature.hex()) is None else payload


def _sign_token(box: SecretBox, purpose: str, payload: bytes) -> Signatures:
    return sign_text(box, purpose, payload, lambda raw: raw[:_SIGNATURE_BYTES].hex())
