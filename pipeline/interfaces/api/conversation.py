"""The conversation with the customs broker about a handoff: write a message, read all of it."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core.json_input import Parsed
from pipeline.deliveries.schemas.answers import NewMessage
from pipeline.deliveries.submissions import conversation
from pipeline.exports.queries import find_export
from pipeline.exports.schemas.submissions import ConversationItem, ConversationPage
from pipeline.interfaces.api.dependencies import Operator, PublisherDep, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import READ_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow.conversation import write_message
from pipeline.workflow.interventions import find_for_change

router = APIRouter(prefix="/api/exports", tags=["broker submissions"])


@router.post(
    "/{id}/messages",
    status_code=201,
    responses={
        200: {"model": ConversationItem, "description": "The message was written before"},
        **refusal_responses(400, 404, 409, 413, 422),
    },
    openapi_extra=describe_body(NewMessage),
)
async def write_to_broker(
    id: str,
    response: Response,
    runtime: RuntimeDep,
    publisher: PublisherDep,
    caller: Operator,
    body: Annotated[Parsed[NewMessage], json_body(NewMessage)],
) -> ConversationItem:
    """Write to the customs broker about its handoff, by the broker's own channel; a repeat with the same `id` sends nothing.

    After a question, the export leaves the inbox until the next answer, which then has a deadline.
    """

    def write() -> tuple[ConversationItem, bool]:
        export_id = find_for_change(runtime, caller, id)
        item, tasks = write_message(runtime, caller.account_id, export_id, body.model, caller.actor)
        publisher.publish(tasks)
        return item, bool(tasks)

    item, created = await run_in_threadpool(write)
    response.status_code = 201 if created else 200
    return item


@router.get("/{id}/conversation", responses=READ_REFUSALS)
def read_conversation(
    id: str,
    runtime: RuntimeDep,
    caller: Reader,
    after: Annotated[int, Query(ge=0, le=1_000_000, description="How many items to leave out: the oldest ones")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="How many items a page has")] = 50,
) -> ConversationPage:
    """Return what the customs broker and the exporter wrote about the handoff, oldest first."""
    with runtime.db.read() as session:
        export = find_export(session, caller.account_id, id, test=caller.test)
        return conversation.read_conversation(session, export.id, after=after, limit=limit)
