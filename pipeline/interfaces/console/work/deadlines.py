"""The console's page of what is due next: the following seven days, and later."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts.api_keys import READ
from pipeline.core.clock import utc_now
from pipeline.deliveries import account_clock, deadlines
from pipeline.deliveries.deadlines import DeadlineFilter
from pipeline.exports.schemas.deadlines import DeadlineKind, DeadlineView
from pipeline.interfaces.deadline_text import describe_task
from pipeline.interfaces.pages.pages import PAGE_SIZE, ConsoleRoute, Cursor, Visitor

router = APIRouter(prefix="/console/deadlines", include_in_schema=False, route_class=ConsoleRoute)

_HERE: Final = "/console/deadlines"
_SOON: Final = timedelta(days=7)


@dataclass(frozen=True)
class ShownDeadline:
    """One row: what must happen, and when by the real time. Test exports have a clock of their own."""

    item: DeadlineView
    task: str
    due_at: datetime

    @classmethod
    def show(cls, item: DeadlineView, ahead: timedelta) -> "ShownDeadline":
        """Return the row of an item; the account's test clock is `ahead`."""
        is_summary = item.kind is DeadlineKind.SUMMARY
        task = describe_task(None if is_summary else item.submission_status, item.partner_id)
        return cls(item, task, item.deadline_at - ahead if item.test else item.deadline_at)


@router.get("")
def show_deadlines(
    visit: Visitor, partner: Annotated[str, Query(max_length=64)] = "", cursor: Cursor = None
) -> Response:
    """Show what is due next, the earliest first; with `partner` only what it must do."""
    visit.caller.require(READ)
    wanted = DeadlineFilter(partner_id=partner or None, after=cursor)
    found = deadlines.list_deadlines(visit.runtime, visit.account_id, wanted, limit=PAGE_SIZE)
    with visit.runtime.db.read() as session:
        ahead = account_clock.read_ahead(session, visit.account_id, test=True)
    now = utc_now()
    rows = [ShownDeadline.show(each, ahead) for each in found.items]
    groups: dict[str, Sequence[ShownDeadline]] = {
        "The next seven days": [each for each in rows if each.due_at <= now + _SOON],
        "Later": [each for each in rows if each.due_at > now + _SOON],
    }
    chosen = {"partner": partner} if partner else {}
    return visit.page(
        "console/work/deadlines.html",
        groups=groups,
        now=now,
        partner=partner,
        next_link=None if found.next_after is None else f"{_HERE}?{urlencode(chosen | {'cursor': found.next_after})}",
    )
