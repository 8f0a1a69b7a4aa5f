"""Registered plans: list them and read one, executed or not."""

from typing import Annotated

from fastapi import APIRouter, Query

from pipeline.exports.schemas.registered_plans import RegisteredPlanPage, RegisteredPlanView
from pipeline.interfaces.api.dependencies import Cursor, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import READ_REFUSALS
from pipeline.workflow import registered_plans

router = APIRouter(prefix="/api/plans", tags=["exports"])


@router.get("", responses=READ_REFUSALS)
def list_plans(
    runtime: RuntimeDep,
    caller: Reader,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many items a page has")] = 50,
) -> RegisteredPlanPage:
    """List the account's registered plans, newest first, executed or not."""
    with runtime.db.read() as session:
        return registered_plans.list_registered_plans(session, caller.account_id, cursor=cursor, limit=limit)


@router.get("/{id}", responses=READ_REFUSALS)
def read_plan(id: str, runtime: RuntimeDep, caller: Reader) -> RegisteredPlanView:
    """Return a registered plan, by the `planId` of its receipt or as the newest of a batch."""
    with runtime.db.read() as session:
        return registered_plans.read_registered_plan(session, caller.account_id, id, test=caller.test)
