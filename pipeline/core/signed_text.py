"""Signatures of texts that leave the service and come back: links, cookies, forms.

A signature holds for one purpose. Each valid secret key makes one, so a text stays valid after its key is replaced.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.core.encryption import SecretBox


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
