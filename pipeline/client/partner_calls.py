"""The calls about partners: register, change, try out, and give new secrets."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.accounts.schemas import (
    CreatedPartner,
    NewPartner,
    PartnerChanges,
    PartnerList,
    PartnerTested,
    PartnerView,
    RotatedSecret,
    SecretRotation,
)
from pipeline.client.request import Call, Repeat, as_model, body_of, get, segment

#: A connection test tries every way to a partner, each with a time limit of its own.
_TEST_SECONDS = 120

_partner = as_model(PartnerView)


def partners() -> Call[Sequence[PartnerView]]:
    """Return the account's partners, by id."""
    return get("api/partners", as_model(PartnerList)).then(lambda found: found.items)


def partner(partner: str) -> Call[PartnerView]:
    """Return one partner."""
    return get(_path(partner), _partner)


def create_partner(new: NewPartner) -> Call[CreatedPartner]:
    """Register a partner; its signing secret is in this answer and in no other."""
    return Call("POST", "api/partners", as_model(CreatedPartner), json=body_of(new))


def change_partner(partner: str, changes: PartnerChanges) -> Call[PartnerView]:
    """Change what `changes` names; the rest, and the signing secret, stay."""
    return Call("PATCH", _path(partner), _partner, json=body_of(changes), repeat=Repeat.ALWAYS)


def test_partner(partner: str) -> Call[PartnerTested]:
    """Try every way to a partner stage by stage; `passed` says whether all went well, and each stage what to do."""
    return Call("POST", f"{_path(partner)}/test", as_model(PartnerTested), extra_seconds=_TEST_SECONDS)


def activate_partner(partner: str) -> Call[PartnerView]:
    """Have live exports reach a partner whose test has passed."""
    return Call("POST", f"{_path(partner)}/activate", _partner)


def rotate_secret(partner: str, *, overlap_hours: int | None = None) -> Call[RotatedSecret]:
    """Give a partner a new signing secret, in this answer and in no other; the older ones still count for the overlap."""
    rotation = SecretRotation() if overlap_hours is None else SecretRotation(overlap_hours=overlap_hours)
    return Call("POST", f"{_path(partner)}/rotate-secret", as_model(RotatedSecret), json=body_of(rotation))


def pause_partner(partner: str) -> Call[PartnerView]:
    """Send a partner nothing until it is resumed; what it is owed stays owed."""
    return Call("POST", f"{_path(partner)}/pause", _partner)


def resume_partner(partner: str) -> Call[PartnerView]:
    """Send a partner what it is owed, from now on."""
    return Call("POST", f"{_path(partner)}/resume", _partner)


def _path(partner: str) -> str:
    return f"api/partners/{segment(partner)}"
