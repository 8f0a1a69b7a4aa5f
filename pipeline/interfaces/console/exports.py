"""The console's read-only pages: the list of exports, and one export in full."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from starlette.responses import RedirectResponse, Response

from pipeline.accounts import partners
from pipeline.core.errors import Refused
from pipeline.deliveries import queries, sandbox_broker
from pipeline.exports.queries import find_export
from pipeline.interfaces.console import export_views, list_views, partner_views
from pipeline.interfaces.console.list_views import ListFilter
from pipeline.interfaces.console.live import build_live_address
from pipeline.interfaces.console.pages import HEADERS, PAGE_SIZE, ConsoleRoute, Fields, Visit, Visitor, redirect_to
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow import read_model, saved_filters
from pipeline.workflow.search import search_exports

ChosenFilter = Annotated[ListFilter, Depends(list_views.read_filter)]

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/")
def show_start() -> Response:
    """Redirect to the first page; relative, because the caller may use another host name."""
    return RedirectResponse("/console", 308, HEADERS)


@router.get("/exports")
def show_exports(
    visit: Visitor, chosen: ChosenFilter, cursor: Annotated[str | None, Query(max_length=128)] = None
) -> Response:
    """Show the account's exports, newest first."""
    return _list_page(visit, chosen, cursor)


@router.post("/exports/filters")
def save_filter(visit: Visitor, chosen: ChosenFilter, form: Fields) -> Response:
    """Save the filter of the address under the form's name, or delete the one with that name; show the list again."""
    if form.get("delete"):
        saved_filters.delete_filter(visit.runtime, visit.account_id, form.get("delete"))
        return redirect_to(chosen.link())
    try:
        saved_filters.save_filter(
            visit.runtime, visit.account_id, form.get("name"), chosen.encode(), visit.caller.actor
        )
    except Refused as refused:
        return _list_page(visit, chosen, None, refusal=refused)
    return redirect_to(chosen.link())


def _list_page(visit: Visit, chosen: ListFilter, cursor: str | None, *, refusal: Refused | None = None) -> Response:
    live_address = build_live_address(visit)
    with visit.runtime.db.read() as session:
        found = workflow_queries.list_exports(
            session, visit.account_id, chosen.to_export_filter(), cursor=cursor, limit=PAGE_SIZE
        )
    known = partners.list_partners(visit.runtime, visit.account_id)
    return visit.page(
        "console/exports.html",
        200 if refusal is None else refusal.status,
        chosen=chosen,
        query=chosen.encode(),
        outcomes=list_views.build_outcome_links(chosen),
        states=list_views.build_state_links(chosen),
        brokers=list_views.build_partner_choices(known, "customs_broker", chosen.broker),
        warehouses=list_views.build_partner_choices(known, "warehouse", chosen.warehouse),
        saved=list_views.build_saved_links(saved_filters.list_filters(visit.runtime, visit.account_id), chosen),
        refusal=None if refusal is None else refusal.message,
        exports=[list_views.show_row(item) for item in found.items],
        next_link=None if found.next_cursor is None else chosen.link(found.next_cursor),
        live=live_address,
    )


@router.get("/search")
def search(visit: Visitor, q: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Show the exports with a number, or the export itself if there is one."""
    with visit.runtime.db.read() as session:
        hits = search_exports(session, visit.account_id, q)
    if len(hits) == 1:
        return redirect_to(f"/console/exports/{quote(hits[0].export_id)}")
    return visit.page("console/search.html", wanted=q, hits=hits)


@router.get("/search/hits")
def suggest(visit: Visitor, q: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Return the exports with a number as a part of the page."""
    with visit.runtime.db.read() as session:
        hits = search_exports(session, visit.account_id, q)
    return visit.page("console/search_hits.html", wanted=q.strip(), hits=hits)


@router.get("/exports/{id}")
def show_export(id: str, visit: Visitor) -> Response:  # noqa: A002 - the contract's name
    """Show one export in full."""
    with visit.runtime.db.read() as session:
        export_id = find_export(session, visit.account_id, id, test=visit.caller.test).id
    live_address = build_live_address(visit, export_id)
    with visit.runtime.db.read() as session:
        export = read_model.read_export(session, visit.account_id, export_id, test=visit.caller.test)
    deliveries = queries.list_deliveries(visit.runtime, visit.account_id, export_id=export.export_id, limit=PAGE_SIZE)
    return visit.page(
        "console/export.html",
        export=export,
        page=export_views.show_page(export),
        deliveries=[partner_views.show_delivery(each) for each in deliveries.items],
        more_deliveries=deliveries.next_cursor is not None,
        live=live_address,
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
