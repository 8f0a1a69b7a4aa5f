"""What needs a person: list it, acknowledge it, undo that."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core.json_input import Parsed
from pipeline.exports.schemas.export import AcknowledgeRequest, ExportView
from pipeline.exports.schemas.inbox import Cause, InboxView
from pipeline.interfaces.api.dependencies import Operator, Reader, RuntimeDep
from pipeline.interfaces.api.exports import export_response, read_precondition
from pipeline.interfaces.api.openapi import CHANGE_REFUSALS, LIST_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow import acknowledgements, inbox
from pipeline.workflow.interventions import find_for_change

router = APIRouter(prefix="/api", tags=["exports"])


@router.get("/inbox", responses=LIST_REFUSALS)
def read_inbox(
    runtime: RuntimeDep,
    caller: Reader,
    cause: Annotated[Cause | None, Query(description="Only items with this cause")] = None,
    acknowledged: Annotated[bool, Query(description="The acknowledged items instead of the open ones")] = False,  # noqa: FBT002 - a filter that is on or off
    limit: Annotated[
        int, Query(ge=1, le=inbox.MOST_ITEMS, description="How many items of each cause at most, the oldest ones")
    ] = 50,
) -> InboxView:
    """List what needs a person, oldest deadline first; of each cause at most `limit` items."""
    return inbox.load_inbox(runtime, caller.account_id, cause=cause, acknowledged=acknowledged, limit=limit)


@router.post(
    "/exports/{id}/acknowledge",
    response_model=ExportView,
    responses={**CHANGE_REFUSALS, **refusal_responses(400, 413)},
    openapi_extra=describe_body(AcknowledgeRequest),
)
async def acknowledge_export(
    id: str,
    request: Request,
    runtime: RuntimeDep,
    caller: Operator,
    body: Annotated[Parsed[AcknowledgeRequest], json_body(AcknowledgeRequest)],
) -> Response:
    """Take an export from the inbox until a new fact arrives; its outcome stays. A repeat changes nothing.

    With `If-Match`, only if the export is still as it was read. A failed export cannot be acknowledged.
    """

    def change() -> Response:
        export_id = find_for_change(runtime, caller, id)
        acknowledgements.acknowledge_export(
            runtime,
            caller.account_id,
            export_id,
            caller.actor,
            body.model.note,
            precondition=read_precondition(request),
        )
        return export_response(runtime, caller, export_id)

    return await run_in_threadpool(change)


@router.post("/exports/{id}/reopen", response_model=ExportView, responses=CHANGE_REFUSALS)
def reopen_export(id: str, request: Request, runtime: RuntimeDep, caller: Operator) -> Response:
    """Undo the acknowledgement of an export: it is in the inbox again."""
    export_id = find_for_change(runtime, caller, id)
    acknowledgements.reopen_export(
        runtime, caller.account_id, export_id, caller.actor, precondition=read_precondition(request)
    )
    return export_response(runtime, caller, export_id)
