"""The console's first page: what needs a person, and what happened."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.core.templating import render
from pipeline.interfaces.console import home_views
from pipeline.interfaces.console.exports import (
    find_caller,
    get_runtime,
    page_context,
    page_response,
    redirect_to_sign_in,
)
from pipeline.ops.schemas import StatsRange
from pipeline.ops.stats import queries

router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("")
def show_home(
    request: Request,
    range: Annotated[StatsRange, Query()] = StatsRange.HOURS_24,  # noqa: A002 - as in the API
) -> Response:
    """Show tiles that lead to lists of exports, and plots of what happened."""
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    found = queries.read_stats(runtime, caller.account_id, range)
    return page_response(
        render(
            "console/home.html",
            **page_context(request, caller),
            page=home_views.build_home(found),
            ranges=home_views.build_range_links(range),
        )
    )
