"""The console's pages of partners and their deliveries: test, activate, pause, resend, replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from pipeline.accounts import partners
from pipeline.accounts.api_keys import ADMIN, OPERATE, Caller
from pipeline.core.errors import Refused
from pipeline.core.runtime import Runtime
from pipeline.core.templating import render
from pipeline.deliveries import circuit_breaker, connection_tests, queries, replay, sender, streams
from pipeline.deliveries.outbox import DeliveryStream
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.console import partner_views
from pipeline.interfaces.console.exports import (
    HEADERS,
    find_caller,
    get_runtime,
    page_context,
    page_response,
    redirect_to_sign_in,
    refused_page,
)
from pipeline.interfaces.console.session import check_csrf_token, read_form_fields
from pipeline.workflow.steps import TaskMessage

router = APIRouter(prefix="/console", include_in_schema=False)

_PAGE_SIZE: Final = 50

#: action of a partner's page -> the function that runs it for an administrator
_ACTIONS: Final[dict[str, Callable[[Runtime, Caller, str], Any]]] = {
    "test": lambda runtime, caller, partner: connection_tests.run_connection_test(
        runtime, caller.account_id, partner, tested_by=caller.key_id, test_key=caller.test
    ),
    "activate": lambda runtime, caller, partner: partners.activate_partner(
        runtime, caller.account_id, partner, test_only=caller.test
    ),
    "pause": lambda runtime, caller, partner: partners.pause_partner(
        runtime, caller.account_id, partner, test_only=caller.test
    ),
    "resume": lambda runtime, caller, partner: streams.resume_partner(
        runtime, caller.account_id, partner, test_only=caller.test
    ),
}


@router.get("/partners")
def show_partners(request: Request) -> Response:
    """Show the account's partners: state, last connection test, and number of dead letters."""
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    dead = queries.count_dead_letters(runtime, caller.account_id)
    rows = [
        partner_views.show_row(each, dead.get(each.id, 0))
        for each in partners.list_partners(runtime, caller.account_id)
    ]
    return page_response(render("console/partners.html", **page_context(request, caller), partners=rows))


