"""The console's pages of partners and their deliveries: activate, pause, resend, replay."""

from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.api_keys import ADMIN, OPERATE
from pipeline.accounts.schemas import DeliveryView
from pipeline.accounts.states import ACTIVATION_STEPS, PartnerState
from pipeline.core.errors import NotFound, Refused
from pipeline.deliveries import history, queries, replay, resend
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.deliveries.streams import circuit_breaker, recovery
from pipeline.exports.schemas.plan import PartnerId
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.console.partners import message_views, partner_views
from pipeline.interfaces.pages.live import build_live_address
from pipeline.interfaces.pages.pages import PAGE_SIZE, ConsoleRoute, Fields, Visit, Visitor, redirect_to
from pipeline.interfaces.pages.previews import read_tree
from pipeline.workflow.steps import stream_tasks

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

#: action of a partner's page -> the function that runs it for an administrator
_ACTIONS: Final[dict[str, Callable[[Visit, str], Any]]] = {
    "activate": lambda visit, partner: partners.activate_partner(
        visit.runtime, visit.account_id, partner, test_only=visit.caller.test, actor=visit.caller.actor
    ),
    "pause": lambda visit, partner: partners.pause_partner(
        visit.runtime, visit.account_id, partner, test_only=visit.caller.test, actor=visit.caller.actor
    ),
    "resume": lambda visit, partner: recovery.resume_partner(
        visit.runtime, visit.account_id, partner, test_only=visit.caller.test, actor=visit.caller.actor
    ),
}


@router.get("/partners")
def show_partners(visit: Visitor, after: Annotated[PartnerId, Query()] = "") -> Response:
    """Show the account's partners: state, last connection test, and number of dead letters."""
    live_address = build_live_address(visit)
    found = partners.list_partners(visit.runtime, visit.account_id, after=after, limit=PAGE_SIZE + 1)
    shown = found[:PAGE_SIZE]
    return visit.page(
        "console/partners/partners.html",
        partners=shown,
        dead=queries.count_dead_letters(visit.runtime, visit.account_id, [each.id for each in shown]),
        most_counted=queries.MAX_COUNTED,
        next_link=f"/console/partners?{urlencode({'after': shown[-1].id})}" if len(found) > PAGE_SIZE else None,
        administers=visit.caller.has_role(ADMIN),
        live=live_address,
    )


@router.get("/partners/{id}")
def show_partner(id: str, visit: Visitor, replayed: Annotated[int | None, Query(ge=0)] = None) -> Response:
    """Show one partner: each endpoint with the stages of its last test, and its dead letters."""
    return _partner_page(visit, id, notice=None if replayed is None else f"{replayed} messages are pending again.")


@router.post("/partners/{id}/{action}")
def run_action(id: str, action: str, visit: Visitor, form: Fields) -> Response:
    """Run the action of a button on the partner's page, and show the page again."""
    if action not in {*_ACTIONS, "replay"}:
        raise NotFound("there is no such page")
    address = f"/console/partners/{quote(id)}"
    try:
        if action == "replay":
            visit.caller.require(OPERATE)
            return redirect_to(f"{address}?replayed={_replay(visit, id, form.get('since'))}")
        visit.caller.require(ADMIN)
        _ACTIONS[action](visit, id)
    except Refused as refused:
        return _partner_page(visit, id, refusal=refused)
    return redirect_to(address)


@router.get("/deliveries")
def show_deliveries(
    visit: Visitor,
    state: Annotated[DeliveryState | None, Query()] = None,
    partner: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Show the account's deliveries, newest first."""
    live_address = build_live_address(visit)
    found = queries.list_deliveries(
        visit.runtime, visit.account_id, state=state, partner_id=partner, after=cursor, limit=PAGE_SIZE
    )
    following = found.next_cursor
    return visit.page(
        "console/exports/deliveries.html",
        export=None,
        partner=partner,
        wanted="" if state is None else state.value,
        states=partner_views.build_state_links(state, partner),
        deliveries=found.items,
        next_link=None if following is None else partner_views.build_deliveries_link(state, partner, following),
        live=live_address,
    )


@router.get("/deliveries/{id}")
def show_delivery(id: str, visit: Visitor) -> Response:
    """Show one delivery with its attempts: response and remedy of each."""
    return _delivery_page(visit, id)


@router.post("/deliveries/{id}/resend")
def resend_delivery(id: str, visit: Visitor, form: Fields) -> Response:
    """Resend the delivery, and show its page again."""
    try:
        visit.caller.require(OPERATE)
        _, stream = resend.resend_delivery(
            visit.runtime, visit.account_id, id, visit.caller.actor, test_only=visit.caller.test
        )
    except Refused as refused:
        return _delivery_page(visit, id, refusal=refused)
    visit.publish(stream_tasks([stream]))
    return redirect_to(f"/console/deliveries/{quote(id)}")


def _replay(visit: Visit, partner_id: str, since: str) -> int:
    request = ReplayRequest(since=partner_views.parse_instant(since))
    messages = 0
    while True:
        report, streams = replay.replay_messages(
            visit.runtime, visit.account_id, partner_id, request, visit.caller.actor, test_only=visit.caller.test
        )
        visit.publish(stream_tasks(streams))
        messages += report.messages
        if report.next is None:
            return messages
        request = request.model_copy(update={"until": report.until, "after": report.next})


def _partner_page(
    visit: Visit, partner_id: str, *, notice: str | None = None, refusal: Refused | None = None
) -> Response:
    shown = partners.get_partner(visit.runtime, visit.account_id, partner_id)
    with visit.runtime.db.read() as session:
        breakers = circuit_breaker.load_breaker_states(session, visit.account_id, partner_id)
    dead = queries.list_deliveries(
        visit.runtime, visit.account_id, state=DeliveryState.DEAD, partner_id=partner_id, limit=PAGE_SIZE
    )
    return visit.page(
        "console/partners/partner.html",
        refused=refusal,
        partner=shown,
        breakers=breakers,
        next_step=None if shown.state is PartnerState.LIVE else ACTIVATION_STEPS[shown.state],
        links=partner_views.list_links(shown),
        actions=partner_views.list_actions(shown.state),
        administers=visit.caller.has_role(ADMIN),
        operates=visit.caller.has_role(OPERATE),
        dead=dead.items,
        more=partner_views.build_deliveries_link(DeliveryState.DEAD, partner_id, None) if dead.next_cursor else None,
        notice=notice,
    )


def _may_test(visit: Visit, delivery: DeliveryView) -> bool:
    """Return whether a connection test may show why a dead letter was not taken, and this person may run it."""
    if delivery.state is not DeliveryState.DEAD or not visit.caller.has_role(ADMIN):
        return False
    try:
        partner = partners.get_partner(visit.runtime, visit.account_id, delivery.partner_id)
    except NotFound:  # a message to the account itself has no partner
        return False
    return partner.test or not visit.caller.test


def _delivery_page(visit: Visit, delivery_id: str, *, refusal: Refused | None = None) -> Response:
    delivery = queries.get_delivery(visit.runtime, visit.account_id, delivery_id)
    message = history.load_sent_message(visit.runtime, visit.account_id, delivery_id)
    return visit.page(
        "console/partners/delivery.html",
        refused=refusal,
        delivery=delivery,
        attempts=message_views.show_attempts(delivery, message.exchanges),
        body=None if message.body is None else read_tree(message.body),
        body_note=message_views.describe_body(delivery, message.body),
        resendable=delivery.state in resend.RESENDABLE and visit.caller.has_role(OPERATE),
        testable=_may_test(visit, delivery),
    )
