"""The stream that says when an open page of the console is out of date."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Final
from urllib.parse import urlencode

import anyio
from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, format_sse_event
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core import deadline
from pipeline.exports.queries import find_export
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS
from pipeline.interfaces.pages.pages import ConsoleRoute, Visit, Visitor, is_still_signed_in
from pipeline.workflow import queries

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

_PAUSE_SECONDS: Final = 2.0

#: Deadlines come closer and queues grow without an event, so a page is out of date after this time in any case.
_MAX_AGE_SECONDS: Final = 30.0


@router.get("/live")
def follow_changes(
    visit: Visitor,
    seen: Annotated[str, Query(max_length=64)],
    export: Annotated[str | None, Query(max_length=64)] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
) -> Response:
    """Send `changed` when the export, or the account if none is given, has another version than the page has seen."""
    with visit.runtime.db.read() as session:
        export_id = (
            None if export is None else find_export(session, visit.account_id, export, test=visit.caller.test).id
        )
    return EventSourceResponse(
        _stream_changes(visit, export_id, seen if last_event_id is None else last_event_id),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def build_live_address(visit: Visit) -> str:
    """Return the address of the changes since now in the account.

    Call it before what the page shows is read: a change in between is then sent, not missed.
    """
    return f"/console/live?{urlencode({'seen': _read_version(visit, None)})}"


def build_export_live_address(session: Session, export_id: str) -> str:
    """Return the address of the changes in the export that are later than the session's snapshot."""
    return f"/console/live?{urlencode({'seen': queries.read_export_version(session, export_id), 'export': export_id})}"


def _read_version(visit: Visit, export_id: str | None) -> str:
    """Return a text that changes with the export, or with the account if none is given."""
    with visit.runtime.db.read() as session:
        if export_id is None:
            return queries.read_account_version(session, visit.account_id)
        return queries.read_export_version(session, export_id)


async def _stream_changes(visit: Visit, export_id: str | None, seen: str) -> AsyncIterator[bytes]:
    """Yield an event for each change, and one at the end of the session, so that the page shows that it ended.

    Between reads it holds neither a thread nor a connection.
    """
    yield b": changes\n\n"
    sent_at = time.monotonic()
    while await is_still_signed_in(visit):
        version = await run_in_threadpool(_read_version, visit, export_id)
        if version != seen or time.monotonic() - sent_at >= _MAX_AGE_SECONDS:
            yield format_sse_event(data_str="", event="changed", id=version or "none")
            seen, sent_at = version, time.monotonic()
        await anyio.sleep(_PAUSE_SECONDS)
        deadline.set_deadline(REQUEST_WAIT_SECONDS)
    yield format_sse_event(data_str="", event="changed")
