"""The files that we leave on a partner's SFTP server, and those that a customs broker leaves there for us; camelCase."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from pipeline.schemas.messages import AcknowledgementBody
from pipeline.schemas.plan import Closed


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


class AcknowledgementFile(AcknowledgementBody):
    """A file in/*.json: a customs broker's answer, which says which handoff it is about."""

    submission_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")] = Field(
        description="The submissionId of the handoff"
    )
