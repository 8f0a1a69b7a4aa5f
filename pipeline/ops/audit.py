"""The audit of the log: it verifies every export's hash chain, and signed checkpoints reveal missing events."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import Integer, cast, exists, null, select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.core.db import database_now, table
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.exports.hash_chain import canonical_bytes, format_instant, hash_event
from pipeline.exports.models import Account, Event, Export
from pipeline.ops.raw_rows import MALFORMED, UNREADABLE, tolerant_column, undecoded_text_as_bytes, unreadable_columns

#: A checkpoint ends this long before now, so that no transaction from before that instant is still open.
SETTLED_SECONDS: Final = 300
#: How many broken chains are listed; all are counted.
MAX_BREAKS_LISTED: Final = 100
_BATCH_SIZE: Final = 500

_SIGNATURE_CONTEXT: Final = b"exports audit checkpoint v1\n"
_PURPOSE: Final = "audit-checkpoints"


class ChainBreak(BaseModel):
    """The first event at which a hash chain breaks."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    export_id: str
    seq: int
    kind: Literal["changed", "moved", "replaced", "missing", "added"]
    message: str


@dataclass
class Chain:
    """The hash chain of one export, as far as it was checked; nothing is checked after its first break."""

    export_id: str
    next_seq: int | None  # None if the export's row does not say
    seq: int = 0
    hash: str | None = None
    first_break: ChainBreak | None = None

    def follow_event(self, event: Mapping[str, Any]) -> None:
        """Check the next event in the stored order."""
        if self.first_break is not None:
            return
        expected = self.seq + 1
        if event["seq"] != expected:
            self._record_break(expected, "missing", f"event {expected} is missing; {event['seq']} follows {self.seq}")
            return
        hash_matches, links_to_previous = _hash_matches(event), event["prev_hash"] == self.hash
        if damaged := unreadable_columns(event):
            self._record_break(expected, "changed", f"these columns of the event cannot be read: {', '.join(damaged)}")
        elif not hash_matches and not links_to_previous:
            self._record_break(
                expected, "moved", "the event does not fit its hash, and does not follow the event before it"
            )
        elif not hash_matches:
            self._record_break(expected, "changed", "the event was changed: it does not fit its hash")
        elif not links_to_previous:
            self._record_break(expected, "replaced", "the event does not follow the event before it")
        elif self.next_seq is not None and expected >= self.next_seq:
            self._record_break(expected, "added", f"the export assigned numbers only up to {self.next_seq - 1}")
        self.seq, self.hash = expected, event["hash"]

    def finish(self) -> None:
        """Check that the chain may end after the last event."""
        if self.first_break is not None:
            return
        next_expected = self.seq + 1
        if self.next_seq is None:
            message = f"the log ends at {self.seq}; the export's row is missing or lacks the last number"
            self._record_break(next_expected, "missing", message)
        elif next_expected < self.next_seq:
            message = f"the log ends at {self.seq}; numbers up to {self.next_seq - 1} were assigned"
            self._record_break(next_expected, "missing", message)

    def _record_break(
        self, seq: int, kind: Literal["changed", "moved", "replaced", "missing", "added"], message: str
    ) -> None:
        self.first_break = ChainBreak(export_id=self.export_id, seq=seq, kind=kind, message=message)


def _hash_matches(event: Mapping[str, Any]) -> bool:
    try:
        return bool(hash_event(event) == event["hash"])
    except MALFORMED:  # data that is not an event has no hash
        return False


@dataclass
class AuditReport:
    """The result of checking every chain: the counts, the breaks, and the root at the requested instant."""

    exports: int = 0
    events: int = 0
    broken: int = 0
    breaks: list[ChainBreak] = field(default_factory=list)
    settled_exports: int = 0
    settled_events: int = 0
    root: str = ""

    @property
    def intact(self) -> bool:
        """Whether no chain is broken."""
        return not self.broken


def verify_chains(
    runtime: Runtime, *, export_id: str | None = None, account_id: str | None = None, until: datetime | None = None
) -> AuditReport:
    """Check the chains of all exports, of one export, or of one account; memory does not grow with the log.

    The root covers the newest event of each export up to `until`, in the order of their ids. Raises NotFound.
    """
    report = AuditReport()
    root = hashlib.sha256()
    for chain, last, event_count in _check_chains(runtime, export_id, account_id, until):
        report.exports += 1
        report.events += chain.seq
        if chain.first_break is not None:
            report.broken += 1
            if len(report.breaks) < MAX_BREAKS_LISTED:
                report.breaks.append(chain.first_break)
        if last is not None:
            report.settled_exports += 1
            report.settled_events += event_count
            root.update(f"{chain.export_id} {last['seq']} {last['hash']}\n".encode())
    if export_id is not None and not report.exports:
        raise NotFound(f"there is no export {export_id}")
    report.root = f"sha256:{root.hexdigest()}"
    return report


