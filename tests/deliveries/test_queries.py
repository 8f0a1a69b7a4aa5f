"""Lists of an account's deliveries: each page by an index, each delivery once, and no page for a hostile cursor."""

from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.core.errors import ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries
from pipeline.deliveries.models import Delivery
from pipeline.exports.states import DeliveryState
from tests.deliveries.support import exports
from tests.support import factories
from tests.support.query_counter import record_plans
from tests.workflow.conftest import WorkflowHarness


@pytest.fixture
def runtime(make_workflow: Callable[[str], WorkflowHarness], database_url: str) -> Runtime:
    """A runtime on each of the databases, with three exports that are handed off."""
    opened = make_workflow(database_url).runtime
    exports.register_once(opened, factories.BROKER, "customs_broker")
    exports.register_once(opened, factories.WAREHOUSE, "warehouse")
    for batch in ("b1", "b2", "b3"):
        exports.hand_off(opened, exports.prepare_export(opened, factories.plan(batch=batch, packages=3)))
    return opened


def list_pages(runtime: Runtime, limit: int, **filters: str) -> list[tuple[str, str]]:
    """Return the export and the id of each delivery of all pages."""
    found: list[tuple[str, str]] = []
    cursor = None
    while True:
        page = queries.list_deliveries(
            runtime, factories.ACCOUNT, partner_id=filters.get("partner"), after=cursor, limit=limit
        )
        found += [(each.export_id, each.id) for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_a_partner_hold_each_delivery_once(runtime: Runtime, limit: int) -> None:
    found = list_pages(runtime, limit, partner=factories.WAREHOUSE)
    assert len({*found}) == len(found) == 9
    assert found == sorted(found, reverse=True)
    assert {*found} < {*list_pages(runtime, limit)}


@pytest.mark.parametrize("cursor", ["dlv_none", "", "'; DROP TABLE deliveries"])
def test_unknown_cursor_of_a_partner_is_refused(runtime: Runtime, cursor: str) -> None:
    with pytest.raises(ValidationFailed, match="is not a cursor of a list"):
        queries.list_deliveries(runtime, factories.ACCOUNT, partner_id=factories.WAREHOUSE, after=cursor, limit=2)


@pytest.mark.parametrize(
    ("state", "index"),
    [
        (None, "ix_deliveries_partner"),
        (DeliveryState.DELIVERED, "ix_deliveries_partner"),
        *((each, "ix_deliveries_partner_state") for each in DeliveryState if each is not DeliveryState.DELIVERED),
    ],
)
def test_deliveries_of_a_partner_are_read_by_its_index(
    runtime: Runtime, state: DeliveryState | None, index: str
) -> None:
    with record_plans(runtime.db) as plans:
        queries.list_deliveries(runtime, factories.ACCOUNT, partner_id=factories.WAREHOUSE, state=state, limit=2)
    assert any(index in step for step in plans), plans


def test_dead_letters_are_counted_up_to_a_limit(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_COUNTED", 4)
    with runtime.db.write() as session:
        is_dead = col(Delivery.partner_id).in_([factories.WAREHOUSE, factories.BROKER])
        session.execute(update(Delivery).where(is_dead).values(state=DeliveryState.DEAD.value))
    with record_plans(runtime.db) as plans:
        counts = queries.count_dead_letters(runtime, factories.ACCOUNT, [factories.WAREHOUSE, factories.BROKER])
    assert (counts[factories.WAREHOUSE], counts[factories.BROKER]) == (5, 3)
    assert any("ix_deliveries_partner_state" in step for step in plans), plans
