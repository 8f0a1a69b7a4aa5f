"""The test clock of an account: what the API takes and answers."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from pipeline.core.field_types import BoundedInstant
from pipeline.exports.schemas.plan import StrictModel
from pipeline.exports.schemas.view import View


class ClockEvent(StrEnum):
    """What happens at an instant to which a person may move the test clock."""

    TRUCK_ARRIVES = "truck_arrives"
    CERTIFICATE_ENDS = "certificate_ends"
    NEXT_MONTH = "next_month"


class ClockMove(StrictModel):
    """The instant to which the test clock moves ahead."""

    at: BoundedInstant = Field(
        description="At most 400 days ahead of now. A clock that is there already, or past it, stays."
    )


class ClockTarget(View):
    """The next instant at which something happens to the account's open test exports."""

    event: ClockEvent = Field(
        description="`truck_arrives`: the first goods of an open test export arrive; `certificate_ends`: the day after an"
        " origin certification of one; `next_month`: its first day, by the clock of customs"
    )
    at: datetime
    export_id: str | None = Field(alias="exportId", description="The test export, null without one")


class ClockView(View):
    """The test clock of the account. Deadlines, arrivals and checks of its test exports follow it, live exports never."""

    now: datetime = Field(description="What the test clock shows")
    ahead_seconds: int = Field(alias="aheadSeconds", description="By how much it is ahead; 0 if nobody moved it")
    targets: list[ClockTarget] = Field(description="What happens next, the earliest first")
