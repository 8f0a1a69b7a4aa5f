"""Batches of orders: reads what a plan is built from, and holds or claims the orders of a batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from pipeline.core.db import database_now, row_count, table
from pipeline.core.errors import InvalidState
from pipeline.exports.models import Export
from pipeline.orders.models import Order, PlannedBatch, PlanTemplate, Product
from pipeline.orders.schemas import ProductItem, SyncedOrder, TemplateItem
from pipeline.orders.sync import CHUNK, Owner, RowsChanged


@dataclass(frozen=True)
class FoundOrder:
    """A synced order, its place in a batch, and the state of the export that it left with."""

    id: str
    external_id: str
    version: int
    order: SyncedOrder
    batch_id: str | None
    plan_hash: str | None
    held_until: datetime | None
    export_id: str | None
    export_state: str | None


@dataclass(frozen=True)
class OrderSet:
    """The orders that a request names: those that exist, and the ids of the others."""

    known: Sequence[FoundOrder]
    unknown: Sequence[str]


@dataclass(frozen=True)
class PlannedFacts:
    """The facts of a planned batch that the log of its export records."""

    batch_id: str
    plan_hash: str
    orders: int
    created_at: datetime
    planned_at: datetime


def load_orders(session: Session, owner: Owner, order_ids: Sequence[str]) -> OrderSet:
    """Return the orders with these ids, each once, in the order of the request."""
    asked = list(dict.fromkeys(order_ids))
    rows: dict[str, FoundOrder] = {}
    for chunk in _chunks(asked):
        query = select(Order, _newest_state()).where(
            col(Order.account_id) == owner.account_id, col(Order.test) == owner.test, col(Order.id).in_(chunk)
        )
        for row, state in session.execute(query):
            rows[row.id] = FoundOrder(
                row.id,
                row.external_id,
                row.version,
                SyncedOrder.model_validate_json(row.document),
                row.batch_id,
                row.plan_hash,
                row.held_until,
                row.export_id,
                state,
            )
    return OrderSet([rows[each] for each in asked if each in rows], [each for each in asked if each not in rows])


def _newest_state() -> Any:
    """Return the state of the newest revision of the export that the order left with, as a subquery on `orders`."""
    first = table(Export).alias("first")
    newest = table(Export).alias("newest")
    return (
        select(newest.c.state)
        .select_from(newest)
        .join(
            first,
            (first.c.account_id == newest.c.account_id)
            & (first.c.batch_id == newest.c.batch_id)
            & (first.c.test == newest.c.test),
        )
        .where(first.c.id == col(Order.export_id))
        .order_by(newest.c.revision.desc())
        .limit(1)
        .correlate(table(Order))
        .scalar_subquery()
    )


def load_products(session: Session, owner: Owner, product_ids: Collection[str]) -> Mapping[str, ProductItem]:
    """Return the products by the id that orders name: an externalId, else an id of this service. Unknown ones are left out."""
    by_external: dict[str, ProductItem] = {}
    by_id: dict[str, ProductItem] = {}
    for chunk in _chunks(sorted(product_ids)):
        query = select(Product).where(
            col(Product.account_id) == owner.account_id,
            col(Product.test) == owner.test,
            or_(col(Product.external_id).in_(chunk), col(Product.id).in_(chunk)),
        )
        for row in session.scalars(query):
            item = ProductItem.model_validate_json(row.document)
            by_external[row.external_id], by_id[row.id] = item, item
    found = by_id | by_external
    return {each: found[each] for each in product_ids if each in found}


def load_template(session: Session, owner: Owner, country: str) -> TemplateItem | None:
    """Return the plan template for the country, or None."""
    row = session.get(PlanTemplate, (owner.account_id, owner.test, country))
    return None if row is None else TemplateItem.model_validate_json(row.document)


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


_batches, _orders = table(PlannedBatch).c, table(Order).c

_KEEP_BATCH: Final = {
    dialect: each.on_conflict_do_update(
        index_elements=["account_id", "test", "batch_id"],
        set_={"plan_hash": each.excluded.plan_hash, "orders": each.excluded.orders, "planned_at": database_now()},
    )
    for dialect, each in (
        ("postgresql", postgresql.insert(table(PlannedBatch))),
        ("sqlite", sqlite.insert(table(PlannedBatch))),
    )
}
_OF_OWNER: Final = (_orders.account_id == bindparam("of_account"), _orders.test == bindparam("of_test"))
_HOLD: Final = (
    update(table(Order))
    .where(*_OF_OWNER, _orders.external_id == bindparam("of_order"))
    .values(
        batch_id=bindparam("of_batch"), plan_hash=bindparam("of_hash"), held_until=bindparam("until"), export_id=None
    )
)
_RELEASE: Final = (
    update(table(Order))
    .where(
        *_OF_OWNER,
        _orders.batch_id == bindparam("of_batch"),
        _orders.export_id.is_(None),
        _orders.plan_hash.is_distinct_from(bindparam("of_hash")),
    )
    .values(batch_id=None, plan_hash=None, held_until=None)
)
_CLAIM: Final = (
    update(table(Order))
    .where(
        *_OF_OWNER,
        _orders.batch_id == bindparam("of_batch"),
        _orders.plan_hash == bindparam("of_hash"),
        _orders.export_id.is_(None),
    )
    .values(export_id=bindparam("export"))
)


def hold_orders(
    session: Session,
    owner: Owner,
    batch_id: str,
    plan_hash: str,
    orders: Sequence[FoundOrder],
    until: datetime | None,
) -> None:
    """Record the plan of the batch and hold its orders; release those that an earlier plan of the batch held.

    Raises RowsChanged if an order has changed since it was read.
    """
    owned = {"of_account": owner.account_id, "of_test": owner.test}
    # The row of the batch is locked first, so that two plans of one batch follow each other.
    session.execute(
        _KEEP_BATCH[session.get_bind().dialect.name],
        {"account_id": owner.account_id, "test": owner.test, "batch_id": batch_id}
        | {"plan_hash": plan_hash, "orders": len(orders)},
    )
    _lock_unchanged(session, owner, orders)
    if orders:
        held = {"of_batch": batch_id, "of_hash": plan_hash, "until": until}
        session.execute(_HOLD, [owned | held | {"of_order": each.external_id} for each in orders])
    session.execute(_RELEASE, owned | {"of_batch": batch_id, "of_hash": plan_hash})


def _lock_unchanged(session: Session, owner: Owner, orders: Sequence[FoundOrder]) -> None:
    expected = {each.external_id: (each.version, each.batch_id, each.plan_hash, each.export_id) for each in orders}
    for chunk in _chunks(sorted(expected)):
        query = (
            select(_orders.external_id, _orders.version, _orders.batch_id, _orders.plan_hash, _orders.export_id)
            .where(_orders.account_id == owner.account_id, _orders.test == owner.test, _orders.external_id.in_(chunk))
            .order_by(_orders.external_id)
            .with_for_update()
        )
        found = {row.external_id: tuple(row[1:]) for row in session.execute(query)}
        if found != {name: expected[name] for name in chunk}:
            raise RowsChanged


def find_planned(session: Session, owner: Owner, batch_id: str) -> PlannedFacts | None:
    """Return the facts of the batch's newest plan from orders, or None if it was not planned from orders."""
    row = session.get(PlannedBatch, (owner.account_id, owner.test, batch_id))
    if row is None:
        return None
    return PlannedFacts(row.batch_id, row.plan_hash, row.orders, row.created_at, row.planned_at)


def claim_orders(session: Session, owner: Owner, planned: PlannedFacts, export_id: str) -> None:
    """Let the planned orders leave with the export.

    Raises InvalidState if one of them has changed, or is in another plan now: the plan is no longer right.
    """
    claimed = session.execute(
        _CLAIM,
        {"of_account": owner.account_id, "of_test": owner.test, "of_batch": planned.batch_id}
        | {"of_hash": planned.plan_hash, "export": export_id},
    )
    if row_count(claimed) != planned.orders:
        raise InvalidState(
            f"orders of batch {planned.batch_id} have changed since it was planned; plan it again, then execute it",
            field="/batchId",
        )