def _check_chains(
    runtime: Runtime, export_id: str | None, account_id: str | None, until: datetime | None
) -> Iterator[tuple[Chain, Mapping[str, Any] | None, int]]:
    """Yield each export's chain, its newest event up to `until`, and the number of its events up to then."""
    rows = select(col(Export.id).label("export_id"), tolerant_column(table(Export).c.next_seq))
    # If an export's row is missing, its log still names the export, but not the account.
    rowless = select(col(Event.export_id), cast(null(), Integer)).where(
        ~exists().where(col(Export.id) == col(Event.export_id))
    )
    if account_id is None:
        exports = rows.union_all(rowless.distinct()).subquery().c
    else:
        exports = rows.where(col(Export.account_id) == account_id).subquery().c
    columns = [tolerant_column(column) for column in table(Event).c if column.name != "export_id"]
    query = (
        select(exports.export_id, exports.next_seq, *columns)
        .join(Event, col(Event.export_id) == exports.export_id, isouter=True)
        .order_by(exports.export_id, col(Event.seq))
    )
    if export_id is not None:
        query = query.where(exports.export_id == export_id)
    chain: Chain | None = None
    last: Mapping[str, Any] | None = None
    count = 0
    with runtime.db.read() as session, undecoded_text_as_bytes(session):
        streamed = session.execute(query, execution_options={"stream_results": True, "yield_per": _BATCH_SIZE})
        for row in streamed.mappings():
            event: Mapping[str, Any] = dict(row)
            if chain is None or chain.export_id != event["export_id"]:
                if chain is not None:
                    chain.finish()
                    yield chain, last, count
                last_number = None if event["next_seq"] is UNREADABLE else event["next_seq"]
                chain, last, count = Chain(event["export_id"], last_number), None, 0
            if event["seq"] is None:
                continue
            chain.follow_event(event)
            if until is None or (event["at"] is not UNREADABLE and event["at"] <= until):
                last, count = event, count + 1
    if chain is not None:
        chain.finish()
        yield chain, last, count


class SignedCheckpoint(BaseModel):
    """A signed statement of what the log held at an instant; a log that was cut off later does not match it."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    version: Literal[1] = 1
    account: str | None = Field(description="The account of the exports; null for the whole installation")
    until: str = Field(description="The statement covers the events up to this instant")
    exports: int
    events: int
    root: str = Field(
        description="SHA-256 over one line for each export: its id, its newest event's number and that event's hash"
    )
    public_key: str = Field(description="Ed25519, base64")
    signature: str = Field(description="Over the RFC 8785 JSON of the other members, base64")

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        return _SIGNATURE_CONTEXT + canonical_bytes(self.model_dump(by_alias=True, exclude={"signature"}))


class BrokenLog(Exception):
    """The log is broken, so no checkpoint of it can be signed."""

    def __init__(self, report: AuditReport) -> None:
        super().__init__(f"{report.broken} of {report.exports} chains are broken")
        self.report = report


def sign_checkpoint(
    runtime: Runtime, account_id: str | None = None, *, settled_seconds: float = SETTLED_SECONDS
) -> SignedCheckpoint:
    """Check every chain and return the signed checkpoint of the installation's log, or of one account's.

    Raises BrokenLog, and NotFound for an unknown account.
    """
    with runtime.db.read() as session:
        if account_id is not None and session.get(Account, account_id) is None:
            raise NotFound(f"there is no account {account_id}")
        until: datetime = session.execute(select(database_now(-settled_seconds))).scalar_one()
    report = verify_chains(runtime, account_id=account_id, until=until)
    if not report.intact:
        raise BrokenLog(report)
    key = _signing_keys(runtime.settings)[0]
    unsigned = SignedCheckpoint(
        account=account_id,
        until=format_instant(until),
        exports=report.settled_exports,
        events=report.settled_events,
        root=report.root,
        public_key=b64encode(key.public_key().public_bytes_raw()).decode(),
        signature="",
    )
    return unsigned.model_copy(update={"signature": b64encode(key.sign(unsigned.signed_bytes)).decode()})


def is_own_signature(settings: Settings, checkpoint: SignedCheckpoint) -> bool:
    """Return whether the checkpoint was signed with the current secret key or a previous one."""
    for key in _signing_keys(settings):
        public = key.public_key()
        if b64encode(public.public_bytes_raw()).decode() == checkpoint.public_key:
            try:
                public.verify(b64decode(checkpoint.signature, validate=True), checkpoint.signed_bytes)
            except (InvalidSignature, ValueError):
                return False
            return True
    return False


def find_mismatch(checkpoint: SignedCheckpoint, report: AuditReport) -> str | None:
    """Return how the log up to the checkpoint's instant differs from the checkpoint; None if it matches."""
    if report.settled_exports != checkpoint.exports:
        return f"the checkpoint counts {checkpoint.exports} exports, the log has {report.settled_exports}"
    if report.settled_events != checkpoint.events:
        return f"the checkpoint counts {checkpoint.events} events, the log has {report.settled_events}"
    if report.root != checkpoint.root:
        return "the log has as many exports and events as the checkpoint counts, but other ones"
    return None


def _signing_keys(settings: Settings) -> list[Ed25519PrivateKey]:
    tokens = secrets.build_secret_box(settings).tokens(_PURPOSE)
    return [Ed25519PrivateKey.from_private_bytes(bytes.fromhex(token)) for token in tokens]
