"""Answers to requests to execute or amend, kept under the idempotency keys that they came with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import bindparam, insert, select
from sqlmodel import Session

from pipeline.accounts.api_keys import Caller
from pipeline.core.db import table
from pipeline.core.errors import IdempotencyKeyReused
from pipeline.deliveries.outbox import DeliveryStream
from pipeline.exports.models import IdempotencyRecord

_records = table(IdempotencyRecord).c
_FIND_RECORD: Final = select(_records.fingerprint, _records.export_id, _records.status, _records.body).where(
    _records.account_id == bindparam("of_account"), _records.key == bindparam("of_key")
)
_INSERT_RECORD: Final = insert(table(IdempotencyRecord))


@dataclass(frozen=True)
class Acceptance:
    """The answer to a request to execute: `created` where this very request made the export, of so many `units`.

    `streams` are owed something new by it.
    """

    export_id: str
    status: int
    body: str
    created: bool = False
    replayed: bool = False
    units: int = 0
    streams: tuple[DeliveryStream, ...] = ()


@dataclass(frozen=True)
class IdempotentRequest:
    """Where the answer to a request is kept, for whoever sends its idempotency key again."""

    account_id: str
    key: str | None
    fingerprint: str

    @classmethod
    def create(cls, caller: Caller, key: str | None, fingerprint: str) -> Self:
        """Return the place of the answer to `caller`: a test key's idempotency keys are none of a live one's."""
        # No idempotency key has a blank, so that none can be taken for such a one.
        return cls(caller.account_id, f"test {key}" if key is not None and caller.test else key, fingerprint)

    def find_response(self, session: Session) -> Acceptance | None:
        """Return the answer that the key had before; raises IdempotencyKeyReused where that was to another request."""
        if self.key is None:
            return None
        record = session.execute(_FIND_RECORD, {"of_account": self.account_id, "of_key": self.key}).first()
        if record is None:
            return None
        if record.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused(
                "this idempotency key was used with another body; take a new key for a new request",
                field="Idempotency-Key",
            )
        return Acceptance(record.export_id, record.status, record.body, replayed=True)

    def store_response(self, session: Session, export_id: str, body: str) -> None:
        """Write the answer down, if the request has a key."""
        if self.key is not None:
            row = {"account_id": self.account_id, "key": self.key, "fingerprint": self.fingerprint}
            session.execute(_INSERT_RECORD, row | {"export_id": export_id, "status": 202, "body": body})
