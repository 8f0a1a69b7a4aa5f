"""The files that we leave on a partner's SFTP server; closed, camelCase."""

from __future__ import annotations

from pydantic import Field

from pipeline.exports.schemas.plan import Closed


class DeliveredFile(Closed):
    """A file of a message, by its path below the folder of the message."""

    name: str
    size: int = Field(description="Bytes")
    sha256: str


class FileManifest(Closed):
    """manifest.json: written last, so that where it lies all the files that it lists lie complete."""

    id: str = Field(description="The CloudEvent's id: the same message sent again keeps it")
    type: str = Field(description="The CloudEvent's type")
    export_id: str
    files: list[DeliveredFile]
