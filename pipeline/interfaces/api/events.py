"""The log of an export: in pages, or live as server-sent events."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

import anyio
from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core import deadline
from pipeline.core.runtime import Runtime
from pipeline.exports import queries
from pipeline.exports.schemas.export import EventPage
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep, is_still_authorized
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS
from pipeline.interfaces.api.openapi import refusal_responses
from pipeline.workflow import queries as workflow_queries

router = APIRouter(prefix="/api/exports", tags=["exports"])

EVENT_STREAM: Final = EventSourceResponse.media_type
_HEARTBEAT_SECONDS: Final = 15.0
_MIN_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 1.0
_PAGE_SIZE: Final = 500


@router.get(
    "/{id}/events",
    response_model=EventPage,
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "The reader of the stream has every event, and no more will follow"},
        **refusal_responses(400, 404),
    },
)
async def read_events(
    id: str,
    request: Request,
    runtime: RuntimeDep,
    caller: Reader,
    after: Annotated[int, Query(ge=0, le=2**31, description="Only events after this `seq`")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many events a page has; a stream has all")] = 200,
    named: Annotated[  # noqa: FBT002 - an option that is on or off
        bool, Query(description="Whether a stream names each event by its `type`; without names, `onmessage` hears all")
    ] = False,
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            le=2**31,
            description="The `seq` after which a broken stream continues; overrides `after`",
        ),
    ] = None,
) -> Response:
    """Return the log in order, or follow it live with `Accept: text/event-stream`.

    The stream ends when the export has ended, all deliveries are done, and the customs broker has answered or is
    overdue. It also ends when the key stops being valid.
    """
    live = EVENT_STREAM in request.headers.get("accept", "")
    last_seq = last_event_id if live and last_event_id is not None else after

    def read_first_page() -> tuple[str, workflow_queries.EventBatch]:
        with runtime.db.read() as session:
            export = queries.find_export(session, caller.account_id, id, test=caller.test)
            return export.id, workflow_queries.events_after(session, export.id, last_seq, _PAGE_SIZE if live else limit)

    export_id, page = await run_in_threadpool(read_first_page)
    if not live:
        last = page.events[-1].seq if len(page.events) == limit else None
        body = EventPage(items=list(page.events), next_after=last)
        return Response(body.model_dump_json(by_alias=True), media_type="application/json")
    if page.settled and not page.events and last_event_id is not None:
        # 204 stops a browser from reconnecting forever.
        return Response(status_code=204)
    return EventSourceResponse(
        _stream_events(request, runtime, export_id, last_seq, page, named=named),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream_events(
    request: Request, runtime: Runtime, export_id: str, last_seq: int, page: workflow_queries.EventBatch, *, named: bool
) -> AsyncIterator[bytes]:
    """Yield the events while the key is valid; between reads it holds neither a thread nor a connection."""

    def read_page() -> workflow_queries.EventBatch:
        with runtime.db.read() as session:
            return workflow_queries.events_after(session, export_id, last_seq, _PAGE_SIZE)

    yield b": the log of an export\n\n"
    pause = _MIN_PAUSE
    last_sent_at = time.monotonic()
    while True:
        for event in page.events:
            last_seq = event.seq
            yield format_sse_event(
                data_str=event.model_dump_json(by_alias=True), event=event.type if named else None, id=str(event.seq)
            )
        if page.events:
            pause, last_sent_at = _MIN_PAUSE, time.monotonic()
        elif page.settled:
            return
        elif time.monotonic() - last_sent_at >= _HEARTBEAT_SECONDS:
            yield KEEPALIVE_COMMENT
            last_sent_at = time.monotonic()
        else:
            await anyio.sleep(pause)
            pause = min(pause * 1.3, _MAX_PAUSE)
        deadline.set_deadline(REQUEST_WAIT_SECONDS)
        if not await is_still_authorized(request):
            return
        page = await run_in_threadpool(read_page)
