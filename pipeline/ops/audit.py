"""The audit: it verifies every hash chain of events and acts, and signed checkpoints reveal missing ones."""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import Integer, Select, cast, exists, func, null, select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.core.db import database_now, table
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.exports.event_models import Act, AuditTrail, Event
from pipeline.exports.hash_chain import canonical_bytes, format_instant, hash_act, hash_event
from pipeline.exports.models import Account, Export
from pipeline.ops.raw_rows import MALFORMED, UNREADABLE, tolerant_column, undecoded_text_as_bytes, unreadable_columns

#: A checkpoint ends this long before now, so that no transaction from before that instant is still open.
SETTLED_SECONDS: Final = 300
#: How many broken chains are listed; all are counted.
MAX_BREAKS_LISTED: Final = 100
_BATCH_SIZE: Final = 500

_SIGNATURE_CONTEXT: Final = b"exports audit checkpoint v1\n"
_PURPOSE: Final = "audit-checkpoints"


class ChainBreak(BaseModel):
    """The first event of an export, or the first act of an account, at which a hash chain breaks."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    export_id: str | None = None  # None if the chain is an account's audit trail
    account_id: str | None = None  # None if the chain is an export's log
    seq: int
    kind: Literal["changed", "moved", "replaced", "missing", "added"]
    message: str


_Kind = Literal["changed", "moved", "replaced", "missing", "added"]


@dataclass
class Chain:
    """The hash chain of one export, as far as it was checked; nothing is checked after its first break."""

    owner_id: str
    next_seq: int | None  # None if the owner's row does not say
    seq: int = 0
    hash: str | None = None
    first_break: ChainBreak | None = None

    owner: ClassVar[str] = "export"
    entry: ClassVar[str] = "event"

    @staticmethod
    def hash_entry(entry: Mapping[str, Any]) -> str:
        """Return the hash that the entry must have."""
        return hash_event(entry)

    def follow_event(self, event: Mapping[str, Any]) -> None:
        """Check the next event in the stored order."""
        if self.first_break is not None:
            return
        expected, what = self.seq + 1, self.entry
        if event["seq"] != expected:
            self._record_break(expected, "missing", f"{what} {expected} is missing; {event['seq']} follows {self.seq}")
            return
        hash_matches, links_to_previous = self._hash_matches(event), event["prev_hash"] == self.hash
        if damaged := unreadable_columns(event):
            self._record_break(expected, "changed", f"these columns of the {what} cannot be read: {', '.join(damaged)}")
        elif not hash_matches and not links_to_previous:
            self._record_break(
                expected, "moved", f"the {what} does not fit its hash, and does not follow the {what} before it"
            )
        elif not hash_matches:
            self._record_break(expected, "changed", f"the {what} was changed: it does not fit its hash")
        elif not links_to_previous:
            self._record_break(expected, "replaced", f"the {what} does not follow the {what} before it")
        elif self.next_seq is not None and expected >= self.next_seq:
            self._record_break(expected, "added", f"the {self.owner} assigned numbers only up to {self.next_seq - 1}")
        self.seq, self.hash = expected, event["hash"]

    def finish(self) -> None:
        """Check that the chain may end after the last event."""
        if self.first_break is not None:
            return
        next_expected = self.seq + 1
        if self.next_seq is None:
            message = f"the log ends at {self.seq}; the {self.owner}'s row is missing or lacks the last number"
            self._record_break(next_expected, "missing", message)
        elif next_expected < self.next_seq:
            message = f"the log ends at {self.seq}; numbers up to {self.next_seq - 1} were assigned"
            self._record_break(next_expected, "missing", message)

    def _hash_matches(self, event: Mapping[str, Any]) -> bool:
        try:
            return bool(self.hash_entry(event) == event["hash"])
        except MALFORMED:  # data that is not an event has no hash
            return False

    def _record_break(self, seq: int, kind: _Kind, message: str) -> None:
        owner: dict[str, Any] = {f"{self.owner}_id": self.owner_id}
        self.first_break = ChainBreak(**owner, seq=seq, kind=kind, message=message)


@dataclass
class TrailChain(Chain):
    """The hash chain of an account's audit trail."""

    owner: ClassVar[str] = "account"
    entry: ClassVar[str] = "act"

    @staticmethod
    def hash_entry(entry: Mapping[str, Any]) -> str:
        """Return the hash that the act must have."""
        return hash_act(entry)


