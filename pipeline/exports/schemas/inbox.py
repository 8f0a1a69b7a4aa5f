"""What needs a person, as items of the inbox: why, since when, until when, and what can be done about it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from pipeline.exports.schemas.export import AcknowledgedView
from pipeline.exports.schemas.plan import StrictModel


class Cause(StrEnum):
    """Why an item needs a person."""

    QUARANTINED = "quarantined"
    FAILED = "failed"
    HANDOFF_HELD = "handoff_held"
    NOT_WITHDRAWN = "not_withdrawn"
    OVERDUE = "overdue"
    REJECTED = "rejected"
    QUERY = "query"
    HELD = "held"
    SUMMARY = "summary"
    AMOUNTS_DIFFER = "amounts_differ"
    EARLIER_ENTRY = "earlier_entry"
    DEAD_LETTER = "dead_letter"
    PAUSED = "paused"


class Remedy(StrEnum):
    """What a person can do about an item."""

    RETRY = "retry"
    CANCEL = "cancel"
    RELEASE = "release"
    RESEND = "resend"
    AMEND = "amend"
    REPLY = "reply"
    TEST = "test"
    RESUME = "resume"
    PAUSE = "pause"
    ACKNOWLEDGE = "acknowledge"
    REOPEN = "reopen"


REMEDIES: Final[Mapping[Cause, tuple[Remedy, ...]]] = {
    Cause.QUARANTINED: (Remedy.RETRY, Remedy.AMEND, Remedy.CANCEL),
    Cause.FAILED: (Remedy.RETRY, Remedy.AMEND, Remedy.CANCEL),
    Cause.HANDOFF_HELD: (Remedy.RELEASE, Remedy.CANCEL),
    Cause.NOT_WITHDRAWN: (Remedy.ACKNOWLEDGE,),
    Cause.OVERDUE: (Remedy.RESEND, Remedy.ACKNOWLEDGE),
    Cause.REJECTED: (Remedy.AMEND, Remedy.ACKNOWLEDGE),
    Cause.QUERY: (Remedy.REPLY, Remedy.AMEND, Remedy.ACKNOWLEDGE),
    Cause.HELD: (Remedy.ACKNOWLEDGE,),
    Cause.SUMMARY: (Remedy.REPLY, Remedy.ACKNOWLEDGE),
    Cause.AMOUNTS_DIFFER: (Remedy.REPLY, Remedy.ACKNOWLEDGE),
    Cause.EARLIER_ENTRY: (Remedy.ACKNOWLEDGE,),
    Cause.DEAD_LETTER: (Remedy.RESEND, Remedy.TEST, Remedy.ACKNOWLEDGE),
    Cause.PAUSED: (Remedy.RESUME, Remedy.TEST),
}


class InboxItem(StrictModel):
    """An export, a dead letter or a paused partner that needs a person."""

    cause: Cause
    partner_id: str | None = Field(None, description="The partner that the item is about")
    reason: str = Field(description="Why it needs a person, and what to do; the same in items that are alike")
    text: str = Field(description="What the customs broker said, or which message is concerned")
    fields: list[dict[str, Any]] = Field(
        default_factory=list,
        description="What the customs broker said about fields, each with a JSON Pointer into the plan",
    )
    export_id: str | None = Field(
        None, description="Null for a paused partner, and for a dead letter about a registered plan"
    )
    batch_id: str | None = None
    test: bool = Field(False, description="Whether it is about a test export or plan, or a paused test partner")
    delivery_id: str | None = Field(None, description="The delivery that `resend` sends again")
    since: datetime
    deadline_at: datetime | None = Field(None, description="When the next answer was due")
    entry_on: date | None = Field(None, description="The planned day of entry, the last one of its units")
    seen_seq: int = Field(0, description="The number of the newest event of the export")
    acknowledged: AcknowledgedView | None = None

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What can be done about it now."""
        if self.acknowledged is not None:
            return (Remedy.REOPEN,)
        without = {Remedy.RESEND} if self.delivery_id is None else set()
        return tuple(each for each in REMEDIES[self.cause] if each not in without)

    @property
    def deadline(self) -> datetime:
        """The instant by which items are sorted: the missed deadline, else the start of the day of entry, else `since`."""
        if self.deadline_at is not None:
            return self.deadline_at
        return self.since if self.entry_on is None else datetime.combine(self.entry_on, time(), UTC)


class InboxView(StrictModel):
    """What needs a person, oldest deadline first."""

    items: list[InboxItem]
    cut: list[Cause] = Field(description="The causes with more items: only the oldest are listed")
