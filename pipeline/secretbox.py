"""Encryption of partners' secrets at rest: AES-GCM under the installation's secret key."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from pipeline.errors import Terminal

_VERSION = "v1:"
_NONCE_BYTES = 12


class SecretBox:
    """Seals short texts; a sealed text opens only for the `owner` that it was sealed for."""

    def __init__(self, secret_key: SecretStr) -> None:
        self._key = secret_key.get_secret_value().encode()
        self._cipher = AESGCM(self._derived("partner-secrets"))

    def seal(self, text: str, owner: str) -> str:
        """Return `text` encrypted; twice the same text gives two different results."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), owner.encode())).decode()

    def open(self, sealed: str, owner: str) -> str:
        """Return the text that was sealed.

        Raises Terminal where it was sealed under another key or for another owner.
        """
        raw = b64decode(sealed.removeprefix(_VERSION))
        try:
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
        except InvalidTag:
            raise Terminal(
                "a partner's secret does not open: EXPORTS_SECRET_KEY is not the one it was kept under"
            ) from None

    def token(self, purpose: str) -> str:
        """Return a bearer token for `purpose` that only holders of the secret key can know."""
        return self._derived(purpose).hex()

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(hashlib.sha256(self._key).digest(), purpose.encode(), "sha256")
