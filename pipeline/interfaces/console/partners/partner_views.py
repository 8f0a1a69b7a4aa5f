"""Views of partners, endpoints and deliveries for the pages: times, states and remedies as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode

from pipeline.accounts import channels
from pipeline.accounts.channels import Endpoint, QueueEndpoint
from pipeline.accounts.schemas import ConnectionTestView, DeliveryView, PartnerView, StageView
from pipeline.accounts.states import ACTIVATION_STEPS, PartnerState
from pipeline.core.errors import ValidationFailed
from pipeline.core.field_types import check_year
from pipeline.deliveries.channels.protocol import Stage
from pipeline.deliveries.queries import MAX_COUNTED
from pipeline.deliveries.remedies import omit_command
from pipeline.deliveries.streams.circuit_breaker import BreakerState
from pipeline.documents.registry import describe_kind
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.event_text import count_noun
from pipeline.interfaces.kind_text import describe_message_type
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.list_views import FilterLink

_RESENDABLE: Final = frozenset({DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.PENDING})


@dataclass(frozen=True)
class PartnerRow:
    """A partner in the list."""

    link: str
    id: str
    name: str
    kind: str
    state: str
    test: bool
    channels: str
    tested: str
    dead: str
    dead_link: str


@dataclass(frozen=True)
class ShownStage:
    """One stage of a connection test."""

    name: str
    mark: str
    took: str
    found: str
    remedy: str


@dataclass(frozen=True)
class ShownEndpoint:
    """One endpoint of a partner, its circuit breaker, and the stages of its last test."""

    channel: str
    address: str
    breaker: str
    is_open: bool
    stages: list[ShownStage]


@dataclass(frozen=True)
class ShownPartner:
    """A partner on its page; `actions` are those that its state allows."""

    id: str
    name: str
    kind: str
    state: str
    test: bool
    artifacts: str
    next: str
    tested: str
    endpoints: list[ShownEndpoint]
    actions: list[str]
    links: list[tuple[str, str, bool]]  # address, text, and whether only an administrator may open it


@dataclass(frozen=True)
class ShownTry:
    """One attempt of a delivery."""

    number: int
    outcome: str
    status: str
    answer: str
    took: str
    at: str


@dataclass(frozen=True)
class ShownDelivery:
    """A delivery with the reason for its state and the remedy; `resendable` if it can be sent again, or now."""

    link: str
    id: str
    export_link: str  # empty if the message is about a registered plan, which has no page
    subject_kind: str
    subject_id: str
    batch_id: str
    notification_id: str
    event_type: str
    title: str
    partner_link: str
    partner_id: str
    channel: str
    state: str
    attempts: int
    when: str
    error: str
    remedy: str
    resendable: bool
    tries: list[ShownTry]


def _format_count(count: int) -> str:
    """Return a number that was counted up to a limit; empty for none."""
    if count > MAX_COUNTED:
        return f"more than {MAX_COUNTED:,}"
    return str(count) if count else ""


def show_row(partner: PartnerView, dead: int) -> PartnerRow:
    """Return a partner as a row of the list."""
    return PartnerRow(
        link=f"/console/partners/{partner.id}",
        id=partner.id,
        name=partner.name,
        kind=partner.kind.replace("_", " "),
        state=partner.state.value,
        test=partner.test,
        channels=", ".join(endpoint.channel for endpoint in partner.channels),
        tested=_describe_test(partner.last_test),
        dead=_format_count(dead),
        dead_link=build_deliveries_link(DeliveryState.DEAD, partner.id, None),
    )


def show_partner(shown: PartnerView, breakers: Mapping[str, BreakerState]) -> ShownPartner:
    """Return a partner for its page."""
    stages = (
        {} if shown.last_test is None else {endpoint.channel: endpoint.stages for endpoint in shown.last_test.endpoints}
    )
    return ShownPartner(
        id=shown.id,
        name=shown.name,
        kind=shown.kind.replace("_", " "),
        state=shown.state.value,
        test=shown.test,
        artifacts="all" if shown.artifact_types is None else "; ".join(map(describe_kind, shown.artifact_types)),
        next="" if shown.state is PartnerState.LIVE else ACTIVATION_STEPS[shown.state],
        tested=_describe_test(shown.last_test),
        endpoints=[
            ShownEndpoint(
                channel=endpoint.channel,
                address=format_address(endpoint, shown),
                breaker=_describe_breaker(breakers.get(endpoint.channel, BreakerState())),
                is_open=breakers.get(endpoint.channel, BreakerState()).open_until is not None,
                stages=[show_stage(stage) for stage in stages.get(endpoint.channel, ())],
            )
            for endpoint in shown.channels
        ],
        actions=_allowed_actions(shown.state),
        links=_list_links(shown),
    )


def show_stage(stage: StageView | Stage) -> ShownStage:
    """Return a stage of a connection test; one that had nothing to test is neither passed nor failed."""
    passed = "skipped" if stage.found.startswith("skipped: ") else "passed"
    return ShownStage(
        stage.name,
        passed if stage.passed else "failed",
        f"{stage.duration_ms:,} ms",
        stage.found.removeprefix("skipped: "),
        stage.remedy or "",
    )


def format_address(endpoint: Endpoint, partner: PartnerView) -> str:
    """Return where the endpoint is: its address or addresses, or the binding key of a queue."""
    if isinstance(endpoint, QueueEndpoint):
        return f"bind its own queue with {partner.queue_binding}"
    return channels.format_address(endpoint)


def show_delivery(each: DeliveryView) -> ShownDelivery:
    """Return a delivery for a page."""
    when: str = ""
    if each.delivered_at is not None:
        when = format_instant(each.delivered_at, "delivered ")
    elif each.due_at is not None:
        when = format_instant(each.due_at, "due ")
    return ShownDelivery(
        link=f"/console/deliveries/{each.id}",
        id=each.id,
        export_link=f"/console/exports/{each.export_id}" if each.plan_id is None else "",
        subject_kind="Export" if each.plan_id is None else "Plan",
        subject_id=each.export_id or each.plan_id or "",
        batch_id=each.batch_id,
        notification_id=each.notification_id,
        event_type=each.event_type,
        title=describe_message_type(each.event_type),
        partner_link=f"/console/partners/{each.partner_id}",
        partner_id=each.partner_id,
        channel=each.channel,
        state=each.state.value,
        attempts=each.attempts,
        when=when,
        error=each.error or "",
        remedy=omit_command(each.remedy or ""),
        resendable=each.state in _RESENDABLE,
        tries=[
            ShownTry(
                number=each.number,
                outcome=each.outcome,
                status=each.status or "",
                answer=each.answer or "",
                took=f"{each.duration_ms:,} ms",
                at=format_instant(each.at),
            )
            for each in each.tries
        ],
    )


def build_state_links(chosen: DeliveryState | None, partner_id: str | None) -> list[FilterLink]:
    """Return the links that filter the list of deliveries."""
    return [
        FilterLink(
            "all" if state is None else state.value, build_deliveries_link(state, partner_id, None), state is chosen
        )
        for state in (None, *DeliveryState)
    ]


def build_deliveries_link(state: DeliveryState | None, partner_id: str | None, cursor: str | None) -> str:
    """Return the URL of a list of deliveries."""
    filters = {"state": None if state is None else state.value, "partner": partner_id, "cursor": cursor}
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return "/console/deliveries" + (f"?{query}" if query else "")


def parse_instant(text: str) -> datetime:
    """Return the instant from a form's text, in UTC; raises ValidationFailed if it is not valid."""
    try:
        at = check_year(datetime.fromisoformat(text))
    except ValueError as error:
        raise ValidationFailed("the instant must be in UTC, such as 2026-11-24T15:00", field="since") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _allowed_actions(state: PartnerState) -> list[str]:
    next_actions = {PartnerState.VERIFIED: ["activate"], PartnerState.LIVE: ["pause"], PartnerState.PAUSED: ["resume"]}
    return ["test", *next_actions.get(state, [])]


