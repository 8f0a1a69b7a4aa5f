"""The table of the files of conversations."""

from datetime import datetime

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from pipeline.core.columns import instant_column, timestamp_column


class ConversationFile(SQLModel, table=True):
    """A file that the customs broker or the exporter sent about a handoff; the store holds its bytes under their hash."""

    __tablename__ = "attachments"
    __table_args__ = (
        Index("ix_attachments_export_id", "export_id", "id"),
        Index("ix_attachments_sha256_id", "sha256", "id"),
    )

    id: str = Field(primary_key=True)  # follows from export, sender, name and content: a repeated file is the same row
    export_id: str = Field(foreign_key="exports.id")
    account_id: str
    partner_id: str | None = None  # the customs broker that sent it; None: the exporter did
    author: str
    filename: str | None = None  # None after the purge
    media_type: str
    size: int = Field(sa_type=BigInteger)
    sha256: str
    attached_at: datetime = timestamp_column()
    purged_at: datetime | None = instant_column(nullable=True)  # since then its bytes are not in the store
