"""The console's first page: what needs a person, and what happened."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.interfaces.console.work import home_views
from pipeline.interfaces.console.work.certifications import count_ending
from pipeline.interfaces.console.work.rules import read_rules
from pipeline.interfaces.pages.live import build_live_address
from pipeline.interfaces.pages.pages import ConsoleRoute, Visitor
from pipeline.ops.schemas import StatsRange
from pipeline.ops.stats import queries

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_home(visit: Visitor, range: Annotated[StatsRange, Query()] = StatsRange.HOURS_24) -> Response:
    """Show tiles that lead to lists of exports, and plots of what happened."""
    live_address = build_live_address(visit)
    return visit.page(
        "console/work/home.html",
        page=home_views.build_home(queries.read_stats(visit.runtime, visit.account_id, range)),
        ranges=home_views.build_range_links(range),
        rules=read_rules(visit),
        certifications_ending=count_ending(visit),
        live=live_address,
    )
