"""The console's pages of waivers: list, record, the exports that used one, and revoke. An administrator uses them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import lists, people
from pipeline.accounts.api_keys import ADMIN
from pipeline.core.errors import Refused
from pipeline.customs import waivers
from pipeline.customs.schemas import WaiverView
from pipeline.interfaces.console.work import waiver_views
from pipeline.interfaces.pages.input import fill_form, read_errors
from pipeline.interfaces.pages.pages import (
    PAGE_SIZE,
    ConsoleRoute,
    Cursor,
    Fields,
    Form,
    Visit,
    Visitor,
    build_next_link,
    redirect_to,
)
from pipeline.workflow.waivers import find_waiver_uses

router = APIRouter(prefix="/console/waivers", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_waivers(visit: Visitor, ended: Annotated[bool, Query()] = False, cursor: Cursor = None) -> Response:  # noqa: FBT002 - a filter, on or off
    """Show the account's waivers, newest first; with `ended` those that ended or were revoked."""
    visit.caller.require(ADMIN)
    today = visit.runtime.clock().date()
    found = waivers.list_waiver_page(
        visit.runtime, visit.account_id, ended=ended, on=today, after=cursor, limit=PAGE_SIZE
    )
    return visit.page(
        "console/work/waivers.html",
        waivers=found.items,
        names=_name_actors(visit, found.items),
        today=today,
        ended=ended,
        next_link=build_next_link("/console/waivers", found.next_cursor, ended=ended),
    )


@router.get("/new")
def show_new_waiver(
    visit: Visitor, rule: Annotated[str, Query(max_length=64)] = "", pointer: Annotated[str, Query(max_length=512)] = ""
) -> Response:
    """Show the form that records a waiver; a link from a finding fills in its rule and place."""
    visit.caller.require(ADMIN)
    return _new_page(visit, Form({"rule": [rule], "pointer": [pointer]}), None)


@router.post("")
def record_waiver(visit: Visitor, fields: Fields) -> Response:
    """Record a waiver, and show its page."""
    caller = visit.caller
    caller.require(ADMIN)
    try:
        new = waiver_views.read_new_waiver(fields)
        known = {each.id for each in lists.list_partner_names(visit.runtime, caller.account_id)}
        waiver_views.check_waiver(new, known, visit.runtime.clock().date())
        made = waivers.grant_waiver(
            visit.runtime, caller.account_id, new, waived_by=caller.actor, test_only=caller.test
        )
    except Refused as refused:
        return _new_page(visit, fields, refused)
    return redirect_to(f"/console/waivers/{made.id}")


@router.get("/{id}")
def show_waiver(id: str, visit: Visitor, before: Annotated[str | None, Query(max_length=64)] = None) -> Response:
    """Show one waiver, and the exports that used it."""
    visit.caller.require(ADMIN)
    waiver = waivers.get_waiver(visit.runtime, visit.account_id, id)
    with visit.runtime.db.read() as session:
        uses = find_waiver_uses(session, visit.account_id, waiver, before=before)
    return visit.page(
        "console/work/waiver.html",
        waiver=waiver,
        names=_name_actors(visit, [waiver]),
        today=visit.runtime.clock().date(),
        uses=uses,
        continued=before is not None,
        changeable=not visit.caller.test,
    )


@router.post("/{id}/revoke")
def revoke_waiver(id: str, visit: Visitor, fields: Fields) -> Response:
    """Revoke the waiver now, and show its page."""
    visit.caller.require(ADMIN)
    waivers.revoke_waiver(
        visit.runtime, visit.account_id, id, revoked_by=visit.caller.actor, test_only=visit.caller.test
    )
    return redirect_to(f"/console/waivers/{id}")


def _name_actors(visit: Visit, found: Sequence[WaiverView]) -> Mapping[str, str]:
    """Return the names of those who recorded and revoked the waivers, by id."""
    with visit.runtime.db.read() as session:
        return people.name_actors(session, {by for each in found for by in (each.waived_by, each.revoked_by) if by})


def _new_page(visit: Visit, fields: Form, refused: Refused | None) -> Response:
    known = lists.list_partner_names(visit.runtime, visit.account_id)
    form = fill_form(waiver_views.list_inputs(known), fields, read_errors(refused))
    return visit.page("console/work/waiver_new.html", refused=refused, form=form)
