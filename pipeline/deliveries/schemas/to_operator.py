"""Messages to operators; a cancellation also goes to recipients of an earlier revision. Closed, camelCase."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, WithJsonSchema

from pipeline.core.findings import Finding
from pipeline.deliveries.schemas.answers import FieldAnswer
from pipeline.deliveries.schemas.cloudevent import CustomsPackageRef, ExportMessage, OutboxMessage, RevisionRef
from pipeline.exports.schemas.plan import StrictModel
from pipeline.exports.states import Outcome

Relative = Annotated[str, Field(description="Relative to the API's address")]


#: The words of messages of version 1 for later outcomes: readers may refuse a word that their version does not list.
_OLDER_WORDS: Final[Mapping[Any, Outcome]] = {
    Outcome.HANDOFF_HELD: Outcome.IN_PROGRESS,
    Outcome.WITHDRAWING: Outcome.WITH_BROKER,
    Outcome.WITHDRAWN: Outcome.CANCELLED,
    Outcome.NOT_WITHDRAWN: Outcome.FILED,
}

AtThisMoment = Annotated[
    Outcome | None,
    BeforeValidator(lambda outcome: _OLDER_WORDS.get(outcome, outcome)),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [each.value for each in Outcome if each not in _OLDER_WORDS], "type": "string"},
                {"type": "null"},
            ]
        }
    ),
    Field(
        description="The outcome of the export when the message was written; null in messages of earlier versions."
        " `GET /api/exports/{id}` has the current one, and more words"
    ),
]


class ExportExecuted(ExportMessage):
    """To the operator: all steps are done, and all messages are delivered or pending."""

    customs_packages: list[CustomsPackageRef]
    package_count: int
    submission_id: str
    inspect: Relative


class ExportFailed(ExportMessage):
    """To the operator: a step failed and a person must look."""

    outcome: AtThisMoment = None
    step: str
    reason: str
    attempts: int | None = Field(None, description="How many times the step was started")
    quarantined: bool = Field(
        False, description="Whether the export is quarantined until an operator retries or cancels it"
    )
    inspect: Relative


class HandoffOverdue(ExportMessage):
    """To the operator: the next status or the entry summary is overdue, or goods arrived without a release. Ask the broker."""

    outcome: AtThisMoment = None
    submission_id: str
    partner_id: str
    channel: str
    submission_status: str = Field(description="The submission's current status; the next one is overdue")
    deadline_at: AwareDatetime
    arrives_at: AwareDatetime | None = Field(None, description="When the first goods arrive by the plan, if known")
    arrived: bool = Field(False, description="Whether that time has passed without a release")
    summary: bool = Field(False, description="Whether the entry summary is overdue, after the release of the goods")
    without_bill: list[str] = Field(
        default_factory=list, description="The customs packages that are at customs and match no bill"
    )
    inspect: Relative


class HandoffAnswered(ExportMessage):
    """To the operator: a broker rejects a handoff or asks about it, or customs holds the goods. A person must act."""

    outcome: AtThisMoment = None
    submission_id: str
    partner_id: str
    channel: str
    answer_id: str = Field(description="The customs broker's id of this answer")
    answer_status: str | None = Field(None, description="The status as the customs broker said it, such as seized")
    customs_package_numbers: list[str] = Field(
        default_factory=list, description="The packages that it is about; without them, the whole handoff"
    )
    status: Literal["rejected", "query", "held"] = Field(description="What it asks of a person; see `answerStatus`")
    submission_status: str = Field(
        description="The submission's status after the answer; it differs from `status` if the answer came late"
    )
    reference: str | None
    message: str | None
    fields: list[FieldAnswer]
    inspect: Relative


class EntryProgress(StrictModel):
    """An entry that an answer moved."""

    customs_package_number: str
    headline: str = Field(description="The one word about it, such as filed, released or held; more may be added")
    before: str = Field(description="Its headline before the answer")
    entry_number: str | None
    holds: list[str] = Field(description="Its open holds, at most twenty; a hold without a name is empty")


class EntriesMessage(ExportMessage):
    """What is known of the entries of a handoff after an answer."""

    outcome: AtThisMoment = None
    submission_id: str
    partner_id: str
    at: AwareDatetime = Field(
        description="When the customs broker decided; if it does not say, when the answer arrived, or the withdrawal"
    )
    headlines: dict[str, int] = Field(description="How many entries of the export have each headline")
    summary: str = Field(description="The headlines in words, such as `1 of 2 released, 1 held`")
    inspect: Relative


class EntryProgressed(EntriesMessage):
    """To the operator and the upstream service: an answer moved entries, such as to filed, released or held."""

    answer_id: str = Field(description="The customs broker's id of the answer")
    answer_status: str = Field(description="The status as the customs broker said it")
    reopened: bool = Field(description="Whether the export was settled before, and an entry is open again")
    entries: list[EntryProgress] = Field(
        description="The entries with another headline or entry number, and those that are open again"
    )


class ExportSettled(EntriesMessage):
    """To the operator and the upstream service: each entry is liquidated, cancelled, refused, seized or withdrawn."""

    answer_id: str | None = Field(
        description="The customs broker's id of the answer; null if the handoff was withdrawn before the broker had it"
    )


class ExportCancelled(ExportMessage):
    """To the operator, and to recipients of an earlier revision: the export was cancelled, and no message follows."""

    outcome: AtThisMoment = None
    supersedes: RevisionRef | None = Field(description="The revision that it was to replace, which is no longer valid")
    inspect: Relative


class DeliveryDead(ExportMessage):
    """To the operator: a message could not be delivered. An operator can resend it."""

    outcome: AtThisMoment = None
    delivery_id: str
    notification_id: str
    audience: str
    partner_id: str
    channel: str
    event_type: str
    attempts: int
    reason: str
    resend: Relative


class Rechecked(StrictModel):
    """What a recheck found, and which rules and editions checked the plan now and before."""

    ruleset: str
    ruleset_before: str | None = Field(description="The id of the rules before; null if they cannot be read any more")
    editions: list[str] = Field([], description="Names of the editions of the tariff, agency flags and duty cases")
    editions_before: list[str] | None = Field(None, description="Those before; null if one is not known any more")
    appeared: list[Finding] = Field(description="What is found only now; at most fifty")
    gone: list[Finding] = Field(description="What was found only before; at most fifty")


class ExportRechecked(Rechecked, ExportMessage):
    """To the operator: new rules or editions find something else in the plan of an export that has not crossed."""

    outcome: AtThisMoment = None
    inspect: Relative


class PlanRechecked(Rechecked, OutboxMessage):
    """To the operator: new rules or editions find something else in a registered plan that is not executed yet."""

    named_by = ("plan_id",)
    plan_id: str
    batch_id: str
    test: bool
    plan_hash: str
