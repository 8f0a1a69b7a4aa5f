"""Waivers: record, list, revoke."""

from typing import Annotated

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from pipeline.core.json_input import Parsed
from pipeline.customs import waivers
from pipeline.customs.schemas import NewWaiver, WaiverList, WaiverView
from pipeline.interfaces.api.dependencies import Admin, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS, READ_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body

router = APIRouter(prefix="/api/waivers", tags=["waivers"])


@router.post("", status_code=201, responses=refusal_responses(400, 413), openapi_extra=describe_body(NewWaiver))
async def create_waiver(
    response: Response, runtime: RuntimeDep, caller: Admin, body: Annotated[Parsed[NewWaiver], json_body(NewWaiver)]
) -> WaiverView:
    """Accept a warning for the account from now on; blocking findings cannot be waived."""

    def grant() -> WaiverView:
        return waivers.grant_waiver(
            runtime, caller.account_id, body.model, waived_by=caller.actor, test_only=caller.test
        )

    waiver = await run_in_threadpool(grant)
    response.headers["Location"] = "/api/waivers"
    return waiver


@router.get("", responses=LIST_REFUSALS)
def list_waivers(runtime: RuntimeDep, caller: Admin) -> WaiverList:
    """List the account's waivers, oldest first; revoked ones stay on record."""
    return WaiverList(items=waivers.list_waivers(runtime, caller.account_id))


@router.delete("/{id}", responses=READ_REFUSALS)
def revoke_waiver(id: str, runtime: RuntimeDep, caller: Admin) -> WaiverView:
    """End a waiver now; exports accepted under it stay accepted."""
    return waivers.revoke_waiver(runtime, caller.account_id, id, revoked_by=caller.actor, test_only=caller.test)
