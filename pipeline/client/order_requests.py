"""The calls about orders: sync products, orders and plan templates, and plan a batch."""

from collections.abc import Mapping
from typing import Any

from pipeline.client.request import Call, RetryWhen, check_header, encode_segment, get, parse_as
from pipeline.orders.views import OrderView, PlanAnswer, SyncReceipt

#: A request as JSON, in the shapes of the published schemas.
Body = Mapping[str, Any]


def sync_products(body: Body, *, idempotency_key: str | None = None) -> Call[SyncReceipt]:
    """Create or replace products by their externalId."""
    return _sync_call("api/products/sync", body, idempotency_key)


def sync_orders(body: Body, *, idempotency_key: str | None = None) -> Call[SyncReceipt]:
    """Create or replace orders by their externalId."""
    return _sync_call("api/orders/sync", body, idempotency_key)


def sync_plan_templates(body: Body, *, idempotency_key: str | None = None) -> Call[SyncReceipt]:
    """Create or replace plan templates by their destinationCountry."""
    return _sync_call("api/plan-templates/sync", body, idempotency_key)


def plan_orders(body: Body, *, idempotency_key: str | None = None) -> Call[PlanAnswer]:
    """Plan a batch from synced orders; `execute_registered` executes it."""
    headers = _key_header(idempotency_key)
    return Call(
        "POST", "api/exports/plan", parse_as(PlanAnswer), headers=headers, json=body, retry_when=RetryWhen.ALWAYS
    )


def order(order_id: str) -> Call[OrderView]:
    """Return a synced order, by its id or externalId."""
    return get(f"api/orders/{encode_segment(order_id)}", parse_as(OrderView))


def delete_order(order_id: str) -> Call[OrderView]:
    """Delete an order that was not exported, and return it as it was."""
    return Call("DELETE", f"api/orders/{encode_segment(order_id)}", parse_as(OrderView))


def _sync_call(path: str, body: Body, idempotency_key: str | None) -> Call[SyncReceipt]:
    # A repeated sync changes nothing, so that it is always safe to retry.
    headers = _key_header(idempotency_key)
    return Call("POST", path, parse_as(SyncReceipt), headers=headers, json=body, retry_when=RetryWhen.ALWAYS)


def _key_header(idempotency_key: str | None) -> dict[str, str]:
    if idempotency_key is None:
        return {}
    return {"Idempotency-Key": check_header("idempotency_key", idempotency_key)}
