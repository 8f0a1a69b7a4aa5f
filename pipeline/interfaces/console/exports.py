"""The console's read-only pages: the list of exports, and one export in full."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse, Response

from pipeline.deliveries import queries, sandbox_broker
from pipeline.exports.states import ExportState, Outcome
from pipeline.interfaces.console import export_views, partner_views
from pipeline.interfaces.console.pages import HEADERS, PAGE_SIZE, ConsoleRoute, Visitor, redirect_to
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow import read_model
from pipeline.workflow.queries import ExportFilter
from pipeline.workflow.search import search_exports

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/")
def show_start() -> Response:
    """Redirect to the first page; relative, because the caller may use another host name."""
    return RedirectResponse("/console", 308, HEADERS)


@router.get("/exports")
def show_exports(
    visit: Visitor,
    state: Annotated[ExportState | None, Query()] = None,
    outcome: Annotated[list[Outcome], Query(max_length=len(Outcome))] = [],  # noqa: B006 - never changed
    quarantined: Annotated[bool, Query()] = False,  # noqa: FBT002 - a filter that is on or off
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Show the account's exports, newest first."""
    with visit.runtime.db.read() as session:
        filters = ExportFilter(state=state, quarantined=quarantined or None, outcomes=outcome)
        found = workflow_queries.list_exports(session, visit.account_id, filters, cursor=cursor, limit=PAGE_SIZE)
    next_link = None
    if found.next_cursor is not None:
        next_link = f"/console/exports?cursor={quote(found.next_cursor)}" + (f"&state={state.value}" if state else "")
        next_link += "&quarantined=true" if quarantined else ""
        next_link += f"&{export_views.encode_outcomes(outcome)}" if outcome else ""
    return visit.page(
        "console/exports.html",
        outcomes=export_views.build_outcome_links(outcome, filtered=bool(state or outcome or quarantined)),
        states=export_views.build_state_links(state, quarantined=quarantined),
        exports=[export_views.show_row(item) for item in found.items],
        next_link=next_link,
        live="/console/live",
    )


@router.get("/search")
def search(visit: Visitor, q: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Show the exports with a number, or the export itself if there is one."""
    with visit.runtime.db.read() as session:
        hits = search_exports(session, visit.account_id, q)
    if len(hits) == 1:
        return redirect_to(f"/console/exports/{quote(hits[0].export_id)}")
    return visit.page("console/search.html", wanted=q, hits=hits)


@router.get("/exports/{id}")
def show_export(id: str, visit: Visitor) -> Response:  # noqa: A002 - the contract's name
    """Show one export in full."""
    with visit.runtime.db.read() as session:
        export = read_model.read_export(session, visit.account_id, id, test=visit.caller.test)
    deliveries = queries.list_deliveries(visit.runtime, visit.account_id, export_id=export.export_id, limit=PAGE_SIZE)
    return visit.page(
        "console/export.html",
        export=export,
        page=export_views.show_page(export),
        deliveries=[partner_views.show_delivery(each) for each in deliveries.items],
        more_deliveries=deliveries.next_cursor is not None,
        live=f"/console/live?export={quote(export.export_id)}",
    )


@router.get("/sandbox")
def show_sandbox(visit: Visitor, cursor: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    """Show what the sandbox broker received from the account, newest first."""
    found = sandbox_broker.list_handoffs(visit.runtime, visit.account_id, after=cursor, limit=PAGE_SIZE)
    return visit.page(
        "console/sandbox.html",
        handoffs=[export_views.show_handoff(item) for item in found.items],
        next_link=None if found.next_cursor is None else f"/console/sandbox?cursor={quote(found.next_cursor)}",
    )