def _list_links(partner: PartnerView) -> list[tuple[str, str, bool]]:
    """Return the addresses and names of the partner's other pages."""
    link = f"/console/partners/{quote(partner.id)}"
    unfinished = partner.state not in (PartnerState.LIVE, PartnerState.PAUSED)
    exports = {"customs_broker": "broker", "warehouse": "warehouse"}.get(partner.kind)
    return [
        *([(f"{link}/setup", "Continue the set-up", False)] if unfinished else []),
        *([(f"/console/exports?{exports}={quote(partner.id)}", "Exports", False)] if exports else []),
        (f"/console/deliveries?partner={quote(partner.id)}", "Deliveries", False),
        (f"{link}/settings", "Settings", True),
        (f"{link}/secret", "Signing secrets", True),
        (f"{link}/example", "Example dossier", False),
        *([(f"{link}/profile", "Import file", False)] if partner.kind == "customs_broker" else []),
        (f"{link}/portal-links", "Portal links", True),
    ]


def _describe_test(test: ConnectionTestView | None) -> str:
    if test is None:
        return "never tested"
    result = "passed" if test.passed else "did not pass"
    return format_instant(
        test.tested_at, f"{result} before an endpoint was changed, " if test.outdated else f"{result}, "
    )


def _describe_breaker(breaker: BreakerState) -> str:
    failures = count_noun(breaker.failures, "failure")
    if breaker.open_until is not None:
        return format_instant(breaker.open_until, "circuit breaker open until ", f" after {failures} in a row")
    if breaker.failures:
        return f"{failures} in a row" if breaker.failures > 1 else failures
    return ""
