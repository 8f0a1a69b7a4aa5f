"""The envelope of all messages: a CloudEvent 1.0 in structured JSON, the same bytes on every attempt and channel."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from pipeline.core.trace_context import TRACE_PARENT
from pipeline.exports.schemas.plan import StrictModel

MEDIA_TYPE = "application/cloudevents+json"
#: The content type of a message over HTTP.
CONTENT_TYPE: Final = f"{MEDIA_TYPE}; charset=utf-8"

#: The headers of Standard Webhooks.
SIGNATURE_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


class CloudEventEnvelope(BaseModel):
    """A CloudEvent as we send it. Later versions of CloudEvents may add attributes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="The notification's id, the same on every attempt and channel; use it to detect duplicates"
    )
    type: Annotated[str, StringConstraints(pattern=r"^exports(\.[a-z]+)+\.v[0-9]+$")] = Field(
        description="Ignore unknown types: more may be added"
    )
    source: Annotated[str, StringConstraints(pattern=r"^/accounts/[A-Za-z0-9][A-Za-z0-9_-]*$")]
    subject: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="The export's id; for a connection test, the partner's id"
    )
    time: datetime
    datacontenttype: Literal["application/json"]
    dataschema: str = Field(description="Where the JSON Schema of `data` is published")
    traceparent: Annotated[str, StringConstraints(pattern=TRACE_PARENT)] | SkipJsonSchema[None] = Field(
        None,
        description="W3C Trace Context of the request that created the export, if it had one",
        exclude_if=lambda value: value is None,
    )
    tracestate: Annotated[str, StringConstraints(min_length=1, max_length=512)] | SkipJsonSchema[None] = Field(
        None,
        description="What the tracing systems of that request's sender keep with it",
        exclude_if=lambda value: value is None,
    )
    data: dict[str, Any] = Field(description="The message; `dataschema` describes it")


class OutboxMessage(StrictModel):
    """A message about one export, or about one registered plan."""

    #: The members that identify what it is about. The first one is a column of `notifications`.
    named_by: ClassVar[tuple[str, ...]]

    @property
    def identity(self) -> tuple[str, ...]:
        """The facts that identify what it is about."""
        return tuple(str(getattr(self, name)) for name in self.named_by)

    @property
    def subject_id(self) -> str:
        """The id of the export or the plan."""
        return self.identity[0]

    @property
    def about(self) -> Mapping[str, str]:
        """The column of `notifications` that says what it is about, and its value."""
        return {self.named_by[0]: self.subject_id}


Digest = Annotated[str, Field(description="Digest over the treatment of the whole export, the same on every document")]


class ExportMessage(OutboxMessage):
    """The fields about the export in every message."""

    named_by = ("export_id", "revision")

    export_id: str
    batch_id: str
    revision: int
    test: bool
    plan_hash: str
    treatment_digest: Digest


class CustomsPackageRef(StrictModel):
    """The identifiers of a customs package."""

    unit_ref: str
    customs_package_id: str
    package_number: str


class RevisionRef(StrictModel):
    """A revision. Each revision is an export with its own id."""

    export_id: str
    revision: int
