"""Sync products, orders and plan templates, and plan a batch from orders."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from pipeline.accounts.api_keys import Caller
from pipeline.core.json_input import Parsed
from pipeline.core.runtime import Runtime
from pipeline.interfaces.api.dependencies import Admin, Executor, Reader, RuntimeDep
from pipeline.interfaces.api.headers import IdempotencyKey, check_idempotency_key
from pipeline.interfaces.api.openapi import READ_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.orders import queries, sync
from pipeline.orders.schemas import OrderSync, PlanRequest, ProductSync, TemplateSync
from pipeline.orders.sync import Owner
from pipeline.orders.views import OrderView, PlanAnswer, SyncReceipt
from pipeline.workflow import planning
from pipeline.workflow.preflight import check_account

router = APIRouter(prefix="/api", tags=["orders"])

Items = TypeVar("Items", ProductSync, OrderSync, TemplateSync)

_SYNC_REFUSALS = refusal_responses(400, 413, 422)


@router.post("/products/sync", responses=_SYNC_REFUSALS, openapi_extra=describe_body(ProductSync))
async def sync_products(
    runtime: RuntimeDep,
    caller: Executor,
    body: Annotated[Parsed[ProductSync], json_body(ProductSync)],
    idempotency_key: IdempotencyKey = None,
) -> SyncReceipt:
    """Create or replace the customs data of products, up to a thousand; an unchanged product keeps its version."""
    return await _store(sync.sync_products, runtime, caller, body.model, idempotency_key)


@router.post("/orders/sync", responses=_SYNC_REFUSALS, openapi_extra=describe_body(OrderSync))
async def sync_orders(
    runtime: RuntimeDep,
    caller: Executor,
    body: Annotated[Parsed[OrderSync], json_body(OrderSync)],
    idempotency_key: IdempotencyKey = None,
) -> SyncReceipt:
    """Create or replace orders, up to a thousand; a changed order must be planned again before it is executed."""
    return await _store(sync.sync_orders, runtime, caller, body.model, idempotency_key)


@router.get("/orders/{id:path}", responses=READ_REFUSALS)
def read_order(id: str, runtime: RuntimeDep, caller: Reader) -> OrderView:
    """Return a synced order, by its id or externalId."""
    return queries.read_order(runtime, Owner(caller.account_id, caller.test), id)


@router.delete("/orders/{id:path}", responses=refusal_responses(404, 409))
def delete_order(id: str, runtime: RuntimeDep, caller: Admin) -> OrderView:
    """Delete an order that was not exported, and return it as it was; exported ones are kept with their export."""
    return queries.delete_order(runtime, Owner(caller.account_id, caller.test), id, deleted_by=caller.actor)


@router.post("/plan-templates/sync", responses=_SYNC_REFUSALS, openapi_extra=describe_body(TemplateSync))
async def sync_plan_templates(
    runtime: RuntimeDep,
    caller: Executor,
    body: Annotated[Parsed[TemplateSync], json_body(TemplateSync)],
    idempotency_key: IdempotencyKey = None,
) -> SyncReceipt:
    """Create or replace the facts that all plans to a country share: parties, terms, entry data and who approves."""
    return await _store(sync.sync_templates, runtime, caller, body.model, idempotency_key)


@router.post("/exports/plan", responses=refusal_responses(400, 409, 413, 422), openapi_extra=describe_body(PlanRequest))
async def plan_batch(
    runtime: RuntimeDep,
    caller: Executor,
    body: Annotated[Parsed[PlanRequest], json_body(PlanRequest)],
    idempotency_key: IdempotencyKey = None,
) -> PlanAnswer:
    """Plan a batch from orders, judge the plan by preflight, and register it for `execute`.

    The plan states only what orders, products and the plan template say. `missing_data` names the rest, `excluded_orders`
    the orders that cannot be planned. A dry run stores nothing.
    """
    key = check_idempotency_key(idempotency_key) or body.model.idempotency_key
    return await run_in_threadpool(planning.plan_batch, runtime, caller, body.model, idempotency_key=key)


async def _store(
    store: Callable[[Runtime, Owner, Items, str | None], SyncReceipt],
    runtime: Runtime,
    caller: Caller,
    requested: Items,
    idempotency_key: str | None,
) -> SyncReceipt:
    """Store what is synced for the caller; return what changed. Raises InvalidAccountScope for another account's."""
    check_account(caller, requested.account_id)
    key = check_idempotency_key(idempotency_key) or requested.idempotency_key
    return await run_in_threadpool(store, runtime, Owner(caller.account_id, caller.test), requested, key)
