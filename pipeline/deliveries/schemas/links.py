"""Links by which documents are fetched without a key: what is answered to whoever asks for them."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from pipeline.exports.schemas.plan import Closed


class DocumentLink(Closed):
    """A document, and the address where it can be fetched without a key for a while."""

    id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    signed_url: str = Field(description="Whoever has it may GET the document, so pass it on with care")
    signed_until: AwareDatetime


class DocumentLinks(Closed):
    """Links to all documents of a handoff."""

    links: list[DocumentLink]
