"""The states of a partner, the moves between them, and what makes a partner live."""

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

#: What to do to make a partner live, by its state.
ACTIVATION_STEPS: Final[Mapping[PartnerState, str]] = {
    PartnerState.DRAFT: "run its connection test, and activate it when the test has passed",
    PartnerState.TESTING: "fix what its last connection test found, test it again, and activate it",
    PartnerState.VERIFIED: "activate it first",
    PartnerState.LIVE: "there is nothing to do",
    PartnerState.PAUSED: "resume it first",
}

_TEST: Final = "`exports partners test {partner} --account {account}`"
_ACTIVATE: Final = "`exports partners activate {partner} --account {account}`"
_RESUME: Final = "`exports partners resume {partner} --account {account}`"
_ACTIVATION_COMMANDS: Final[Mapping[PartnerState, str]] = {
    PartnerState.DRAFT: f": {_TEST}, then {_ACTIVATE}",
    PartnerState.TESTING: f": {_TEST}, then {_ACTIVATE}",
    PartnerState.VERIFIED: f": {_ACTIVATE}",
    PartnerState.LIVE: "",
    PartnerState.PAUSED: f": {_RESUME}",
}


def describe_activation(account_id: str, partner_id: str, state: PartnerState) -> str:
    """Return how to make a partner in this state live, with the commands."""
    return ACTIVATION_STEPS[state] + _ACTIVATION_COMMANDS[state].format(partner=partner_id, account=account_id)
