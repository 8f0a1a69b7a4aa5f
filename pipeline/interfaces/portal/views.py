"""Views of the portal's pages: what a partner may see and do, as text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from pipeline.accounts.channels import find_channel, is_for_people
from pipeline.accounts.schemas import DeliveryView, PartnerView, StageView
from pipeline.accounts.states import PartnerState
from pipeline.deliveries.portal import SHOWN_STATES, DeliveredMessage
from pipeline.deliveries.queries import MAX_COUNTED
from pipeline.deliveries.remedies import find_partner_remedy
from pipeline.deliveries.submissions.signature_checks import SignatureCheck
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.console.partners import message_views
from pipeline.interfaces.console.partners.message_views import ShownAttempt
from pipeline.interfaces.pages.list_views import FilterLink

#: A longer message is only offered as a file.
MAX_SHOWN_BYTES: Final = 256 * 1024

#: What the state of a partner means to it; empty if it is live.
NOTICES: Final[Mapping[PartnerState, str]] = {
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


def hide_findings(partner: PartnerView) -> PartnerView:
    """Return the partner without what its last test found about servers that belong to the exporter."""
    if partner.last_test is None:
        return partner
    tested = [
        each
        if find_channel(each.channel).own_server
        else each.model_copy(update={"stages": [_hide_finding(stage) for stage in each.stages]})
        for each in partner.last_test.endpoints
    ]
    return partner.model_copy(update={"last_test": partner.last_test.model_copy(update={"endpoints": tested})})


def _hide_finding(stage: StageView) -> StageView:
    found = stage.found.removesuffix(stage.result)
    return stage.model_copy(update={"found": found, "remedy": None if stage.passed else "ask the exporter"})


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


def show_message(each: DeliveryView) -> DeliveryView:
    """Return a delivery for a page of its partner: its remedy is what the partner itself can do."""
    status = each.tries[0].status if each.tries else None
    remedy = find_partner_remedy(each.channel, status) if each.error and each.tries else None
    return each.model_copy(update={"remedy": remedy})


def can_test_failure(each: DeliveryView) -> bool:
    """Return whether the delivery failed, and a test of the endpoint can show why."""
    return bool(each.error) and find_channel(each.channel).own_server


def format_input(at: datetime) -> str:
    """Return an instant in UTC as the value of an input of a form."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def show_attempts(sent: DeliveredMessage, exchanges: Mapping[int, Mapping[str, Any]]) -> list[ShownAttempt]:
    """Return the attempts of a delivery; those by servers of the exporter without what was exchanged."""
    known = exchanges if find_channel(sent.delivery.channel).own_server else {}
    return message_views.show_attempts(sent.delivery, known)


def list_properties(delivery: DeliveryView) -> list[tuple[str, str]]:
    """Return the properties of a message on a queue, or its file; empty for other channels."""
    return [
        (name, value.format(id=delivery.notification_id, type=delivery.event_type))
        for name, value in find_channel(delivery.channel).properties
    ]


def format_body(body: bytes | None) -> str:
    """Return the body of a message as indented JSON; empty if it is purged, or too long to show."""
    if not body or len(body) > MAX_SHOWN_BYTES:
        return ""
    return json.dumps(json.loads(body), ensure_ascii=False, indent=2)


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


def _format_count(count: int) -> str:
    return f"{min(count, MAX_COUNTED):,}{'+' if count > MAX_COUNTED else ''}"
