"""Syncs products, orders and plan templates: creates or replaces them by their external ids, once for each content."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel

from pipeline.core.db import database_now, table
from pipeline.core.errors import DatabaseBusy, IdempotencyKeyReused, ValidationFailed
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.exports.schemas.plan import StrictModel, as_json
from pipeline.orders.models import Order, PlanTemplate, Product, SyncRecord
from pipeline.orders.schemas import OrderSync, ProductSync, TemplateSync
from pipeline.orders.views import SyncedItem, SyncReceipt

R = TypeVar("R")

#: How often a sync starts over when another request wrote the same rows first.
MAX_CONFLICTS: Final = 5
#: The most values in the IN of one statement; each database has a limit.
CHUNK: Final = 500


@dataclass(frozen=True)
class Owner:
    """Whose rows a request reads and writes: an account, and whether with a test key."""

    account_id: str
    test: bool


class RowsChanged(Exception):
    """Another request changed the rows that this one was about to write: read them again."""


@dataclass(frozen=True)
class _Kind:
    """A kind of synced item: its table, the column of its external id, and the prefix of its ids (None: it has none)."""

    table: type[SQLModel]
    key: str
    prefix: str | None


_PRODUCTS: Final = _Kind(Product, "external_id", "prod")
_ORDERS: Final = _Kind(Order, "external_id", "ord")
_TEMPLATES: Final = _Kind(PlanTemplate, "destination_country", None)


@dataclass(frozen=True)
class StoredRequest:
    """The key and the fingerprint of a request that writes, by which its response is found again."""

    owner: Owner
    key: str | None
    fingerprint: str

    @classmethod
    def create(cls, owner: Owner, call: str, key: str | None, body: StrictModel) -> "StoredRequest":
        """Return the stored request; keys count for one call, and those of test keys are separate."""
        # A key has no space, so the parts cannot be confused.
        scoped = None if key is None else f"{'test ' if owner.test else ''}{call} {key}"
        return cls(owner, scoped, _digest(_write_json(body.model_copy(update={"idempotency_key": None}))))

    def find_response(self, session: Session) -> str | None:
        """Return the stored response, or None. Raises IdempotencyKeyReused if the key was used for another request."""
        if self.key is None:
            return None
        record = session.get(SyncRecord, (self.owner.account_id, self.key))
        if record is None:
            return None
        if record.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused(
                "this idempotency key was used with another request; use a new key for a new request",
                field="Idempotency-Key",
            )
        return record.body

    def store_response(self, session: Session, body: str) -> None:
        """Store the response, if the request has a key."""
        if self.key is not None:
            session.execute(
                insert(SyncRecord).values(
                    account_id=self.owner.account_id, key=self.key, fingerprint=self.fingerprint, body=body
                )
            )


def sync_products(runtime: Runtime, owner: Owner, body: ProductSync, key: str | None) -> SyncReceipt:
    """Create or replace products, and return what changed. Raises ValidationFailed and IdempotencyKeyReused."""
    items = {each.external_id: each for each in body.items}
    _check_once([each.external_id for each in body.items], "externalId")
    return _sync(runtime, StoredRequest.create(owner, "products", key, body), _PRODUCTS, items)


def sync_orders(runtime: Runtime, owner: Owner, body: OrderSync, key: str | None) -> SyncReceipt:
    """Create or replace orders, and return what changed. Raises ValidationFailed and IdempotencyKeyReused.

    An order whose content changes leaves the batch that it was planned in, so that the old plan cannot be executed.
    """
    items = {each.external_id: each for each in body.items}
    _check_once([each.external_id for each in body.items], "externalId")
    return _sync(runtime, StoredRequest.create(owner, "orders", key, body), _ORDERS, items)


def sync_templates(runtime: Runtime, owner: Owner, body: TemplateSync, key: str | None) -> SyncReceipt:
    """Create or replace plan templates, and return what changed. Raises ValidationFailed and IdempotencyKeyReused."""
    items = {each.destination_country: each for each in body.items}
    _check_once([each.destination_country for each in body.items], "destinationCountry")
    return _sync(runtime, StoredRequest.create(owner, "plan-templates", key, body), _TEMPLATES, items)


def retry_on_conflict(once: Callable[[], R]) -> R:
    """Return what `once` returns; call it again if another request wrote the same rows first. Raises DatabaseBusy."""
    for _ in range(MAX_CONFLICTS):
        try:
            return once()
        except (IntegrityError, RowsChanged):
            continue
    raise DatabaseBusy("too many requests write the same rows at the same time; try again later")


def _check_once(names: Sequence[str], member: str) -> None:
    """Raise ValidationFailed if a name stands twice: the request would not say which of the two counts."""
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if first.setdefault(name, place) != place:
            raise ValidationFailed(
                f"items {first[name]} and {place} have the same {member}, {name}; send each once",
                field=f"/items/{place}/{member}",
            )


def _sync(runtime: Runtime, stored: StoredRequest, kind: _Kind, items: Mapping[str, StrictModel]) -> SyncReceipt:
    documents = {name: _write_json(item) for name, item in items.items()}

    def once() -> SyncReceipt:
        with runtime.db.write() as session:
            earlier = stored.find_response(session)
            if earlier is not None:
                return SyncReceipt.model_validate_json(earlier)
            receipt = SyncReceipt(data=_write(session, stored.owner, kind, documents))
            stored.store_response(session, receipt.model_dump_json(by_alias=True))
            return receipt

    return retry_on_conflict(once)


def _write(session: Session, owner: Owner, kind: _Kind, documents: Mapping[str, str]) -> list[SyncedItem]:
    existing = _lock_existing(session, owner, kind, sorted(documents))
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    receipt = []
    for name, document in documents.items():
        content_hash = _digest(document)
        row = existing.get(name)
        change: Literal["created", "updated", "unchanged"]
        if row is None:
            identity = {} if kind.prefix is None else {"id": new_id(kind.prefix)}
            change, version, item_id = "created", 1, identity.get("id", name)
            new.append(
                {"account_id": owner.account_id, "test": owner.test, kind.key: name, **identity}
                | {"content_hash": content_hash, "document": document}
            )
        elif row.content_hash == content_hash:
            change, version, item_id = "unchanged", row.version, getattr(row, "id", name)
        else:
            change, version, item_id = "updated", row.version + 1, getattr(row, "id", name)
            changed.append(
                {"of_name": name, "new_hash": content_hash, "new_document": document, "new_version": version}
            )
        receipt.append(SyncedItem(id=item_id, external_id=name, version=version, change=change))
    if new:
        session.execute(insert(kind.table), new)
    if changed:
        _replace(session, owner, kind, changed)
    return receipt


def _lock_existing(session: Session, owner: Owner, kind: _Kind, names: Sequence[str]) -> dict[str, Any]:
    rows = table(kind.table).c
    columns = [rows[kind.key], rows.content_hash, rows.version, *([] if kind.prefix is None else [rows.id])]
    found: dict[str, Any] = {}
    for start in range(0, len(names), CHUNK):
        query = (
            select(*columns)
            .where(
                rows.account_id == owner.account_id,
                rows.test == owner.test,
                rows[kind.key].in_(names[start : start + CHUNK]),
            )
            # All requests lock in this order, so that no two wait for each other.
            .order_by(rows[kind.key])
            .with_for_update()
        )
        found |= {row[0]: row for row in session.execute(query)}
    return found


def _replace(session: Session, owner: Owner, kind: _Kind, changed: Sequence[dict[str, Any]]) -> None:
    rows = table(kind.table).c
    values: dict[str, Any] = {
        "content_hash": bindparam("new_hash"),
        "document": bindparam("new_document"),
        "version": bindparam("new_version"),
        "synced_at": database_now(),
    }
    if kind is _ORDERS:
        # The plan that has the order says something else now. An exported order keeps its batch.
        values |= {"plan_hash": None, "held_until": None}
    owned = {"of_account": owner.account_id, "of_test": owner.test}
    session.execute(
        update(table(kind.table))
        .where(
            rows.account_id == bindparam("of_account"),
            rows.test == bindparam("of_test"),
            rows[kind.key] == bindparam("of_name"),
        )
        .values(values),
        [owned | each for each in changed],
    )


def _write_json(item: StrictModel) -> str:
    """Return the item as JSON in one spelling: equal items have equal texts."""
    return json.dumps(as_json(item), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
