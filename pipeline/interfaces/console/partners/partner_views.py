"""The links, actions and filters of the pages of partners and deliveries."""

from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode

from pipeline.accounts.schemas import PartnerView
from pipeline.accounts.states import PartnerState
from pipeline.core.errors import ValidationFailed
from pipeline.core.field_types import check_year
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.pages.list_views import FilterLink

_NEXT_ACTIONS: Final = {PartnerState.VERIFIED: "activate", PartnerState.LIVE: "pause", PartnerState.PAUSED: "resume"}


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


def list_actions(state: PartnerState) -> list[str]:
    """Return the actions that the state of a partner allows."""
    return ["test", *([_NEXT_ACTIONS[state]] if state in _NEXT_ACTIONS else [])]


def list_links(partner: PartnerView) -> list[tuple[str, str, bool]]:
    """Return the address and the name of each other page of the partner, and whether only an administrator opens it."""
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
