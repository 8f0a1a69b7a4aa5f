"""Problem documents: the errors of a request, over HTTP and on queues."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pipeline.core.errors import Refused


class Issue(BaseModel):
    """One invalid field of a request."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="RFC 6901 JSON Pointer into the body")
    message: str
    code: str


class Problem(BaseModel):
    """An RFC 9457 problem document with the members of the flat error envelope; clients branch on `errorCode`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    type: str
    title: str
    status: int
    detail: str
    error_code: str
    message: str
    field: str | None = None
    details: dict[str, Any] | None = None
    request_id: str
    help: str | None = Field(
        None, description="The page with the cause and the remedy of `errorCode`, relative to the API's address"
    )


#: `type` names the problem for ever, also where no page is: on queues, and with the pages turned off.
HELP: Final = "/docs/problems#"


def problem_document(refused: Refused, request_id: str) -> Problem:
    """Return the problem document of an error, for HTTP and for queues."""
    return Problem(
        type=f"urn:exports:problem:{refused.code}",
        title=refused.title,
        status=refused.status,
        detail=refused.message,
        error_code=refused.code,
        message=refused.message,
        field=refused.field,
        details=dict(refused.details) if refused.details is not None else None,
        request_id=request_id,
        help=f"{HELP}{refused.code}",
    )
