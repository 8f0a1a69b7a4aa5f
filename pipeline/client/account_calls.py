"""The calls about the account's waivers, and about the service itself."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.client.request import Call, Repeat, as_model, body_of, get, segment
from pipeline.customs.schemas import NewWaiver, WaiverList, WaiverView
from pipeline.ops.schemas import Health


def waivers() -> Call[Sequence[WaiverView]]:
    """Return the account's waivers, oldest first, the revoked ones among them."""
    return get("api/waivers", as_model(WaiverList)).then(lambda found: found.items)


def waive(new: NewWaiver) -> Call[WaiverView]:
    """Take a warning upon the account from now on; findings that block cannot be waived."""
    return Call("POST", "api/waivers", as_model(WaiverView), json=body_of(new))


def revoke_waiver(waiver: str) -> Call[WaiverView]:
    """End a waiver now; what was accepted under it stays accepted."""
    return Call("DELETE", f"api/waivers/{segment(waiver)}", as_model(WaiverView))


def health() -> Call[Health]:
    """Return how every part of the service is."""
    return get("api/system/health", as_model(Health))


def readiness() -> Call[None]:
    """Return where the service is ready; asked once, without patience."""
    return Call("GET", "readyz", lambda _: None, repeat=Repeat.NEVER)
