"""The calendar of what is due next: its link, which an administrator creates and revokes, and the feed behind it."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.deliveries import calendars
from pipeline.exports.schemas.deadlines import CalendarLink
from pipeline.interfaces.api.dependencies import Admin, ApiKeyCache, RuntimeDep, rate_limited
from pipeline.interfaces.api.openapi import LIST_REFUSALS

router = APIRouter(tags=["exports"])

_HEADERS: Final = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex, nofollow"}


@router.post("/api/deadlines/calendar", responses=LIST_REFUSALS)
def create_calendar_link(response: Response, runtime: RuntimeDep, caller: Admin) -> CalendarLink:
    """Return the link to the account's calendar of deadlines, the same until it is revoked. Test keys are refused."""
    response.headers["Cache-Control"] = "no-store"
    return calendars.create_calendar_link(runtime, caller.account_id, created_by=caller.actor, test_only=caller.test)


@router.delete("/api/deadlines/calendar", status_code=204, responses=LIST_REFUSALS)
def revoke_calendar_links(runtime: RuntimeDep, caller: Admin) -> None:
    """Revoke all links to the account's calendar. Test keys are refused."""
    calendars.revoke_calendar_links(runtime, caller.account_id, revoked_by=caller.actor, test_only=caller.test)


@router.get("/calendar/{token}.ics", include_in_schema=False)
def read_calendar(token: str, request: Request, runtime: RuntimeDep) -> Response:
    """Return the calendar behind a link."""
    named = calendars.parse_token(runtime.settings, token)
    links: ApiKeyCache = request.app.state.links
    _, wait = links.take_token(token)
    if wait:
        raise rate_limited("this link was used too often", wait)
    return Response(calendars.write_calendar(runtime, named), 200, _HEADERS, "text/calendar; charset=utf-8")
