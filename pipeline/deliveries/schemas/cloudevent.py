"""The envelope of every message: a CloudEvent 1.0 in structured JSON, the same bytes on every try and every channel."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

MEDIA_TYPE = "application/cloudevents+json"

#: What Standard Webhooks sends beside the body.
SIGNATURE_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")

_TRACE_PARENT: Final = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


def parse_trace_parent(given: object) -> str | None:
    """Return the W3C Trace Context that a caller gave, by whichever way, or None: what is none is left aside, as it asks."""
    return given if isinstance(given, str) and re.fullmatch(_TRACE_PARENT, given) else None


class CloudEventEnvelope(BaseModel):
    """A CloudEvent as we send it; attributes of later versions of CloudEvents may stand beside these."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="The notification's id, the same on every try and on every channel: dedupe by it"
    )
    type: Annotated[str, StringConstraints(pattern=r"^exports(\.[a-z]+)+\.v[0-9]+$")] = Field(
        description="Leave alone what you do not know: there may be more types in time"
    )
    source: Annotated[str, StringConstraints(pattern=r"^/accounts/[A-Za-z0-9][A-Za-z0-9_-]*$")]
    subject: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="The export's id; of a connection test, the partner's"
    )
    time: datetime
    datacontenttype: Literal["application/json"]
    dataschema: str = Field(description="Where the JSON Schema of `data` is published")
    traceparent: Annotated[str, StringConstraints(pattern=_TRACE_PARENT)] | SkipJsonSchema[None] = Field(
        None,
        description="W3C Trace Context of the request that began the export, where it had one",
        exclude_if=lambda value: value is None,
    )
    data: dict[str, Any] = Field(description="What is said; `dataschema` describes it")
