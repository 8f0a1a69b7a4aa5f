"""What a run left behind, for the judge: answers to callers, messages to partners, and the rows of one account."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlmodel import SQLModel

from pipeline.core.db import table
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Attempt, Delivery, Notification
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export, ExportUnit, Step

#: A row as a mapping of its columns.
Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class ReceivedMessage:
    """A message that a partner received, by `partner_id` and `channel`; `taken` says whether the partner accepted it."""

    message_id: str
    export_id: str
    partner_id: str
    channel: str
    taken: bool = True

    @property
    def delivery(self) -> tuple[str, str, str]:
        """The notification, partner and channel of its delivery."""
        return self.message_id, self.partner_id, self.channel


@dataclass(frozen=True)
class RunEvidence:
    """The evidence of a run after all work is done.

    `answers` are the batch, if known, and the export of each request that was accepted. `intact` has the SHA-256 of each
    document that the store holds unchanged. `tries` is the number of attempts before a message is a dead letter.
    """

    tables: Tables
    answers: Sequence[tuple[str | None, str]]
    received: Sequence[ReceivedMessage]
    intact: Collection[str]
    tries: int


def read_tables(runtime: Runtime, account_id: str) -> dict[str, Sequence[Row]]:
    """Return the account's rows of the tables of exports, steps, events, documents, messages and attempts, by table."""
    found: dict[str, Sequence[Row]] = {}
    with runtime.db.read() as session:

        def read(model: type[SQLModel], column: str, of: str = "") -> None:
            wanted = [row["id"] for row in found[of]] if of else [account_id]
            rows = session.execute(select(table(model)).where(table(model).c[column].in_(wanted))).mappings()
            found[str(model.__tablename__)] = [dict(row) for row in rows]

        read(Export, "account_id")
        for model in (ExportUnit, Step, Event, Artifact, Notification):
            read(model, "export_id", "exports")
        read(Delivery, "subject_id", "exports")
        read(Attempt, "delivery_id", "deliveries")
    return found
