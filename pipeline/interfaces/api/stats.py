"""The statistics of an account."""

from typing import Annotated

from fastapi import APIRouter, Query

from pipeline.interfaces.api.dependencies import Reader, RuntimeDep
from pipeline.interfaces.api.openapi import refusal_responses
from pipeline.ops.schemas import StatsRange, StatsView
from pipeline.ops.stats import queries

router = APIRouter(prefix="/api/stats", tags=["exports"])


@router.get("", responses=refusal_responses(400))
def read_stats(
    runtime: RuntimeDep,
    caller: Reader,
    range: Annotated[
        StatsRange, Query(description="How far back: periods of 5 minutes, an hour, 6 hours or a day")
    ] = StatsRange.HOURS_24,
) -> StatsView:
    """Return what happened to the account's exports, by period, and how many need a person now.

    Percentiles are exact within a tenth. An event counts half a minute after it was written.
    """
    return queries.read_stats(runtime, caller.account_id, range)