@dataclass
class AuditReport:
    """The result of checking every chain: the counts, the breaks, and the root at the requested instant."""

    exports: int = 0
    total: int = 0  # exports to check
    events: int = 0
    acts: int = 0
    broken: int = 0
    breaks: list[ChainBreak] = field(default_factory=list)
    settled_exports: int = 0
    settled_events: int = 0
    settled_acts: int = 0
    root: str = ""

    @property
    def intact(self) -> bool:
        """Whether no chain is broken."""
        return not self.broken


def verify_chains(
    runtime: Runtime,
    on_progress: Callable[[AuditReport], None] = lambda _: None,
    *,
    export_id: str | None = None,
    account_id: str | None = None,
    until: datetime | None = None,
) -> AuditReport:
    """Check the chains of all exports and accounts, of one export, or of one account; memory does not grow with the log.

    The root covers the newest event of each export up to `until`, in the order of their ids; then the newest act of each
    account. `on_progress` is called after each export. Raises NotFound.
    """
    report = AuditReport(total=1 if export_id is not None else _count_exports(runtime, account_id))
    root = hashlib.sha256()
    for chain, last, count in _check_logs(runtime, export_id, account_id, until):
        report.exports += 1
        report.events += chain.seq
        _add_chain(report, chain)
        if last is not None:
            report.settled_exports += 1
            report.settled_events += count
            root.update(f"{chain.owner_id} {last['seq']} {last['hash']}\n".encode())
        on_progress(report)
    if export_id is not None and not report.exports:
        raise NotFound(f"there is no export {export_id}")
    for chain, last, count in () if export_id is not None else _check_trails(runtime, account_id, until):
        report.acts += chain.seq
        _add_chain(report, chain)
        if last is not None:
            report.settled_acts += count
            root.update(f"{chain.owner_id} {last['seq']} {last['hash']}\n".encode())
    report.root = f"sha256:{root.hexdigest()}"
    return report


def _count_exports(runtime: Runtime, account_id: str | None) -> int:
    query = select(func.count()).select_from(Export)
    with runtime.db.read() as session:
        return session.scalar(query if account_id is None else query.where(col(Export.account_id) == account_id)) or 0


def _add_chain(report: AuditReport, chain: Chain) -> None:
    if chain.first_break is not None:
        report.broken += 1
        if len(report.breaks) < MAX_BREAKS_LISTED:
            report.breaks.append(chain.first_break)


#: A checked chain, its newest entry up to the requested instant, and the number of its entries up to then.
_CheckedChain = tuple[Chain, Mapping[str, Any] | None, int]


def _check_logs(
    runtime: Runtime, export_id: str | None, account_id: str | None, until: datetime | None
) -> Iterator[_CheckedChain]:
    rows = select(col(Export.id).label("owner_id"), tolerant_column(table(Export).c.next_seq))
    # If an export's row is missing, its log still names the export, but not the account.
    rowless = select(col(Event.export_id), cast(null(), Integer)).where(
        ~exists().where(col(Export.id) == col(Event.export_id))
    )
    if account_id is None:
        exports = rows.union_all(rowless.distinct()).subquery().c
    else:
        exports = rows.where(col(Export.account_id) == account_id).subquery().c
    query = (
        select(exports.owner_id, exports.next_seq, *map(tolerant_column, table(Event).c))
        .join(Event, col(Event.export_id) == exports.owner_id, isouter=True)
        .order_by(exports.owner_id, col(Event.seq))
    )
    if export_id is not None:
        query = query.where(exports.owner_id == export_id)
    return _follow_chains(runtime, Chain, query, until)


