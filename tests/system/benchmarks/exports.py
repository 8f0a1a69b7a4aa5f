"""Exports to measure with: accepted directly into the database, and watched until all deliveries are made."""

import time
from collections.abc import Sequence
from typing import Final, Literal

from sqlalchemy import bindparam, exists, func, or_, select

from pipeline.accounts.api_keys import EXECUTE, Caller
from pipeline.core.db import table
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.states import DeliveryState, ExportState
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.idempotency import Acceptance
from tests.support import factories

LINES, PACKAGES = 5, 5
LIMIT_SECONDS = 1_800.0
#: The pause between two looks whether all is done. A look costs processor time of the side that it watches.
POLL_SECONDS = 0.05

_exports, _deliveries = table(Export).c, table(Delivery).c
_UNDELIVERED: Final = select(_exports.state).where(
    _exports.id.in_(bindparam("ids", expanding=True)),
    or_(
        _exports.state != ExportState.EXECUTED.value,
        exists().where(_deliveries.subject_id == _exports.id, _deliveries.state != DeliveryState.DELIVERED.value),
    ),
)


def make_plan(lines: int = LINES, packages: int = PACKAGES, *, account: str = factories.ACCOUNT) -> factories.Json:
    """Return a plan of one unit. Its goods have other names than those of every other plan.

    The PDF engine keeps the layout of texts that it has seen, but goods differ from export to export.
    """
    batch = new_id("batch")
    plan = factories.plan(1, lines, packages, batch=batch, account=account)
    for line in plan["units"][0]["lines"]:
        line["description"] += f", lot {batch[-8:]}"
    return plan


def accept_exports(runtime: Runtime, count: int, *, account: str = factories.ACCOUNT) -> list[str]:
    """Accept that many small plans of one unit and return the exports' ids; publish no task."""
    return [accept(runtime, make_plan(account=account)) for _ in range(count)]


def accept(runtime: Runtime, plan: factories.Json, *, mode: Literal["live", "test"] = "live") -> str:
    """Accept the plan and return the export's id; publish no task."""
    return accept_new(runtime, plan, mode=mode).export_id


def accept_new(runtime: Runtime, plan: factories.Json, *, mode: Literal["live", "test"] = "live") -> Acceptance:
    """Accept the plan and return the response; publish no task."""
    caller = Caller(plan["accountId"], "bench", mode, frozenset({EXECUTE}))
    request = ExecuteRequest.model_validate({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan})
    return accept_plan(runtime, caller, request, raw_plan=plan, idempotency_key=plan["batchId"])


def wait_until_delivered(runtime: Runtime, export_ids: Sequence[str]) -> None:
    """Return when all exports are executed and delivered; raise if one fails or it takes too long."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not _are_all_delivered(runtime, export_ids):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not executed after {LIMIT_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _are_all_delivered(runtime: Runtime, export_ids: Sequence[str]) -> bool:
    """Return whether every export is executed and every delivery is made."""
    with runtime.db.read() as session:
        states = session.scalars(_UNDELIVERED, {"ids": export_ids}).all()
    if ExportState.FAILED in states:
        raise RuntimeError("an export failed; read its worker's log")
    return not states


def read_latencies(runtime: Runtime, export_ids: Sequence[str]) -> list[float]:
    """Return the seconds of each export from its acceptance to its last delivery, by the database's clock."""
    query = (
        select(_exports.accepted_at, func.max(_deliveries.delivered_at))
        .join(table(Delivery), _deliveries.subject_id == _exports.id)
        .where(_exports.id.in_(export_ids))
        .group_by(_exports.id, _exports.accepted_at)
    )
    with runtime.db.read() as session:
        rows = session.execute(query).all()
    return [(delivered - accepted).total_seconds() for accepted, delivered in rows]
