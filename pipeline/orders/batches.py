"""Batches of orders: reads what a plan is built from, and holds or claims the orders of a batch."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from pipeline.core.db import database_now, row_count, table
from pipeline.core.errors import InvalidState
from pipeline.core.ids import is_own_id
from pipeline.exports.models import Export
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import ExportState, Outcome
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
    export_stopped: bool | None  # cancelled or withdrawn; None without an export


#: The versions of what a plan is made from, apart from the orders: by table, and in it by name.
Versions = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class FoundProduct:
    """The customs data of a product, and the number of their content."""

    item: ProductItem
    version: int


@dataclass(frozen=True)
class FoundTemplate:
    """A plan template, and the number of its content."""

    item: TemplateItem
    version: int


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
    versions: Versions
    created_at: datetime
    planned_at: datetime


def load_orders(session: Session, owner: Owner, order_ids: Sequence[str]) -> OrderSet:
    """Return the orders with these ids, each once, in the order of the request."""
    asked = list(dict.fromkeys(order_ids))
    rows: dict[str, FoundOrder] = {}
    for chunk in _chunks(asked):
        query = select(Order, _is_stopped()).where(
            col(Order.account_id) == owner.account_id, col(Order.test) == owner.test, col(Order.id).in_(chunk)
        )
        for row, stopped in session.execute(query):
            rows[row.id] = FoundOrder(
                row.id,
                row.external_id,
                row.version,
                SyncedOrder.model_validate_json(row.document),
                row.batch_id,
                row.plan_hash,
                row.held_until,
                row.export_id,
                stopped,
            )
    return OrderSet([rows[each] for each in asked if each in rows], [each for each in asked if each not in rows])


def _is_stopped() -> Any:
    """Return whether the newest revision of the export that the order left with is cancelled or withdrawn, as a subquery."""
    first = table(Export).alias("first")
    newest = table(Export).alias("newest")
    return (
        select(or_(newest.c.state == ExportState.CANCELLED.value, newest.c.outcome == Outcome.WITHDRAWN.value))
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


def load_products(session: Session, owner: Owner, product_ids: Collection[str]) -> Mapping[str, FoundProduct]:
    """Return the products by the id that orders name: an externalId, else an id of this service. Unknown ones are left out."""
    by_external: dict[str, FoundProduct] = {}
    by_id: dict[str, FoundProduct] = {}
    for chunk in _chunks(sorted(product_ids)):
        query = select(Product).where(
            col(Product.account_id) == owner.account_id,
            col(Product.test) == owner.test,
            or_(col(Product.external_id).in_(chunk), col(Product.id).in_(chunk)),
        )
        for row in session.scalars(query):
            product = FoundProduct(ProductItem.model_validate_json(row.document), row.version)
            by_external[row.external_id], by_id[row.id] = product, product
    found = by_id | by_external
    return {each: found[each] for each in product_ids if each in found}


def load_template(session: Session, owner: Owner, country: str) -> FoundTemplate | None:
    """Return the plan template for the country, or None."""
    row = session.get(PlanTemplate, (owner.account_id, owner.test, country))
    return None if row is None else FoundTemplate(TemplateItem.model_validate_json(row.document), row.version)


def collect_versions(template: FoundTemplate | None, products: Collection[FoundProduct]) -> Versions:
    """Return the versions of what a plan is made from."""
    return {
        PlanTemplate.__tablename__: {} if template is None else {template.item.destination_country: template.version},
        Product.__tablename__: {each.item.external_id: each.version for each in products},
    }


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


_batches, _orders = table(PlannedBatch).c, table(Order).c

_KEEP_BATCH: Final = {
    dialect: each.on_conflict_do_update(
        index_elements=["account_id", "test", "batch_id"],
        set_={
            "plan_hash": each.excluded.plan_hash,
            "orders": each.excluded.orders,
            "versions": each.excluded.versions,
            "planned_at": database_now(),
        },
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
    versions: Versions,
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
        | {"plan_hash": plan_hash, "orders": len(orders), "versions": json.dumps(versions)},
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
    versions = json.loads(row.versions)
    return PlannedFacts(row.batch_id, row.plan_hash, row.orders, versions, row.created_at, row.planned_at)


def claim_orders(session: Session, owner: Owner, planned: PlannedFacts, export_id: str) -> None:
    """Let the planned orders leave with the export.

    Raises InvalidState if one of them, a product or the plan template has changed, or if an order is in another plan now:
    plan the batch again.
    """
    _check_versions(session, owner, planned)
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


_SYNCED: Final = ((Product, "external_id", "product"), (PlanTemplate, "destination_country", "the plan template for"))


def _check_versions(session: Session, owner: Owner, planned: PlannedFacts) -> None:
    for model, key, what in _SYNCED:
        rows, expected = table(model).c, planned.versions[model.__tablename__]
        for chunk in _chunks(sorted(expected)):
            query = select(rows[key], rows.version).where(
                rows.account_id == owner.account_id, rows.test == owner.test, rows[key].in_(chunk)
            )
            found = {row[0]: row[1] for row in session.execute(query)}
            for name in chunk:
                if found.get(name) != expected[name]:
                    raise InvalidState(
                        f"{what} {name} has changed since batch {planned.batch_id} was planned; plan it again, then"
                        " execute it",
                        field="/batchId",
                    )


def claim_listed_orders(session: Session, owner: Owner, plan: Plan, export_id: str) -> None:
    """Let the synced orders that a plan names leave with its export: somebody registered or sent the plan of a dry run.

    Raises InvalidState if one of them was exported with another batch.
    """
    named = {line.order_id for unit in plan.units for line in unit.lines if line.order_id is not None}
    for chunk in _chunks(sorted(each for each in named if is_own_id("ord", each))):
        mine = (_orders.account_id == owner.account_id, _orders.test == owner.test, _orders.id.in_(chunk))
        query = select(_orders.external_id, _orders.batch_id, _orders.export_id, _is_stopped().label("stopped"))
        for row in session.execute(query.where(*mine).order_by(_orders.external_id).with_for_update()):
            # The state of an export that was written a moment ago may not be read here: only a stopped one frees it.
            free = row.export_id is None or row.stopped
            if not free and row.batch_id != plan.batch_id:
                raise InvalidState(
                    f"order {row.external_id} was exported with batch {row.batch_id} as export {row.export_id}; take it out"
                    " of the plan",
                    field="/batchId",
                )
        session.execute(
            update(table(Order))
            .where(*mine)
            .values(batch_id=plan.batch_id, export_id=export_id, plan_hash=None, held_until=None)
        )
