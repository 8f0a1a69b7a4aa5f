"""The console's page of a partner's portal links: create, list with the last use, revoke one or all."""

from typing import Final
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.accounts import lists, partners, portal_links
from pipeline.accounts.api_keys import ADMIN
from pipeline.accounts.people import name_actors
from pipeline.accounts.portal_links import generate_link_id
from pipeline.accounts.schemas import CreatedPortalLink
from pipeline.core.clock import utc_now
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.interfaces.pages.input import read_whole_number
from pipeline.interfaces.pages.pages import (
    PAGE_SIZE,
    ConsoleRoute,
    Cursor,
    Fields,
    Visit,
    Visitor,
    build_next_link,
    redirect_to,
)

router = APIRouter(prefix="/console/partners/{id}/portal-links", include_in_schema=False, route_class=ConsoleRoute)

_MAX_DAYS: Final = 90
_DEFAULT_DAYS: Final = "7"


@router.get("")
def show_links(id: str, visit: Visitor, cursor: Cursor = None) -> Response:
    """Show the partner's portal links with their last use, and a form that creates one."""
    visit.caller.require(ADMIN)
    return _links_page(visit, id, cursor=cursor)


@router.post("")
def create_link(id: str, visit: Visitor, form: Fields) -> Response:
    """Create a link, once for each loaded form; only this page shows it."""
    visit.caller.require(ADMIN)
    typed = form.get("days")
    try:
        created = portal_links.create_portal_link(
            visit.runtime,
            visit.account_id,
            id,
            _parse_days(typed),
            created_by=visit.caller.actor,
            test_only=visit.caller.test,
            link_id=form.get("link_id", "none"),
        )
    except Refused as refused:
        return _links_page(visit, id, refusal=refused, days=typed)
    return _links_page(visit, id, created=created)


@router.post("/revoke")
def revoke_links(id: str, visit: Visitor, form: Fields) -> Response:
    """Revoke the link that the form names, or all links if it names none."""
    runtime, caller, link = visit.runtime, visit.caller, form.get("link")
    caller.require(ADMIN)
    account, by, test_only = caller.account_id, caller.actor, caller.test
    try:
        if link:
            portal_links.revoke_portal_link(runtime, account, id, link, revoked_by=by, test_only=test_only)
        else:
            portal_links.revoke_portal_links(runtime, account, id, revoked_by=by, test_only=test_only)
    except Refused as refused:
        return _links_page(visit, id, refusal=refused)
    return redirect_to(f"/console/partners/{quote(id)}/portal-links")


def _links_page(
    visit: Visit,
    partner_id: str,
    *,
    created: CreatedPortalLink | None = None,
    refusal: Refused | None = None,
    days: str = _DEFAULT_DAYS,
    cursor: str | None = None,
) -> Response:
    partner = partners.get_partner(visit.runtime, visit.account_id, partner_id)
    with visit.runtime.db.read() as session:
        found = lists.list_link_page(session, visit.account_id, partner_id, after=cursor, limit=PAGE_SIZE)
        revocable = lists.has_valid_link(session, visit.account_id, partner_id)
        names = name_actors(session, {row.created_by for row in found.items})
    return visit.page(
        "console/partners/portal_links.html",
        refused=refusal,
        partner=partner,
        url=None if created is None else created.url,
        links=found.items,
        names=names,
        now=utc_now(),
        next_link=build_next_link(f"/console/partners/{quote(partner_id)}/portal-links", found.next_cursor),
        revocable=revocable,
        link_id=generate_link_id(),
        days=days,
    )


def _parse_days(text: str) -> int:
    days = read_whole_number(text, 1, _MAX_DAYS)
    if days is None:
        raise ValidationFailed(f"the link must work for 1 to {_MAX_DAYS} days", field="days")
    return days
