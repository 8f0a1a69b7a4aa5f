"""The portal's pages of deliveries: list, message and attempts; resend one, or the dead letters from an instant on."""

from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts.schemas import name_subject
from pipeline.core.errors import Purged, Refused, ValidationFailed
from pipeline.deliveries import history, portal, replay, resend
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.console.partners.partner_views import parse_instant
from pipeline.interfaces.pages.pages import ConsoleRoute, redirect_to
from pipeline.interfaces.portal import views
from pipeline.interfaces.portal.pages import PAGE_SIZE, Holder, PortalFields, PortalVisit

router = APIRouter(prefix="/portal/deliveries", include_in_schema=False, route_class=ConsoleRoute)

#: How far back the form for dead letters reaches, until a person chooses another instant.
_RESENT_DAYS: Final = timedelta(days=7)

_STATES: Final = {state.value: state for state in portal.SHOWN_STATES}


@router.get("")
def show_deliveries(
    visit: Holder,
    state: Annotated[str | None, Query(max_length=16)] = None,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
    resent: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Show the partner's deliveries, those of the newest export first."""
    notice = "" if resent is None else f"{resent} dead letters are pending again."
    return _list_page(visit, state, cursor, notice=notice)


@router.post("/resend-dead")
def resend_dead_letters(visit: Holder, form: PortalFields) -> Response:
    """Send the dead letters from an instant on again, with the same ids."""
    try:
        resent = _resend_dead_letters(visit, form.get("since"))
    except Refused as refused:
        return _list_page(visit, DeliveryState.DEAD, None, refusal=refused, since=form.get("since"))
    return redirect_to(f"/portal/deliveries?resent={resent}")


@router.get("/{id}")
def show_delivery(id: str, visit: Holder) -> Response:
    """Show one delivery: its message, and each attempt with its response and remedy."""
    return _delivery_page(visit, id)


@router.get("/{id}/message.json")
def download_message(id: str, visit: Holder) -> Response:
    """Return the exact bytes of the message of a delivery."""
    sent = portal.read_message(visit.runtime, visit.visitor, id)
    if sent.body is None:
        raise Purged.for_subject(
            name_subject(sent.delivery.export_id, sent.delivery.plan_id), "the text of its messages is gone"
        )
    headers = {**download_headers(f"{sent.delivery.notification_id}.json"), "Cache-Control": "no-store"}
    return Response(sent.body, headers=headers, media_type="application/json")


@router.post("/{id}/resend")
def resend_delivery(id: str, visit: Holder, form: PortalFields) -> Response:
    """Send a delivered or dead message again, with the same id; send a pending one now."""
    visitor = visit.visitor
    portal.check_delivery(visit.runtime, visitor, id)
    try:
        _, stream = resend.resend_delivery(visit.runtime, visitor.account_id, id, visitor.actor)
    except Refused as refused:
        return _delivery_page(visit, id, refusal=refused)
    visit.publish([stream])
    return redirect_to(f"/portal/deliveries/{quote(id)}")


def _resend_dead_letters(visit: PortalVisit, since: str) -> int:
    visitor, resent = visit.visitor, 0
    request = ReplayRequest(since=parse_instant(since), states=("dead",))
    while True:
        report, streams = replay.replay_messages(
            visit.runtime, visitor.account_id, visitor.partner_id, request, visitor.actor
        )
        visit.publish(streams)
        resent += report.messages
        if report.next is None:
            return resent
        request = request.model_copy(update={"until": report.until, "after": report.next})


def _list_page(
    visit: PortalVisit,
    given: str | None,
    cursor: str | None,
    *,
    notice: str = "",
    refusal: Refused | None = None,
    since: str | None = None,
) -> Response:
    if given is not None and given not in _STATES:
        raise ValidationFailed(f"there is no state {given[:16]}; use {', '.join(_STATES)}", field="state")
    state = None if given is None else _STATES[given]
    found = portal.list_deliveries(visit.runtime, visit.visitor, state=state, after=cursor, limit=PAGE_SIZE)
    following = found.next_cursor
    return visit.page(
        "portal/deliveries.html",
        refused=refusal,
        states=views.build_state_links(state),
        deliveries=[views.show_message(each) for each in found.items],
        next_link=None if following is None else views.build_deliveries_link(state, following),
        notice=notice,
        since=views.format_input(visit.runtime.clock() - _RESENT_DAYS) if since is None else since,
    )


def _delivery_page(visit: PortalVisit, delivery_id: str, *, refusal: Refused | None = None) -> Response:
    runtime, visitor = visit.runtime, visit.visitor
    sent = portal.read_message(runtime, visitor, delivery_id)
    exchanges = history.load_sent_message(runtime, visitor.account_id, delivery_id).exchanges
    return visit.page(
        "portal/delivery.html",
        refused=refusal,
        delivery=views.show_message(sent.delivery),
        testable=views.can_test_failure(sent.delivery),
        resendable=sent.delivery.state in resend.RESENDABLE and sent.body is not None,
        headers=views.list_properties(sent.delivery),
        body=sent.body,
        text=views.format_body(sent.body),
        attempts=views.show_attempts(sent, exchanges),
    )
