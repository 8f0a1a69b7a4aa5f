"""The stream that says when an open page of the console is out of date."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final

import anyio
from fastapi import APIRouter, Query
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core import deadline
from pipeline.exports import queries as export_queries
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS
from pipeline.interfaces.console.pages import ConsoleRoute, Visit, Visitor, is_still_signed_in
from pipeline.workflow import queries

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

_PAUSE_SECONDS: Final = 2.0

#: Deadlines come closer and queues grow without an event, so a page is out of date after this time in any case.
_MAX_AGE_SECONDS: Final = 30.0


@router.get("/live")
def follow_changes(visit: Visitor, export: Annotated[str | None, Query(max_length=64)] = None) -> Response:
    """Send `changed` when something changed in the export, or in the account if none is given."""
    runtime, account_id = visit.runtime, visit.account_id
    if export is not None:
        with runtime.db.read() as session:
            export_id = export_queries.find_export(session, account_id, export, test=visit.caller.test).id

    def read_version() -> str:
        with runtime.db.read() as session:
            if export is None:
                return queries.read_account_version(session, account_id)
            return queries.read_export_version(session, export_id)

    return EventSourceResponse(
        _stream_changes(visit, read_version), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )


async def _stream_changes(visit: Visit, read_version: Callable[[], str]) -> AsyncIterator[bytes]:
    """Yield an event for each change while the session lasts; between reads it holds neither a thread nor a connection."""
    yield b": changes\n\n"
    seen, sent_at = await run_in_threadpool(read_version), time.monotonic()
    while True:
        await anyio.sleep(_PAUSE_SECONDS)
        deadline.set_deadline(REQUEST_WAIT_SECONDS)
        if not await is_still_signed_in(visit):
            return
        version = await run_in_threadpool(read_version)
        if version != seen or time.monotonic() - sent_at >= _MAX_AGE_SECONDS:
            yield format_sse_event(data_str=version, event="changed")
            seen, sent_at = version, time.monotonic()
