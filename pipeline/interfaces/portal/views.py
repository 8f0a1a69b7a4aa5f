"""Views of the portal's pages: states, times and remedies as text, so that templates compute nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from pipeline.accounts.channels import QueueEndpoint, find_channel, is_for_people
from pipeline.accounts.schemas import DeliveryView, PartnerView
from pipeline.accounts.secrets import SecretRecord
from pipeline.accounts.states import PartnerState
from pipeline.deliveries.history import SentMessage
from pipeline.deliveries.portal import SHOWN_STATES, DeliveredMessage
from pipeline.deliveries.queries import MAX_COUNTED
from pipeline.deliveries.remedies import find_partner_remedy
from pipeline.deliveries.streams.circuit_breaker import BreakerState
from pipeline.deliveries.submissions.signature_checks import SignatureCheck
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.console.partners import message_views
from pipeline.interfaces.console.partners.message_views import ShownAttempt
from pipeline.interfaces.console.partners.partner_views import ShownDelivery, ShownEndpoint, show_delivery, show_partner
from pipeline.interfaces.event_text import format_size
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.list_views import FilterLink

#: A longer message is only offered as a file.
MAX_SHOWN_BYTES: Final = 256 * 1024

_NEXT: Final[Mapping[PartnerState, str]] = {
    PartnerState.DRAFT: "You are not live yet: no live export reaches you. Test your endpoint; then the exporter makes you live.",
    PartnerState.TESTING: "You are not live yet: correct what the test found, and test your endpoint again.",
    PartnerState.VERIFIED: "Your endpoint passed its test. The exporter can make you live now.",
    PartnerState.LIVE: "",
    PartnerState.PAUSED: "You are paused: nothing is sent to you, and pending messages are kept. Ask the exporter to resume you.",
}


_PAGES: Final = (
    ("Deliveries", "/portal/deliveries"),
    ("Handoffs", "/portal/handoffs"),
    ("Endpoint", "/portal/endpoint"),
    ("Secret", "/portal/secret"),
    ("Verify", "/portal/verify"),
    ("Samples", "/portal/samples"),
)


@dataclass(frozen=True)
class PortalTile:
    """A figure of the overview, with a link to its list."""

    name: str
    figure: str
    link: str
    mark: str


@dataclass(frozen=True)
class PortalOverview:
    """The partner on its first page. `notice` is empty if it is live."""

    state: str
    notice: str
    kind: str
    test: bool
    artifacts: str
    tested: str
    link_ends: str
    endpoints: Sequence[ShownEndpoint]


@dataclass(frozen=True)
class EndpointPage:
    """The endpoints and their last test. `binding` is empty if the partner has no queue."""

    tested: str
    testable: bool
    binding: str
    endpoints: Sequence[ShownEndpoint]


@dataclass(frozen=True)
class ShownPayload:
    """The message of a delivery. `text` is empty if it is too long to show, or purged."""

    headers: Sequence[tuple[str, str]]
    text: str
    size: str
    purged: bool


@dataclass(frozen=True)
class PortalSecret:
    """A signing secret without the secret itself."""

    number: int
    created: str
    state: str
    mark: str


def build_nav(partner: PartnerView, path: str) -> list[FilterLink]:
    """Return the links to the pages for this partner; the one of `path` is chosen."""
    pages = [("Overview", "/portal"), *_PAGES]
    hidden = set() if partner.kind == "customs_broker" else {"Handoffs"}
    if is_for_people(partner.channels):
        # It signs nothing, and its program reads no message.
        hidden |= {"Secret", "Verify", "Samples"}
    return [
        FilterLink(name, link, path == link or (link != "/portal" and path.startswith(f"{link}/")))
        for name, link in pages
        if name not in hidden
    ]


def show_overview(partner: PartnerView, breakers: Mapping[str, BreakerState], ends_at: datetime) -> PortalOverview:
    """Return the first page; the visitor's link ends at `ends_at`."""
    shown = show_partner(partner, breakers)
    return PortalOverview(
        state=shown.state,
        notice=_NEXT[partner.state],
        kind=shown.kind,
        test=shown.test,
        artifacts=shown.artifacts if partner.kind == "customs_broker" else "",
        tested=shown.tested,
        link_ends=format_instant(ends_at),
        endpoints=[_describe_queue(each, partner) for each in shown.endpoints],
    )


def show_endpoint_page(partner: PartnerView, breakers: Mapping[str, BreakerState]) -> EndpointPage:
    """Return the endpoints with the stages of their last test; without those of servers that belong to the exporter."""
    shown = show_partner(partner, breakers)
    return EndpointPage(
        tested=shown.tested,
        testable=can_test(partner),
        binding=partner.queue_binding if any(isinstance(each, QueueEndpoint) for each in partner.channels) else "",
        endpoints=[each if find_channel(each.channel).own_server else _hide_findings(each) for each in shown.endpoints],
    )


