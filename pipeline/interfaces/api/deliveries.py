"""The delivery log; resending one message, and replaying a partner's messages of a time span."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from pipeline.accounts.schemas import DeliveryPage, DeliveryView
from pipeline.core.json_input import Parsed
from pipeline.deliveries import queries, resend
from pipeline.deliveries import replay as delivery_replay
from pipeline.deliveries.schemas.cloudevent import MEDIA_TYPE
from pipeline.deliveries.schemas.views import NotificationTrace, ReplayReport, ReplayRequest
from pipeline.exports.schemas.export import AcknowledgeRequest
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.api.dependencies import Cursor, Operator, PublisherDep, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS, READ_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow import acknowledgements
from pipeline.workflow.steps import stream_tasks

router = APIRouter(tags=["deliveries"])


@router.get("/api/deliveries", responses=LIST_REFUSALS)
def list_deliveries(
    runtime: RuntimeDep,
    caller: Reader,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries in this state")] = None,
    export_id: Annotated[
        str | None,
        Query(
            alias="exportId", max_length=64, description="Only deliveries about this export, or this registered plan"
        ),
    ] = None,
    partner_id: Annotated[
        str | None, Query(alias="partnerId", max_length=64, description="Only deliveries to this partner")
    ] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many items a page has")] = 50,
) -> DeliveryPage:
    """List the account's deliveries, newest first, each with its latest attempts."""
    return queries.list_deliveries(
        runtime, caller.account_id, state=state, export_id=export_id, partner_id=partner_id, after=cursor, limit=limit
    )


@router.get("/api/deliveries/{id}", responses=READ_REFUSALS)
def read_delivery(id: str, runtime: RuntimeDep, caller: Reader) -> DeliveryView:
    """Return one delivery with its latest attempts."""
    return queries.get_delivery(runtime, caller.account_id, id)


@router.get(
    "/api/deliveries/{id}/payload",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}, **refusal_responses(404, 409)},
)
def read_delivery_payload(id: str, runtime: RuntimeDep, caller: Operator) -> Response:
    """Return the message of a delivery: the bytes that the partner receives. A test key reads those of test exports."""
    body = queries.read_payload(runtime, caller.account_id, id, test_only=caller.test)
    return Response(body, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.post("/api/deliveries/{id}/resend", status_code=202, responses=refusal_responses(404, 409))
def resend_delivery(id: str, runtime: RuntimeDep, publisher: PublisherDep, caller: Operator) -> DeliveryView:
    """Send a delivered or dead message again, with the same id; send a pending one now."""
    delivery, stream = resend.resend_delivery(runtime, caller.account_id, id, caller.actor, test_only=caller.test)
    publisher.publish(stream_tasks([stream]))
    return delivery


@router.post(
    "/api/deliveries/{id}/acknowledge",
    responses=refusal_responses(400, 404, 409, 413),
    openapi_extra=describe_body(AcknowledgeRequest),
)
async def acknowledge_delivery(
    id: str,
    runtime: RuntimeDep,
    caller: Operator,
    body: Annotated[Parsed[AcknowledgeRequest], json_body(AcknowledgeRequest)],
) -> DeliveryView:
    """Take a dead message about a registered plan from the inbox; a repeat changes nothing.

    A dead message about an export leaves the inbox with its export.
    """

    def change() -> DeliveryView:
        account_id, note = caller.account_id, body.model.note
        acknowledgements.acknowledge_letter(runtime, account_id, id, caller.actor, note, test_only=caller.test)
        return queries.get_delivery(runtime, account_id, id)

    return await run_in_threadpool(change)


@router.post("/api/deliveries/{id}/reopen", responses=refusal_responses(404, 409))
def reopen_delivery(id: str, runtime: RuntimeDep, caller: Operator) -> DeliveryView:
    """Undo the acknowledgement of a dead message about a registered plan: it is in the inbox again."""
    acknowledgements.reopen_letter(runtime, caller.account_id, id, caller.actor, test_only=caller.test)
    return queries.get_delivery(runtime, caller.account_id, id)


@router.post(
    "/api/partners/{id}/replay",
    status_code=202,
    responses=refusal_responses(400, 404, 413),
    openapi_extra=describe_body(ReplayRequest),
)
async def replay_messages(
    id: str,
    runtime: RuntimeDep,
    publisher: PublisherDep,
    caller: Operator,
    body: Annotated[Parsed[ReplayRequest], json_body(ReplayRequest)],
) -> ReplayReport:
    """Send one partner's messages of a time span again, with the same ids; one page a call.

    If `next` is not null, there is more: send it as `after`, with the answer's `until`. A test key replays test exports.
    """
    report, streams = await run_in_threadpool(
        delivery_replay.replay_messages, runtime, caller.account_id, id, body.model, caller.actor, test_only=caller.test
    )
    publisher.publish(stream_tasks(streams))
    return report


notifications_router = APIRouter(prefix="/api/notifications", tags=["deliveries"])


@notifications_router.get("/{id}", responses=READ_REFUSALS)
def trace_message(id: str, runtime: RuntimeDep, caller: Reader) -> NotificationTrace:
    """Return what became of a message, by its CloudEvent id: each delivery, each attempt, and each response."""
    return queries.trace_notification(runtime, caller.account_id, id)
