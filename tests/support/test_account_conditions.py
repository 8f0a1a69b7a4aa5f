"""The watch over statements finds tables whose rows no account and no id limits, and no others."""

from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outcomes import account_search, state_search
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState
from pipeline.orders.models import Order, Product
from tests.support.account_conditions import find_open_tables

OWN = col(Export.account_id) == "acc_demo"
JOINED = col(Delivery.subject_id) == col(Export.id)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (select(Export).where(OWN), []),
        (select(Export).where(OWN | (col(Export.test))), ["exports"]),
        (select(Export).where(account_search("acc_demo").where(first="x", after="y")), []),
        (select(Export).where(state_search(ExportState.EXECUTED).where()), ["exports"]),
        (select(Delivery).join(Export, JOINED).where(OWN), []),
        (select(Delivery).join(Export, JOINED), ["deliveries", "exports"]),
        (select(Export).where(OWN, col(Export.id).in_(select(col(Delivery.subject_id)))), ["deliveries"]),
        (delete(Order).where(col(Order.id) == "ord_1"), []),
        (update(Delivery).where(col(Delivery.partner_id) == "br_1"), ["deliveries"]),
        (select(Product).where(col(Product.external_id) == "pan"), ["products"]),
    ],
)
def test_tables_without_a_condition_on_account_or_id_are_found(statement: Any, found: list[str]) -> None:
    assert sorted(find_open_tables(statement)) == found
