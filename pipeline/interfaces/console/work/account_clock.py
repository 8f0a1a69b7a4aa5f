"""The console's page of the test clock: what it shows, the buttons that move it ahead, and its reset."""

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.accounts.api_keys import OPERATE, READ
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.deliveries import account_clock
from pipeline.exports.schemas.account_clock import ClockEvent
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Visit, Visitor, redirect_to
from pipeline.workflow import clock_moves

router = APIRouter(prefix="/console/test-clock", include_in_schema=False, route_class=ConsoleRoute)

_HERE: Final = "/console/test-clock"
_BUTTONS: Final = {
    ClockEvent.TRUCK_ARRIVES: "Truck arrives",
    ClockEvent.CERTIFICATE_ENDS: "Certificate ends",
    ClockEvent.NEXT_MONTH: "Rules of next month",
}


@router.get("")
def show_clock(visit: Visitor) -> Response:
    """Show the account's test clock, and what happens next to its open test exports."""
    return _page(visit, None)


@router.post("")
def move_clock(visit: Visitor, fields: Fields) -> Response:
    """Move the test clock ahead to the form's instant, or reset it; then show the page."""
    visit.caller.require(OPERATE)
    try:
        if fields.get("reset"):
            account_clock.reset_clock(visit.runtime, visit.caller)
        else:
            _, tasks = clock_moves.move_clock(visit.runtime, visit.caller, _read_instant(fields.get("at")))
            visit.publish(tasks)
    except Refused as refused:
        return _page(visit, refused, fields.get("at"))
    return redirect_to(_HERE)


def _read_instant(text: str) -> datetime:
    """Return the instant that was typed; without a time zone, in UTC. Raises ValidationFailed."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValidationFailed(
            f"{text or 'nothing'} is not an instant; give day and time in UTC", field="/at"
        ) from None


def _page(visit: Visit, refused: Refused | None, typed: str = "") -> Response:
    visit.caller.require(READ)
    clock = account_clock.show_clock(visit.runtime, visit.account_id)
    return visit.page(
        "console/work/test_clock.html",
        refused=refused,
        refusal=None if refused is None else refused.message,
        clock=clock,
        buttons=_BUTTONS,
        typed=typed or f"{clock.now:%Y-%m-%dT%H:%M:%S}",
        may_move=visit.caller.has_role(OPERATE) and visit.caller.may_change(test=True),
    )