def describe_verdict(checks: Sequence[SignatureCheck]) -> str:
    """Return in one sentence whether a receiver must take the message that was checked."""
    failed = [check for check in checks if not check.passed]
    if not failed:
        return "The signature is valid: take the message."
    if [check.name for check in failed] == ["time"]:
        return "The signature is right, but the message is not from now: a receiver must refuse it."
    return "The signature is not valid: a receiver must refuse the message."


def build_due_tile(count: int) -> PortalTile:
    """Return the figure of the handoffs whose next answer is due."""
    return PortalTile("answers due", _format_count(count), "/portal/handoffs", "busy" if count else "good")


def build_tiles(counts: Mapping[DeliveryState, int]) -> list[PortalTile]:
    """Return the figures of the overview."""
    marks = {DeliveryState.PENDING: "busy", DeliveryState.DELIVERED: "good", DeliveryState.DEAD: "bad"}
    names = {DeliveryState.DEAD: "dead letters"}
    return [
        PortalTile(
            name=names.get(state, state.value),
            figure=_format_count(count),
            link=build_deliveries_link(state, None),
            mark=marks[state] if count else "",
        )
        for state, count in counts.items()
    ]


def can_test(partner: PartnerView) -> bool:
    """Return whether a test reaches the partner itself, and not only a server of the exporter."""
    return any(find_channel(each.channel).test_reaches_partner for each in partner.channels)


def show_message(each: DeliveryView) -> ShownDelivery:
    """Return a delivery for a page of its partner: with the portal's link, and what the partner itself can do."""
    status = each.tries[0].status if each.tries else None
    return replace(
        show_delivery(each),
        link=f"/portal/deliveries/{each.id}",
        remedy=find_partner_remedy(each.channel, status) if each.error and each.tries else "",
    )


def find_test_link(each: DeliveryView) -> str:
    """Return the address of the page that tests the endpoint of a delivery that failed; empty if it cannot help."""
    return "/portal/endpoint" if each.error and find_channel(each.channel).own_server else ""


def format_input(at: datetime) -> str:
    """Return an instant in UTC as the value of an input of a form."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def show_attempts(sent: DeliveredMessage, exchanges: Mapping[int, Mapping[str, Any]]) -> list[ShownAttempt]:
    """Return the attempts of a delivery; those by servers of the exporter without what was exchanged."""
    known = exchanges if find_channel(sent.delivery.channel).own_server else {}
    return message_views.show_message(sent.delivery, SentMessage(None, known)).attempts


def show_payload(sent: DeliveredMessage) -> ShownPayload:
    """Return the message of a delivery: its properties on a queue or its file, and its body as indented JSON."""
    delivery = sent.delivery
    headers = [
        (name, value.format(id=delivery.notification_id, type=delivery.event_type))
        for name, value in find_channel(delivery.channel).properties
    ]
    body = sent.body or b""
    shown = json.dumps(json.loads(body), ensure_ascii=False, indent=2) if 0 < len(body) <= MAX_SHOWN_BYTES else ""
    return ShownPayload(headers, shown, format_size(len(body)), purged=sent.body is None)


def build_state_links(chosen: DeliveryState | None) -> list[FilterLink]:
    """Return the links that filter the list of deliveries."""
    return [
        FilterLink("all" if state is None else state.value, build_deliveries_link(state, None), state is chosen)
        for state in (None, *SHOWN_STATES)
    ]


def build_deliveries_link(state: DeliveryState | None, cursor: str | None) -> str:
    """Return the URL of a list of deliveries."""
    filters = {"state": None if state is None else state.value, "cursor": cursor}
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return "/portal/deliveries" + (f"?{query}" if query else "")


def show_secrets(records: Sequence[SecretRecord]) -> list[PortalSecret]:
    """Return the partner's valid secrets, the newest first."""
    return [
        PortalSecret(
            number=each.number,
            created=format_instant(each.created_at),
            state="newest" if each.ends_at is None else format_instant(each.ends_at, "valid until "),
            mark="good" if each.ends_at is None else "busy",
        )
        for each in records
    ]


def _format_count(count: int) -> str:
    return f"{min(count, MAX_COUNTED):,}{'+' if count > MAX_COUNTED else ''}"


def _describe_queue(endpoint: ShownEndpoint, partner: PartnerView) -> ShownEndpoint:
    if endpoint.channel != "queue":
        return endpoint
    return replace(endpoint, address=f"your own queue, bound with {partner.queue_binding}")


def _hide_findings(endpoint: ShownEndpoint) -> ShownEndpoint:
    stages = [
        replace(stage, found="", remedy="ask the exporter" if stage.mark == "failed" else "")
        for stage in endpoint.stages
    ]
    return replace(endpoint, stages=stages)
