"""The account's own leads: how long before an arrival the next status is due."""

from typing import Annotated

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from pipeline.accounts import leads
from pipeline.accounts.schemas import LeadChanges, LeadsView
from pipeline.core.json_input import Parsed
from pipeline.interfaces.api.dependencies import Admin, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body

router = APIRouter(prefix="/api/deadlines/leads", tags=["exports"])


@router.get("", responses=LIST_REFUSALS)
def read_leads(runtime: RuntimeDep, caller: Reader) -> LeadsView:
    """Return the account's own leads by mode of transport; null is as the installation's settings say."""
    return leads.show_leads(runtime, caller.account_id)


@router.patch("", responses=refusal_responses(400, 413), openapi_extra=describe_body(LeadChanges))
async def change_leads(
    runtime: RuntimeDep, caller: Admin, body: Annotated[Parsed[LeadChanges], json_body(LeadChanges)]
) -> LeadsView:
    """Replace the account's own leads of each named mode, from the next status of each handoff on. Test keys are refused."""

    def change() -> LeadsView:
        return leads.change_leads(
            runtime, caller.account_id, body.model, changed_by=caller.actor, test_only=caller.test
        )

    return await run_in_threadpool(change)
