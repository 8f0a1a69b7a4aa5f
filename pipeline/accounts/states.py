"""The states of a partner, and the moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class PartnerState(StrEnum):
    """The state of a partner: whether its endpoints are tested, and whether live exports reach it."""

    DRAFT = "draft"  # registered; its endpoints are not tested
    TESTING = "testing"  # an endpoint failed its connection test, or was changed after it
    VERIFIED = "verified"  # every endpoint passed its connection test
    LIVE = "live"  # live exports reach it
    PAUSED = "paused"  # nothing is sent to it; pending messages are kept


PARTNER_MOVES: Final[Mapping[PartnerState, frozenset[PartnerState]]] = {
    PartnerState.DRAFT: frozenset({PartnerState.TESTING, PartnerState.VERIFIED}),
    PartnerState.TESTING: frozenset({PartnerState.VERIFIED}),
    PartnerState.VERIFIED: frozenset({PartnerState.TESTING, PartnerState.LIVE}),
    PartnerState.LIVE: frozenset({PartnerState.PAUSED}),
    PartnerState.PAUSED: frozenset({PartnerState.LIVE}),
}
