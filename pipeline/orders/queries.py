"""Reads and deletes single orders, by their id or external id."""

import json

from sqlalchemy import delete, or_, select
from sqlmodel import Session, col

from pipeline.core.errors import InvalidState, NotFound
from pipeline.core.field_types import mask_number
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import LegalHold
from pipeline.orders.models import Order
from pipeline.orders.sync import Owner
from pipeline.orders.views import OrderView


def read_order(runtime: Runtime, owner: Owner, order_id: str) -> OrderView:
    """Return the order with this id, or with this externalId. Raises NotFound."""
    with runtime.db.read() as session:
        return _view(_find(session, owner, order_id))


def delete_order(runtime: Runtime, owner: Owner, order_id: str, *, deleted_by: str) -> OrderView:
    """Delete an order that was not exported, and return it as it was; a plan that has it cannot be executed any more.

    Raises NotFound, and InvalidState if it was exported or a legal hold keeps the account's records.
    """
    with runtime.db.write() as session:
        order = _find(session, owner, order_id, lock=True)
        if order.export_id is not None:
            raise InvalidState(
                f"order {order.external_id} was exported as {order.export_id}, whose records the law keeps; it is deleted"
                " with the payload of that export"
            )
        held = select(col(LegalHold.id)).where(
            col(LegalHold.account_id) == owner.account_id,
            col(LegalHold.export_id).is_(None),
            col(LegalHold.released_at).is_(None),
        )
        if session.scalar(held.limit(1)) is not None:
            raise InvalidState("a legal hold keeps the records of the account; release it, then delete the order")
        view = _view(order)
        session.execute(delete(Order).where(col(Order.id) == order.id))
        record_act(session, owner.account_id, deleted_by, Action.ORDER_DELETED, order.id)
    return view


def _find(session: Session, owner: Owner, order_id: str, *, lock: bool = False) -> Order:
    query = (
        select(Order)
        .where(
            col(Order.account_id) == owner.account_id,
            col(Order.test) == owner.test,
            or_(col(Order.id) == order_id, col(Order.external_id) == order_id),
        )
        # An externalId may look like an id: the id wins.
        .order_by((col(Order.id) == order_id).desc())
        .limit(1)
    )
    found = session.scalars(query.with_for_update() if lock else query).first()
    if found is None:
        raise NotFound(f"there is no order {order_id} in this account")
    return found


def _view(order: Order) -> OrderView:
    document = json.loads(order.document)
    consignee = document.get("ultimateConsignee")
    if consignee is not None and consignee["number"] is not None:
        consignee["number"] = mask_number(consignee["number"])
    return OrderView(
        id=order.id,
        external_id=order.external_id,
        version=order.version,
        synced_at=order.synced_at,
        batch_id=order.batch_id,
        export_id=order.export_id,
        order=document,
    )
