"""The portal's entrance, which a link's token opens, and its first page."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core.errors import Refused
from pipeline.core.templating import render
from pipeline.deliveries import portal
from pipeline.deliveries.streams import circuit_breaker
from pipeline.interfaces.api.dependencies import RuntimeDep
from pipeline.interfaces.pages.pages import ConsoleRoute, page_response, read_fields, redirect_to
from pipeline.interfaces.pages.session import check_same_origin
from pipeline.interfaces.portal import session, views
from pipeline.interfaces.portal.pages import OPEN, Holder, PortalFields

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/open")
def show_entrance() -> Response:
    """Show the form that takes a link; a script fills it in from the address and submits it."""
    return _entrance_page(None)


@router.post("/open")
async def open_portal(request: Request, runtime: RuntimeDep) -> Response:
    """Start a session of some hours by a link, or by its token alone."""
    response = redirect_to("/portal")
    try:
        check_same_origin(runtime.settings, request)
        link = (await read_fields(request)).get("link")
        await run_in_threadpool(session.start_session, runtime, response, link.rpartition("#")[2])
    except Refused as refused:
        return _entrance_page(refused)
    return response


@router.post("/leave")
def leave_portal(visit: Holder, form: PortalFields) -> Response:
    """End the session. The link still works."""
    response = redirect_to(OPEN)
    session.end_session(response)
    return response


@router.get("")
def show_overview(visit: Holder) -> Response:
    """Show the partner: its state, endpoints, deliveries by state, and last connection test."""
    partner, visitor = visit.load_partner(), visit.visitor
    with visit.runtime.db.read() as reading:
        breakers = circuit_breaker.load_breaker_states(reading, visitor.account_id, visitor.partner_id)
    return visit.page(
        "portal/overview.html",
        breakers=breakers,
        notice=views.NOTICES[partner.state],
        link_ends_at=visitor.expires_at,
        tiles=[
            *(
                [views.build_due_tile(portal.count_due_handoffs(visit.runtime, visitor))]
                if partner.kind == "customs_broker"
                else []
            ),
            *views.build_tiles(portal.count_deliveries(visit.runtime, visitor)),
        ],
    )


def _entrance_page(refused: Refused | None) -> Response:
    message, status = (None, 200) if refused is None else (refused.message, refused.status)
    response = page_response(render("portal/open.html", refusal=message, kept_for=None), status)
    # With `no-referrer`, the browser would also hide that the form came from this site.
    response.headers["Referrer-Policy"] = "same-origin"
    return response
