"""Idempotency records: the stored responses to requests to execute or amend, by idempotency key."""

from dataclasses import dataclass
from typing import Any, Final, Self, cast

from sqlalchemy import bindparam, insert, literal, select, true
from sqlmodel import Session

from pipeline.accounts.api_keys import Caller
from pipeline.core.db import table
from pipeline.core.errors import IdempotencyKeyReused
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.exports.models import Export, IdempotencyRecord
from pipeline.exports.plans import UNHASHED, HashedPlan, hash_json
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.workflow.preflight import FIND_EXECUTED, batch_params

_records = table(IdempotencyRecord).c
_FIND_RECORD: Final = select(_records.fingerprint, _records.export_id, _records.status, _records.body).where(
    _records.account_id == bindparam("of_account"), _records.key == bindparam("of_key")
)
_earlier = FIND_EXECUTED.subquery()
_FIND_EARLIER: Final = select(
    *_earlier.c, *(_records[name].label(f"key_{name}") for name in ("fingerprint", "export_id", "status", "body"))
).select_from(
    select(literal(1))
    .subquery()
    .outerjoin(_earlier, true())
    .outerjoin(table(IdempotencyRecord), _FIND_RECORD.whereclause)
)
_INSERT_RECORD: Final = insert(table(IdempotencyRecord))


@dataclass(frozen=True)
class Acceptance:
    """The response to a request to execute; `created` says that this request created the export.

    `queues` are those in which its units wait, one for each unit. `streams` are the delivery streams with new pending deliveries.
    """

    export_id: str
    status: int
    body: str
    created: bool = False
    replayed: bool = False
    queues: tuple[str, ...] = ()
    streams: tuple[DeliveryStream, ...] = ()


@dataclass(frozen=True)
class IdempotentRequest:
    """The key and the fingerprint of a request, which find and store its response."""

    account_id: str
    key: str | None
    fingerprint: str

    @classmethod
    def create(cls, caller: Caller, key: str | None, fingerprint: str) -> Self:
        """Return the idempotent request of `caller`; keys of test callers are separate from those of live callers."""
        # An idempotency key never contains a space, so a live key cannot equal a prefixed test key.
        return cls(caller.account_id, f"test {key}" if key is not None and caller.test else key, fingerprint)

    def find_response(self, session: Session) -> Acceptance | None:
        """Return the stored response, or None; raise IdempotencyKeyReused if the key was used for another request."""
        if self.key is None:
            return None
        record = session.execute(_FIND_RECORD, self._params()).first()
        return None if record is None else self._replay(*record)

    def find_response_or_export(self, session: Session, caller: Caller, batch_id: str) -> Acceptance | Export | None:
        """Return what `find_response` returns; else the newest export of the batch, or None. This is one statement."""
        row = session.execute(_FIND_EARLIER, self._params() | batch_params(caller, batch_id)).one()
        if row.key_export_id is not None:
            return self._replay(row.key_fingerprint, row.key_export_id, row.key_status, row.key_body)
        return None if row.id is None else cast("Export", row)

    def _params(self) -> dict[str, Any]:
        return {"of_account": self.account_id, "of_key": self.key}

    def _replay(self, fingerprint: str, export_id: str, status: int, body: str) -> Acceptance:
        if fingerprint != self.fingerprint:
            raise IdempotencyKeyReused(
                "this idempotency key was used with another request; use a new key for a new request",
                field="Idempotency-Key",
            )
        return Acceptance(export_id, status, body, replayed=True)

    def store_response(self, session: Session, export_id: str, body: str) -> None:
        """Store the response, if the request has a key."""
        if self.key is not None:
            row = {"account_id": self.account_id, "key": self.key, "fingerprint": self.fingerprint}
            session.execute(_INSERT_RECORD, row | {"export_id": export_id, "status": 202, "body": body})


def request_fingerprint(request: ExecuteRequest, inline: HashedPlan | None, **extra: str) -> str:
    """Return a hash that is equal for equal requests; `extra` holds what they say outside their bodies."""
    # Two plans are equal if their hashes and the members that the hash leaves out are equal.
    return hash_json(
        {
            "accountId": request.account_id,
            "batchId": request.batch_id,
            "planHash": request.plan_hash,
            "plan": inline and {"hash": inline.plan_hash, **{name: inline.raw.get(name) for name in UNHASHED}},
            **({} if request.upstream is None else {"upstream": request.upstream}),
            **extra,
        }
    )
