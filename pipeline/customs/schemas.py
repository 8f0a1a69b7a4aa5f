"""What callers may say about waivers, and what we say back; closed, camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from pipeline.core.field_types import BoundedDay, Day
from pipeline.exports.schemas.plan import LongReadableText, PartnerId, StrictModel

RuleId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{1,39}$", description="Such as V17")]
Scope = Annotated[
    str,
    Field(
        max_length=500,
        pattern=r"^(/[A-Za-z0-9_.~*-]{1,64}){1,12}$",
        description="Beginning of a JSON Pointer into the plan; * stands for any one part, as in /units/*/invoice",
    ),
]


class NewWaiver(StrictModel):
    """A warning that the account takes upon itself: which, where, why, and until when."""

    rule: RuleId
    pointer: Scope | None = Field(None, description="Only there; without it everywhere")
    partner_id: PartnerId | None = Field(None, description="Only for this customs broker or warehouse")
    reason: LongReadableText
    ends_on: BoundedDay | None = Field(None, description="The last day, UTC; without it until it is revoked")


class WaiverView(StrictModel):
    """A waiver as it is on record; a revoked one stays."""

    id: str
    rule: str
    pointer: str | None
    partner_id: str | None
    reason: str
    waived_by: str = Field(description="Id of the key, or who said so on the command line")
    ends_on: Day | None
    created_at: datetime
    revoked_by: str | None
    revoked_at: datetime | None


class WaiverList(StrictModel):
    """The account's waivers, oldest first, the revoked ones among them."""

    items: list[WaiverView]