@router.get("/partners/{id}")
def show_partner(
    id: str,  # noqa: A002 - the contract's name
    request: Request,
    replayed: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Show one partner: each endpoint with the stages of its last test, and its dead letters."""
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    try:
        return _partner_page(
            runtime, request, caller, id, notice=None if replayed is None else f"{replayed} messages are pending again."
        )
    except Refused as refused:
        return refused_page(request, caller, refused)


@router.post("/partners/{id}/{action}")
async def run_action(id: str, action: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Run the action of a button on the partner's page, and show the page again."""
    return await run_in_threadpool(_run_action, request, await read_form_fields(request), id, action)


@router.get("/deliveries")
def show_deliveries(
    request: Request,
    state: Annotated[DeliveryState | None, Query()] = None,
    partner: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Show the account's deliveries, newest first."""
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    found = queries.list_deliveries(
        runtime, caller.account_id, state=state, partner_id=partner, after=cursor, limit=_PAGE_SIZE
    )
    return page_response(
        render(
            "console/deliveries.html",
            **page_context(request, caller),
            partner=partner,
            states=partner_views.build_state_links(state, partner),
            deliveries=[partner_views.show_delivery(each) for each in found.items],
            next_link=partner_views.build_deliveries_link(state, partner, found.next_cursor)
            if found.next_cursor
            else None,
        )
    )


@router.get("/deliveries/{id}")
def show_delivery(id: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Show one delivery with its attempts: response and remedy of each."""
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    try:
        return _delivery_page(runtime, request, caller, id)
    except Refused as refused:
        return refused_page(request, caller, refused)


@router.post("/deliveries/{id}/resend")
async def resend_delivery(id: str, request: Request) -> Response:  # noqa: A002 - the contract's name
    """Resend the delivery, and show its page again."""
    return await run_in_threadpool(_resend, request, await read_form_fields(request), id)


def _run_action(request: Request, fields: Mapping[str, str], partner_id: str, action: str) -> Response:
    # All in one thread: tenancy, which decides the visible rows, is set for this thread only.
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    if action not in {*_ACTIONS, "replay"}:
        return page_response(
            render("console/missing.html", **page_context(request, caller), message="there is no such page"), 404
        )
    address = f"/console/partners/{quote(partner_id)}"
    try:
        check_csrf_token(runtime, request, fields)
        if action == "replay":
            caller.require(OPERATE)
            return _redirect_to(f"{address}?replayed={_replay(runtime, request, caller, partner_id, fields)}")
        caller.require(ADMIN)
        _ACTIONS[action](runtime, caller, partner_id)
    except Refused as refused:
        return _refused_page(runtime, request, caller, partner_id, refused)
    return _redirect_to(address)


def _resend(request: Request, fields: Mapping[str, str], delivery_id: str) -> Response:
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    try:
        check_csrf_token(runtime, request, fields)
        caller.require(OPERATE)
        _, stream = sender.resend_delivery(
            runtime, caller.account_id, delivery_id, caller.key_id, test_only=caller.test
        )
    except Refused as refused:
        try:
            return _delivery_page(runtime, request, caller, delivery_id, refusal=refused)
        except Refused as missing:
            return refused_page(request, caller, missing)
    _publish_streams(request, [stream])
    return _redirect_to(f"/console/deliveries/{quote(delivery_id)}")


def _replay(runtime: Runtime, request: Request, caller: Caller, partner: str, fields: Mapping[str, str]) -> int:
    replay_request = ReplayRequest(since=partner_views.parse_instant(fields.get("since", "")))
    messages = 0
    while True:
        report, streams = replay.replay_messages(
            runtime, caller.account_id, partner, replay_request, caller.key_id, test_only=caller.test
        )
        _publish_streams(request, streams)
        messages += report.messages
        if report.next is None:
            return messages
        replay_request = replay_request.model_copy(update={"until": report.until, "after": report.next})


def _partner_page(
    runtime: Runtime,
    request: Request,
    caller: Caller,
    partner_id: str,
    *,
    notice: str | None = None,
    refusal: Refused | None = None,
) -> Response:
    shown = partners.get_partner(runtime, caller.account_id, partner_id)
    with runtime.db.read() as session:
        breakers = circuit_breaker.load_breaker_states(session, caller.account_id, partner_id)
    dead = queries.list_deliveries(
        runtime, caller.account_id, state=DeliveryState.DEAD, partner_id=partner_id, limit=_PAGE_SIZE
    )
    html = render(
        "console/partner.html",
        **page_context(request, caller),
        partner=partner_views.show_partner(shown, breakers),
        administers=caller.has_role(ADMIN),
        operates=caller.has_role(OPERATE),
        dead=[partner_views.show_delivery(each) for each in dead.items],
        more=partner_views.build_deliveries_link(DeliveryState.DEAD, partner_id, None) if dead.next_cursor else None,
        notice=notice,
        refusal=None if refusal is None else refusal.message,
    )
    return page_response(html, 200 if refusal is None else refusal.status)


def _delivery_page(
    runtime: Runtime, request: Request, caller: Caller, delivery_id: str, *, refusal: Refused | None = None
) -> Response:
    shown = partner_views.show_delivery(queries.get_delivery(runtime, caller.account_id, delivery_id))
    html = render(
        "console/delivery.html",
        **page_context(request, caller),
        delivery=shown,
        resendable=shown.resendable and caller.has_role(OPERATE),
        refusal=None if refusal is None else refusal.message,
    )
    return page_response(html, 200 if refusal is None else refusal.status)


def _refused_page(runtime: Runtime, request: Request, caller: Caller, partner_id: str, refused: Refused) -> Response:
    try:
        return _partner_page(runtime, request, caller, partner_id, refusal=refused)
    except Refused as missing:
        return refused_page(request, caller, missing)


def _publish_streams(request: Request, streams: list[DeliveryStream]) -> None:
    request.app.state.publisher.publish(
        [TaskMessage(stream.export_id, partner_id=stream.partner_id, channel=stream.channel) for stream in streams]
    )


def _redirect_to(address: str) -> Response:
    return RedirectResponse(address, 303, HEADERS)
