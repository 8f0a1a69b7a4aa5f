"""What is due next over all open exports of an account."""

from typing import Annotated, Final

from fastapi import APIRouter, Query

from pipeline.deliveries import deadlines
from pipeline.deliveries.deadlines import DeadlineFilter
from pipeline.exports.schemas.deadlines import DeadlinePage
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS

router = APIRouter(prefix="/api/deadlines", tags=["exports"])

#: A year.
_MOST_HOURS: Final = 8784


@router.get("", responses=LIST_REFUSALS)
def list_deadlines(
    runtime: RuntimeDep,
    caller: Reader,
    within: Annotated[
        int | None, Query(ge=1, le=_MOST_HOURS, description="Only what is due within so many hours, or overdue")
    ] = None,
    partner: Annotated[str | None, Query(max_length=64, description="Only what this partner must do")] = None,
    after: Annotated[
        str | None, Query(max_length=128, description="The `nextAfter` of the page before; without it, the earliest")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many a page has")] = 50,
) -> DeadlinePage:
    """List what is due next, the earliest first: the next status of open handoffs, and summaries of released entries."""
    wanted = DeadlineFilter(within_hours=within, partner_id=partner, after=after)
    return deadlines.list_deadlines(runtime, caller.account_id, wanted, limit=limit)
