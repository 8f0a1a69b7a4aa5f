"""What the pages about people say: the roles that they may have, and the details of their acts."""

from __future__ import annotations

from typing import Final

from pipeline.accounts.api_keys import ADMIN, EXECUTE, OPERATE, READ
from pipeline.exports.schemas.export import ActView

#: What each role allows a person.
ROLE_TEXTS: Final = {
    READ: "sees everything of the account",
    OPERATE: "also retries, cancels and resends",
    EXECUTE: "also executes plans",
    ADMIN: "does all of this, and manages partners, keys and people",
}
#: Members of an act's detail whose names do not say well what they are.
_DETAILS: Final = {"by": "superseded by"}


def describe_detail(act: ActView) -> str:
    """Return the details of an act as one line, empty if it has none."""
    return ", ".join(f"{_DETAILS.get(key, key)}: {_format_detail(value)}" for key, value in act.detail.items())


def _format_detail(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
