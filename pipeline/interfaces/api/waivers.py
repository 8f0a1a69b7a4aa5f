"""Waivers: put on record, list, revoke."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from pipeline.core.json_input import Parsed
from pipeline.customs import waivers
from pipeline.customs.schemas import NewWaiver, WaiverList, WaiverView
from pipeline.interfaces.api.dependencies import Admin, RuntimeDep
from pipeline.interfaces.api.openapi import LOOKING, READING, refusals
from pipeline.interfaces.api.request_body import body_of, documented

router = APIRouter(prefix="/api/waivers", tags=["waivers"])


@router.post(
    "", status_code=201, response_model=WaiverView, responses=refusals(400, 413), openapi_extra=documented(NewWaiver)
)
async def waive(
    response: Response, runtime: RuntimeDep, caller: Admin, body: Annotated[Parsed[NewWaiver], body_of(NewWaiver)]
) -> WaiverView:
    """Take a warning upon the account from now on; findings that block cannot be waived."""

    def grant() -> WaiverView:
        return waivers.grant_waiver(
            runtime, caller.account_id, body.model, waived_by=caller.key_id, test_only=caller.test
        )

    made = await run_in_threadpool(grant)
    response.headers["Location"] = "/api/waivers"
    return made


@router.get("", response_model=WaiverList, responses=READING)
def list_waivers(runtime: RuntimeDep, caller: Admin) -> WaiverList:
    """List the account's waivers, oldest first; revoked ones stay on record."""
    return WaiverList(items=waivers.list_waivers(runtime, caller.account_id))


@router.delete("/{id}", response_model=WaiverView, responses=LOOKING)
def revoke_waiver(id: str, runtime: RuntimeDep, caller: Admin) -> WaiverView:  # noqa: A002 - the contract's name
    """End a waiver now; what was accepted under it stays accepted."""
    return waivers.revoke_waiver(runtime, caller.account_id, id, revoked_by=caller.key_id, test_only=caller.test)
