"""Encryption of partners' secrets at rest: AES-GCM under the installation's secret key, which every sealed text names."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from binascii import Error
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from pipeline.core.errors import SecretUnreadable

#: `v2:KEY ID:BASE64`. Sealed texts of the first version, `v1:BASE64`, name no key.
_VERSION = "v2"
_FIRST_VERSION = "v1"
_NONCE_BYTES = 12
_KEY_ID_CHARACTERS = 12


@dataclass(frozen=True)
class _Key:
    """One secret key, and the id that tells it from others without telling anything of it."""

    id: str
    cipher: AESGCM


class SecretBox:
    """Seals short texts under the newest key; a sealed text opens under any, only for the `owner` it was sealed for."""

    def __init__(self, secret_key: SecretStr, *previous: SecretStr) -> None:
        """`previous` are the keys that came before, as long as something is sealed under them."""
        self._secret_keys = (secret_key, *previous)
        self._keys = [_key(each) for each in self._secret_keys]

    @property
    def prefix(self) -> str:
        """What everything that is sealed under the newest key begins with."""
        return f"{_VERSION}:{self._keys[0].id}:"

    def seal(self, text: str, owner: str) -> str:
        """Return `text` encrypted; twice the same text gives two different results."""
        nonce = os.urandom(_NONCE_BYTES)
        return (
            self.prefix + b64encode(nonce + self._keys[0].cipher.encrypt(nonce, text.encode(), owner.encode())).decode()
        )

    def open(self, sealed: str, owner: str) -> str:
        """Return the text that was sealed.

        Raises SecretUnreadable where it was sealed under a key that is not here, or for another owner.
        """
        version, _, rest = sealed.partition(":")
        key_id, _, text = rest.rpartition(":")
        keys = [key for key in self._keys if version == _FIRST_VERSION or (version, key.id) == (_VERSION, key_id)]
        for key in keys:
            try:
                raw = b64decode(text, validate=True)
                if b64encode(raw).decode() != text:
                    # The last character has bits that no byte is made of; a changed text opens nothing all the same.
                    break
                return key.cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
            except (InvalidTag, Error, ValueError):
                continue
        raise SecretUnreadable(
            "a partner's secret does not open: the key that it was sealed under is neither EXPORTS_SECRET_KEY nor one of"
            " EXPORTS_SECRET_KEYS_PREVIOUS"
        )

    def token(self, purpose: str) -> str:
        """Return a bearer token for `purpose` that only holders of the newest key can know."""
        return self.tokens(purpose)[0]

    def tokens(self, purpose: str) -> list[str]:
        """Return the tokens that count for `purpose`, one a key, the newest first."""
        return list(self.named_tokens(purpose).values())

    def named_tokens(self, purpose: str) -> dict[str, str]:
        """Return the same by the ids of the keys."""
        return {key.id: _derive(each, purpose).hex() for key, each in zip(self._keys, self._secret_keys, strict=True)}


def _key(secret_key: SecretStr) -> _Key:
    return _Key(
        id=_derive(secret_key, "key-id").hex()[:_KEY_ID_CHARACTERS],
        cipher=AESGCM(_derive(secret_key, "partner-secrets")),
    )


def _derive(secret_key: SecretStr, purpose: str) -> bytes:
    return hmac.digest(hashlib.sha256(secret_key.get_secret_value().encode()).digest(), purpose.encode(), "sha256")
