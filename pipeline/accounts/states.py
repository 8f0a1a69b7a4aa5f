"""The states of a partner, and the moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class PartnerState(StrEnum):
    """The life of a partner: whether it is known to be reached, and whether it is sent anything."""

    DRAFT = "draft"  # registered; no endpoint of it has been tried
    TESTING = "testing"  # of its endpoints, one did not pass its connection test or was changed since
    VERIFIED = "verified"  # every endpoint passed its connection test
    LIVE = "live"  # live exports reach it
    PAUSED = "paused"  # it is sent nothing; what it is owed stays owed


PARTNER_MOVES: Final[Mapping[PartnerState, frozenset[PartnerState]]] = {
    PartnerState.DRAFT: frozenset({PartnerState.TESTING, PartnerState.VERIFIED}),
    PartnerState.TESTING: frozenset({PartnerState.VERIFIED}),
    PartnerState.VERIFIED: frozenset({PartnerState.TESTING, PartnerState.LIVE}),
    PartnerState.LIVE: frozenset({PartnerState.PAUSED}),
    PartnerState.PAUSED: frozenset({PartnerState.LIVE}),
}
