"""Answers of customs brokers to handoffs. Closed, camelCase."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.core.field_types import BoundedInstant
from pipeline.exports.schemas.plan import StrictModel

AnswerText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


AnswerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class FieldAnswer(StrictModel):
    """What is wrong with one field, or asked about it."""

    pointer: Annotated[str, StringConstraints(max_length=256, pattern=r"^(/[^/]*)*$")] = Field(
        description="RFC 6901 JSON Pointer into the plan, for example /units/0/lines/2/htsCode"
    )
    message: AnswerText


class HandoffAnswer(StrictModel):
    """The response of a borderbuddy endpoint to a handoff."""

    handoff_id: AnswerId = Field(
        max_length=100, description="The broker's id of the handoff; a repeated handoff keeps it"
    )
    status: Literal["received", "accepted", "rejected", "query"]
    reference: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)

    @property
    def acknowledgement(self) -> "AcknowledgementBody":
        """The answer to record. The endpoint uses the same id for it later."""
        return AcknowledgementBody(
            id=f"{self.handoff_id}:{self.status}",
            status=self.status,
            reference=self.reference,
            message=self.message,
            fields=self.fields,
        )


class AcknowledgementBody(StrictModel):
    """A customs broker's answer to a handoff."""

    id: AnswerId = Field(description="The broker's id of this answer; a repeated answer counts once")
    status: Literal["received", "accepted", "rejected", "query", "filed", "released", "held"]
    at: BoundedInstant | None = Field(None, description="When the broker decided")
    reference: AnswerId | None = None
    entry_number: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)


class HandoffStatus(StrictModel):
    """A borderbuddy endpoint's response to a request for the answers to a handoff."""

    handoff_id: AnswerId = Field(max_length=100, description="`handoffId` of the response to the handoff")
    answers: list[AcknowledgementBody] = Field(
        max_length=100,
        description="All answers, the oldest first; the response to the handoff itself has the id `<handoffId>:<status>`",
    )
