"""Encryption of partners' secrets at rest: AES-GCM under the installation's secret key; each sealed text holds the key's id."""

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

#: `v2:KEY ID:BASE64`. Sealed texts of the first version, `v1:BASE64`, hold no key id.
_VERSION = "v2"
_FIRST_VERSION = "v1"
_NONCE_BYTES = 12
_KEY_ID_CHARACTERS = 12


@dataclass(frozen=True)
class _Key:
    """One secret key, and its id, which reveals nothing of the key."""

    id: str
    cipher: AESGCM


class SecretBox:
    """Seals short texts under the newest key; opens texts sealed under any of its keys, only for the same `owner`."""

    def __init__(self, secret_key: SecretStr, *previous: SecretStr) -> None:
        """`previous` are older keys; keep each as long as a text is sealed under it."""
        self._secret_keys = (secret_key, *previous)
        self._keys = [_key(each) for each in self._secret_keys]

    @property
    def prefix(self) -> str:
        """The prefix of all texts sealed under the newest key."""
        return f"{_VERSION}:{self._keys[0].id}:"

    @property
    def key_id(self) -> str:
        """The id of the newest key."""
        return self._keys[0].id

    def seal(self, text: str, owner: str) -> str:
        """Return `text` encrypted. The same text gives a different result each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return (
            self.prefix + b64encode(nonce + self._keys[0].cipher.encrypt(nonce, text.encode(), owner.encode())).decode()
        )

    def open(self, sealed: str, owner: str) -> str:
        """Return the text that was sealed.

        Raises SecretUnreadable if it was sealed under an unknown key, or for another owner.
        """
        version, _, rest = sealed.partition(":")
        key_id, _, text = rest.rpartition(":")
        keys = [key for key in self._keys if version == _FIRST_VERSION or (version, key.id) == (_VERSION, key_id)]
        for key in keys:
            try:
                raw = b64decode(text, validate=True)
                if b64encode(raw).decode() != text:
                    # The last character has unused bits; a text changed in them must not open either.
                    break
                return key.cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
            except (InvalidTag, Error, ValueError):
                continue
        raise SecretUnreadable(
            "a partner's secret cannot be decrypted: neither EXPORTS_SECRET_KEY nor EXPORTS_SECRET_KEYS_PREVIOUS has the key"
            " that it was sealed under; add that key to EXPORTS_SECRET_KEYS_PREVIOUS"
        )

    def token(self, purpose: str) -> str:
        """Return a bearer token for `purpose` that only holders of the newest key can know."""
        return self.tokens(purpose)[0]

    def tokens(self, purpose: str) -> list[str]:
        """Return the valid tokens for `purpose`, one per key, the newest first."""
        return list(self.named_tokens(purpose).values())

    def named_tokens(self, purpose: str) -> dict[str, str]:
        """Return the valid tokens for `purpose` by key id, the newest first."""
        return {key.id: _derive(each, purpose).hex() for key, each in zip(self._keys, self._secret_keys, strict=True)}


def _key(secret_key: SecretStr) -> _Key:
    return _Key(
        id=_derive(secret_key, "key-id").hex()[:_KEY_ID_CHARACTERS],
        cipher=AESGCM(_derive(secret_key, "partner-secrets")),
    )


def _derive(secret_key: SecretStr, purpose: str) -> bytes:
    return hmac.digest(hashlib.sha256(secret_key.get_secret_value().encode()).digest(), purpose.encode(), "sha256")
