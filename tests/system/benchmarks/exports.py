"""Exports to measure with: accepted directly into the database, and watched until all deliveries are made."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlmodel import col

from pipeline.accounts.api_keys import EXECUTE, Caller
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.states import DeliveryState, ExportState
from pipeline.workflow.acceptance import accept_plan
from tests.support import factories

CALLER = Caller(factories.ACCOUNT, "bench", "live", frozenset({EXECUTE}))
LINES, PACKAGES = 5, 5
LIMIT_SECONDS = 300.0


def accept_exports(runtime: Runtime, count: int, *, lines: int = LINES, packages: int = PACKAGES) -> list[str]:
    """Accept that many small plans of one unit and return the exports' ids; publish no task."""
    return [_accept(runtime, factories.plan(1, lines, packages, batch=new_id("batch"))) for _ in range(count)]


def _accept(runtime: Runtime, plan: factories.Json) -> str:
    request = ExecuteRequest.model_validate({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan})
    return accept_plan(runtime, CALLER, request, raw_plan=plan, idempotency_key=plan["batchId"]).export_id


def wait_until_delivered(runtime: Runtime, export_ids: Sequence[str]) -> None:
    """Return when all exports are executed and delivered; raise if one fails or it takes too long."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not are_all_delivered(runtime, export_ids):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not executed after {LIMIT_SECONDS:g} s")
        time.sleep(0.02)


def are_all_delivered(runtime: Runtime, export_ids: Sequence[str]) -> bool:
    """Return whether every export is executed and every delivery is made."""
    with runtime.db.read() as session:
        states = session.scalars(select(col(Export.state)).where(col(Export.id).in_(export_ids))).all()
        if ExportState.FAILED in states:
            raise RuntimeError("an export failed; read its worker's log")
        if any(state != ExportState.EXECUTED for state in states):
            return False
        pending = select(func.count()).where(
            col(Delivery.export_id).in_(export_ids), col(Delivery.state) != DeliveryState.DELIVERED.value
        )
        return session.scalar(pending) == 0
