"""The log of an export and the feed of an account: in pages, or live as server-sent events."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

import anyio
from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core import deadline
from pipeline.exports import feed, queries
from pipeline.exports.events import EventType
from pipeline.exports.schemas.export import EventPage, EventView
from pipeline.exports.schemas.feed import FeedPage
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep, is_still_authorized
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS
from pipeline.interfaces.api.openapi import refusal_responses
from pipeline.workflow import queries as workflow_queries

router = APIRouter(prefix="/api", tags=["exports"])

EVENT_STREAM: Final = EventSourceResponse.media_type
_HEARTBEAT_SECONDS: Final = 15.0
_MIN_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 1.0
_PAGE_SIZE: Final = 500
_STREAM_RESPONSE: Final = {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}

C = TypeVar("C")
Limit = Annotated[int, Query(ge=1, le=1000, description="How many events a page has; a stream has all")]
Named = Annotated[
    bool, Query(description="Whether a stream names each event by its `type`; without names, `onmessage` hears all")
]


@dataclass(frozen=True)
class _StreamPart(Generic[C]):
    """Events in order, each after the id by which a broken stream continues; the cursor after them; whether none will follow."""

    events: Sequence[tuple[str, EventView]]
    after: C
    settled: bool = False


@router.get(
    "/exports/{id}/events",
    response_model=EventPage,
    responses={
        200: _STREAM_RESPONSE,
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
    limit: Limit = 200,
    named: Named = False,  # noqa: FBT002 - an option that is on or off
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
    live = _wants_stream(request)
    last_seq = last_event_id if live and last_event_id is not None else after

    def read_first_page() -> tuple[str, workflow_queries.EventBatch]:
        with runtime.db.read() as session:
            export = queries.find_export(session, caller.account_id, id, test=caller.test)
            return export.id, workflow_queries.events_after(session, export.id, last_seq, _PAGE_SIZE if live else limit)

    export_id, page = await run_in_threadpool(read_first_page)
    if not live:
        last = page.events[-1].seq if len(page.events) == limit else None
        return _json_response(EventPage(items=list(page.events), next_after=last))
    if page.settled and not page.events and last_event_id is not None:
        # 204 stops a browser from reconnecting forever.
        return Response(status_code=204)

    def to_part(page: workflow_queries.EventBatch, after: int) -> _StreamPart[int]:
        last = page.events[-1].seq if page.events else after
        return _StreamPart([(str(each.seq), each) for each in page.events], last, page.settled)

    def read_part(after: int) -> _StreamPart[int]:
        with runtime.db.read() as session:
            return to_part(workflow_queries.events_after(session, export_id, after, _PAGE_SIZE), after)

    return _stream_response("the log of an export", request, to_part(page, last_seq), read_part, named=named)


@router.get("/events", response_model=FeedPage, responses={200: _STREAM_RESPONSE, **refusal_responses(400)})
async def read_feed(
    request: Request,
    runtime: RuntimeDep,
    caller: Reader,
    after: Annotated[
        str | None,
        Query(max_length=64, description="Only events after the one with this `id`; without it, from the first"),
    ] = None,
    types: Annotated[
        Sequence[EventType],
        Query(
            alias="type",
            max_length=len(EventType),
            description="Only events of this type; repeat it for any of several",
        ),
    ] = (),
    limit: Limit = 200,
    named: Named = False,  # noqa: FBT002 - an option that is on or off
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            max_length=64,
            description="The `id` of the event after which a broken stream continues; overrides `after`",
        ),
    ] = None,
) -> Response:
    """Return the events of all exports of the account in one order, or follow them live with `Accept: text/event-stream`.

    No event is left out or repeated, and the events of one export keep their order. The stream ends only when the key
    stops being valid.
    """
    live = _wants_stream(request)
    resumed = live and bool(last_event_id)
    begin, given_as = (last_event_id, "/header/Last-Event-ID") if resumed else (after, "/query/after")

    def read_page(after: str | None) -> FeedPage:
        size = _PAGE_SIZE if live else limit
        return feed.read_feed(runtime, caller.account_id, after, types=types, limit=size, given_as=given_as)

    def read_part(after: str | None) -> _StreamPart[str | None]:
        page = read_page(after)
        return _StreamPart([(each.id, each) for each in page.items], page.next_after)

    if not live:
        return _json_response(await run_in_threadpool(read_page, begin))
    part = await run_in_threadpool(read_part, begin)
    return _stream_response("the feed of an account", request, part, read_part, named=named)


def _wants_stream(request: Request) -> bool:
    return EVENT_STREAM in request.headers.get("accept", "")


def _json_response(page: BaseModel) -> Response:
    return Response(page.model_dump_json(by_alias=True), media_type="application/json")


def _stream_response(
    greeting: str, request: Request, part: _StreamPart[C], read_part: Callable[[C], _StreamPart[C]], *, named: bool
) -> Response:
    return EventSourceResponse(
        _stream_events(greeting, request, part, read_part, named=named),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream_events(
    greeting: str, request: Request, part: _StreamPart[C], read_part: Callable[[C], _StreamPart[C]], *, named: bool
) -> AsyncIterator[bytes]:
    """Yield the events while the key is valid; between reads it holds neither a thread nor a connection."""
    yield f": {greeting}\n\n".encode()
    pause = _MIN_PAUSE
    last_sent_at = time.monotonic()
    while True:
        for name, event in part.events:
            yield format_sse_event(
                data_str=event.model_dump_json(by_alias=True), event=event.type if named else None, id=name
            )
        if part.events:
            pause, last_sent_at = _MIN_PAUSE, time.monotonic()
        elif part.settled:
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
        part = await run_in_threadpool(read_part, part.after)
