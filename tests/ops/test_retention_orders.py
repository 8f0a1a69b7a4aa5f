"""Synced orders hold personal data: the purge deletes them with their export, or some time after their last sync."""

from datetime import date, timedelta

import pytest
from sqlmodel import SQLModel, func, select

from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.ops import legal_holds, retention
from pipeline.orders import sync
from pipeline.orders.models import Order, PlannedBatch, Product, SyncRecord
from pipeline.orders.schemas import OrderSync, PlanRequest, ProductSync, TemplateSync
from pipeline.orders.sync import Owner
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.planning import plan_batch
from tests.ops.rebuild.test_rebuild import differences
from tests.ops.test_retention import end_export
from tests.support import factories, orders
from tests.workflow.conftest import WorkflowHarness

OWNER = Owner(factories.ACCOUNT, test=False)


@pytest.fixture
def order_id(workflow: WorkflowHarness) -> str:
    """An order, with everything that its plan needs; the request had an idempotency key."""
    workflow.clock.now = factories.NOW
    sync.sync_products(workflow.runtime, OWNER, ProductSync.model_validate(orders.product_sync()), None)
    sync.sync_templates(workflow.runtime, OWNER, TemplateSync.model_validate(orders.template_sync()), None)
    body = OrderSync.model_validate(orders.order_sync())
    return sync.sync_orders(workflow.runtime, OWNER, body, "once").data[0].id


def count(workflow: WorkflowHarness, table: type[SQLModel]) -> int:
    return workflow.one(select(func.count()).select_from(table))


def purge(workflow: WorkflowHarness, days: int) -> retention.PurgeResult:
    return retention.purge_expired(workflow.runtime, factories.TODAY + timedelta(days=days))


def test_order_without_an_export_is_deleted_after_its_days(workflow: WorkflowHarness, order_id: str) -> None:
    days = workflow.runtime.settings.order_days
    assert purge(workflow, days - 1).orders == 0
    assert count(workflow, Order) == 1
    # Responses are kept for thirty days only.
    assert count(workflow, SyncRecord) == 0
    assert purge(workflow, days + 2).orders == 1
    assert (count(workflow, Order), count(workflow, Product)) == (0, 1)


def test_hold_on_the_account_keeps_its_orders(workflow: WorkflowHarness, order_id: str) -> None:
    hold = legal_holds.place_hold(
        workflow.runtime, factories.ACCOUNT, export_id=None, reason="an inquiry", placed_by="somebody"
    )
    assert purge(workflow, 10_000).orders == 0
    assert (count(workflow, Order), count(workflow, SyncRecord)) == (1, 1)
    legal_holds.release_hold(workflow.runtime, hold.id, released_by="somebody")
    assert purge(workflow, 10_000).orders == 1


def test_exported_order_is_deleted_with_its_export(workflow: WorkflowHarness, order_id: str) -> None:
    request = PlanRequest.model_validate(orders.plan_request([order_id]))
    planned = plan_batch(workflow.runtime, workflow.caller, request, idempotency_key=None)
    body = ExecuteRequest.model_validate({"accountId": factories.ACCOUNT, "batchId": planned.batch_id})
    accepted = accept_plan(workflow.runtime, workflow.caller, body, raw_plan=None, idempotency_key=None)
    end_export(workflow, accepted.export_id)
    assert differences(workflow, accepted.export_id) == []
    workflow.clock.now = factories.NOW
    assert retention.purge_expired(workflow.runtime, date(2028, 1, 1)).orders == 0
    assert count(workflow, Order) == 1
    purged = retention.purge_expired(workflow.runtime, date(2040, 1, 1))
    assert (purged.exports, count(workflow, Order), count(workflow, PlannedBatch)) == (1, 0, 1)
