"""The requests and responses for waivers; closed, camelCase."""

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
        description="Start of a JSON Pointer into the plan; * matches any single part, as in /units/*/invoice",
    ),
]


class NewWaiver(StrictModel):
    """A warning that the account accepts: which, where, why, and until when."""

    rule: RuleId
    pointer: Scope | None = Field(None, description="Only at this place in the plan; without it everywhere")
    partner_id: PartnerId | None = Field(None, description="Only for this customs broker or warehouse")
    reason: LongReadableText
    ends_on: BoundedDay | None = Field(None, description="The last day, UTC; without it the waiver holds until revoked")


class WaiverView(StrictModel):
    """A recorded waiver; a revoked waiver stays recorded."""

    id: str
    rule: str
    pointer: str | None
    partner_id: str | None
    reason: str
    waived_by: str = Field(description="Id of the API key, or the person named on the command line")
    ends_on: Day | None
    created_at: datetime
    revoked_by: str | None
    revoked_at: datetime | None


class WaiverList(StrictModel):
    """The account's waivers, oldest first, with the revoked ones."""

    items: list[WaiverView]
