"""What callers may say about sending a partner's messages again, and what we say back; closed, camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.core.field_types import BoundedInstant
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.schemas.plan import Closed

Again = Literal["delivered", "dead"]


class ReplayRequest(Closed):
    """Which of a partner's messages are to be sent again: what was delivered, or owed and given up, in a span of time."""

    since: BoundedInstant = Field(description="From this instant on, with its offset")
    until: BoundedInstant | None = Field(None, description="Up to this instant; without it now")
    states: tuple[Again, ...] = Field(("delivered", "dead"), min_length=1, max_length=2)
    event_types: list[MessageType] | None = Field(None, min_length=1, max_length=20, description="All, where left out")
    after: str | None = Field(None, max_length=64, description="`next` of the page before")

    @field_validator("until")
    @classmethod
    def _after_it_began(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if until is not None and since is not None and until < since:
            raise ValueError("must not be before since; a span ends after it begins")
        return until


class ReplayReport(Closed):
    """One page of a replay: how much is owed again, and where the next page begins."""

    partner_id: str
    since: datetime
    until: datetime
    messages: int = Field(description="Deliveries that are owed again, each with the id that it had")
    exports: int
    next: str | None = Field(description="Send it as `after`, with the same `until`; null on the last page")
