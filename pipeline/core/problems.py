"""Problem documents: the errors of a request, over HTTP and on queues."""

from collections.abc import Mapping
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

    type: str = Field(description="The page with the cause and the remedy, relative to the API's address")
    title: str
    status: int
    detail: str
    error_code: str
    message: str
    field: str | None = Field(None, description="The name of the field, such as `batchId` or `plan.units.0.unitRef`")
    pointer: str | None = Field(None, description="The same field as an RFC 6901 JSON Pointer, such as `/batchId`")
    details: dict[str, Any] | None = Field(
        None, description="Of a VALIDATION_ERROR: `issues`, each with `path`, `pointer`, `message` and `code`"
    )
    request_id: str
    help: str | None = Field(None, description="The same page as `type`")


#: The page of all problems, relative to the API's address: `type` and `help` lead to it. Branch on `errorCode`.
HELP: Final = "/docs/problems#"

#: The first part of pointers that lead to a part of the request outside its body.
_OUTSIDE_THE_BODY: Final = frozenset({"header", "query", "path"})


def problem_document(refused: Refused, request_id: str) -> Problem:
    """Return the problem document of an error, for HTTP and for queues."""
    return Problem(
        type=f"{HELP}{refused.code}",
        title=refused.title,
        status=refused.status,
        detail=refused.message,
        error_code=refused.code,
        message=refused.message,
        request_id=request_id,
        help=f"{HELP}{refused.code}",
        **locate_refusal(refused),
    )


def locate_refusal(refused: Refused) -> dict[str, Any]:
    """Return the members of a problem that say where the fault is: `field`, `pointer` and `details`, if they are known."""
    found: dict[str, Any] = {} if refused.field is None else {"field": format_name(refused.field)}
    if refused.field is not None and _is_pointer(refused.field):
        found["pointer"] = refused.field
    return found if refused.details is None else found | {"details": _name_issues(refused.details)}


def format_name(pointer: str) -> str:
    """Return the name of the field that a JSON Pointer leads to: `/items/0/quantity` is `items.0.quantity`.

    The name of a header or a parameter is its own, without the kind: `/query/limit` is `limit`. Other texts stay unchanged.
    """
    if not pointer.startswith("/"):
        return pointer
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] in _OUTSIDE_THE_BODY else parts)


def _is_pointer(field: str) -> bool:
    return not field or field.startswith("/")


def _name_issues(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details, with the name of the field beside the pointer of each issue."""
    if "issues" not in details:
        return dict(details)
    issues = [{**issue, "path": format_name(issue["path"]), "pointer": issue["path"]} for issue in details["issues"]]
    return {**details, "issues": issues}
