"""A document: finished bytes with the name, type and template version that they go by."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Document:
    """One rendered document; the same invoice and `template_version` give the same `body`."""

    artifact_type: str
    filename: str
    media_type: str
    template_version: str
    body: bytes

    @property
    def digest(self) -> str:
        """The body's digest, written `sha256:<hex>`."""
        return f"sha256:{sha256(self.body).hexdigest()}"