def _check_trails(runtime: Runtime, account_id: str | None, until: datetime | None) -> Iterator[_CheckedChain]:
    rows = select(col(AuditTrail.account_id).label("owner_id"), tolerant_column(table(AuditTrail).c.next_seq))
    rowless = select(col(Act.account_id), cast(null(), Integer)).where(
        ~exists().where(col(AuditTrail.account_id) == col(Act.account_id))
    )
    trails = rows.union_all(rowless.distinct()).subquery().c
    query = (
        select(trails.owner_id, trails.next_seq, *map(tolerant_column, table(Act).c))
        .join(Act, col(Act.account_id) == trails.owner_id, isouter=True)
        .order_by(trails.owner_id, col(Act.seq))
    )
    if account_id is not None:
        query = query.where(trails.owner_id == account_id)
    return _follow_chains(runtime, TrailChain, query, until)


def _follow_chains(
    runtime: Runtime, kind: type[Chain], query: Select[Any], until: datetime | None
) -> Iterator[_CheckedChain]:
    chain: Chain | None = None
    last: Mapping[str, Any] | None = None
    count = 0
    with runtime.db.read() as session, undecoded_text_as_bytes(session):
        streamed = session.execute(query, execution_options={"stream_results": True, "yield_per": _BATCH_SIZE})
        for row in streamed.mappings():
            entry: Mapping[str, Any] = dict(row)
            if chain is None or chain.owner_id != entry["owner_id"]:
                if chain is not None:
                    chain.finish()
                    yield chain, last, count
                last_number = None if entry["next_seq"] is UNREADABLE else entry["next_seq"]
                chain, last, count = kind(entry["owner_id"], last_number), None, 0
            if entry["seq"] is None:
                continue
            chain.follow_event(entry)
            if until is None or (entry["at"] is not UNREADABLE and entry["at"] <= until):
                last, count = entry, count + 1
    if chain is not None:
        chain.finish()
        yield chain, last, count


class SignedCheckpoint(BaseModel):
    """A signed statement of what the log held at an instant; a log that was cut off later does not match it."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    version: Literal[1] = 1
    account: str | None = Field(description="The account of the exports; null for the whole installation")
    until: str = Field(description="The statement covers the events and acts up to this instant")
    exports: int
    events: int
    acts: int
    root: str = Field(
        description="SHA-256 over one line for each export, then for each account: its id, the number of its newest event or"
        " act, and the hash of that"
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
        super().__init__(f"{report.broken} chains are broken")
        self.report = report


def sign_checkpoint(
    runtime: Runtime,
    account_id: str | None = None,
    on_progress: Callable[[AuditReport], None] = lambda _: None,
    *,
    settled_seconds: float = SETTLED_SECONDS,
) -> SignedCheckpoint:
    """Check every chain and return the signed checkpoint of the installation's log, or of one account's.

    Raises BrokenLog, and NotFound for an unknown account.
    """
    with runtime.db.read() as session:
        if account_id is not None and session.get(Account, account_id) is None:
            raise NotFound(f"there is no account {account_id}")
        until: datetime = session.execute(select(database_now(-settled_seconds))).scalar_one()
    report = verify_chains(runtime, on_progress, account_id=account_id, until=until)
    if not report.intact:
        raise BrokenLog(report)
    key = _signing_keys(runtime.settings)[0]
    unsigned = SignedCheckpoint(
        account=account_id,
        until=format_instant(until),
        exports=report.settled_exports,
        events=report.settled_events,
        acts=report.settled_acts,
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
    if report.settled_acts != checkpoint.acts:
        return f"the checkpoint counts {checkpoint.acts} acts, the audit trails have {report.settled_acts}"
    if report.root != checkpoint.root:
        return "the log has as many exports, events and acts as the checkpoint counts, but other ones"
    return None


def _signing_keys(settings: Settings) -> list[Ed25519PrivateKey]:
    tokens = secrets.build_secret_box(settings).tokens(_PURPOSE)
    return [Ed25519PrivateKey.from_private_bytes(bytes.fromhex(token)) for token in tokens]
