"""Answers of customs brokers to handoffs. Closed, camelCase."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator

from pipeline.core.field_types import BoundedInstant
from pipeline.exports.schemas.assessment import AssessedAmounts
from pipeline.exports.schemas.plan import StrictModel

AnswerText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


#: The values of `AnswerStatus`, as type checkers read them.
StatusName = Literal[
    "received",
    "remark",
    "accepted",
    "rejected",
    "query",
    "withdrawn",
    "filed",
    "replaced",
    "customs_accepted",
    "admissible",
    "released",
    "held",
    "hold_removed",
    "not_released",
    "detained",
    "cancelled",
    "refused",
    "seized",
    "bill_matched",
    "bill_unmatched",
    "summary_filed",
    "summary_rejected",
    "summary_documents_requested",
    "summary_paid",
    "summary_corrected",
    "summary_liquidated",
]

#: The statuses that may say what was assessed.
ASSESSED: Final = (
    "filed",
    "released",
    "remark",
    *(each for each in get_args(StatusName) if each.startswith("summary_")),
)

PackageNumbers = list[Annotated[str, StringConstraints(pattern=r"^CP-[0-9]{1,12}$")]]

#: At most so many files go with an answer or a message.
MAX_ATTACHMENTS: Final = 10
AttachmentId = Annotated[str, StringConstraints(pattern=r"^att_[0-9a-f]{32}$")]

AnswerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class FieldAnswer(StrictModel):
    """What is wrong with one field, or asked about it."""

    pointer: Annotated[str, StringConstraints(max_length=256, pattern=r"^(/[^/]*)*$")] = Field(
        description="RFC 6901 JSON Pointer into the plan, for example /units/0/lines/2/htsCode"
    )
    message: AnswerText


class HandoffAnswer(StrictModel):
    """The response of a borderbuddy endpoint to a handoff, or with `withdrawn` to its withdrawal."""

    handoff_id: AnswerId = Field(
        max_length=100, description="The broker's id of the handoff; a repeated handoff keeps it"
    )
    status: Literal["received", "accepted", "rejected", "query", "withdrawn"]
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


class CustomsHold(StrictModel):
    """A hold of customs or of another agency."""

    holder: Literal["cbp", "agriculture", "manifest", "agency"]
    agency: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2,8}$")] | None = Field(
        None, description="With the holder `agency`: its code, such as FDA"
    )
    program: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2,8}$")] | None = None
    kind: Literal["exam", "documents", "review", "redelivery"] | None = None

    @model_validator(mode="after")
    def _check_agency(self) -> Self:
        if (self.holder == "agency") != (self.agency is not None):
            raise ValueError("name `agency` with the holder `agency`, and with no other holder")
        return self

    @property
    def name(self) -> str:
        """The hold in one word. The removal of a hold also removes those whose names go on after its own."""
        return ":".join(filter(None, (self.holder, self.agency, self.program, self.kind)))


class RawAnswer(StrictModel):
    """What the other system said, before it became one of our statuses."""

    system: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    code: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    text: AnswerText | None = None


class AcknowledgementBody(StrictModel):
    """A customs broker's answer to a handoff."""

    id: AnswerId = Field(description="The broker's id of this answer; a repeated answer counts once")
    status: StatusName
    at: BoundedInstant | None = Field(
        None, description="When the broker decided. Answers count in this order, whenever they arrive"
    )
    effective_at: BoundedInstant | None = Field(None, description="When it takes effect, if that lies ahead")
    customs_package_numbers: PackageNumbers = Field(
        default_factory=list,
        max_length=1000,
        description="The packages that it is about; without them it is about the whole handoff",
    )
    hold: CustomsHold | None = Field(None, description="With `held` and `hold_removed`: which hold; without it, all")
    corrects: AnswerId | None = Field(None, description="The id of an earlier answer, which then counts for nothing")
    in_reply_to: AnswerId | None = Field(None, description="The `messageId` of our message that it answers")
    reference: AnswerId | None = None
    entry_number: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)
    attachments: list[AttachmentId] = Field(
        default_factory=list, max_length=MAX_ATTACHMENTS, description="The ids of files that you sent before"
    )
    raw: RawAnswer | None = None
    assessed: AssessedAmounts | None = Field(
        None,
        description="With `filed`, `released`, `remark` and a summary: the amounts of one entry, to compare with the estimate",
    )

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.hold is not None and self.status not in ("held", "hold_removed"):
            raise ValueError("`hold` belongs to the statuses `held` and `hold_removed`; remove it")
        if self.status == "remark" and self.message is None:
            raise ValueError("a `remark` needs a `message`; add it")
        if self.assessed is not None and self.status not in ASSESSED:
            raise ValueError(f"`assessed` belongs to the statuses {', '.join(ASSESSED)}; remove it")
        if self.corrects == self.id:
            raise ValueError("`corrects` names the answer itself; name an earlier answer")
        return self


class NewMessage(StrictModel):
    """A message to the customs broker about its handoff."""

    id: AnswerId = Field(description="The sender's id of this message; a repeated message counts once")
    text: AnswerText
    in_reply_to: AnswerId | None = Field(
        None, description="The `id` of the customs broker's answer, or of an earlier message"
    )
    customs_package_numbers: PackageNumbers = Field(
        default_factory=list,
        max_length=1000,
        description="The packages that it is about; without them it is about the whole handoff",
    )
    attachments: list[AttachmentId] = Field(
        default_factory=list, max_length=MAX_ATTACHMENTS, description="The ids of files that you sent before"
    )


class HandoffStatus(StrictModel):
    """A borderbuddy endpoint's response to a request for the answers to a handoff."""

    handoff_id: AnswerId = Field(max_length=100, description="`handoffId` of the response to the handoff")
    answers: list[AcknowledgementBody] = Field(
        max_length=100,
        description="All answers, the oldest first; the response to the handoff itself has the id `<handoffId>:<status>`",
    )
