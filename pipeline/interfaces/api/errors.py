"""Errors as RFC 9457 problem documents: one format for every rejected, unavailable or failed request."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from pipeline.core.deadline import ServiceBusy
from pipeline.core.errors import (
    ArtifactConflict,
    ArtifactLost,
    Busy,
    DatabaseBusy,
    DocumentMissing,
    InvalidRequest,
    NotFound,
    NotReady,
    PayloadTooLarge,
    Refused,
    Retryable,
    RulesUnreadable,
    SecretUnreadable,
    StoreUnavailable,
)
from pipeline.core.json_input import error_phrase, json_pointer, validation_failed
from pipeline.core.problems import Issue, problem_document

log = structlog.get_logger(__name__)

#: The scope's member with the refusal that the answer describes; None if the answer is none for want of authority.
REFUSED: Final = "exports.refused"

MEDIA_TYPE = "application/problem+json"

#: Where people look at pages.
_PAGES: Final = ("/console", "/portal")


class MethodNotAllowed(Refused):
    """The address exists, but does not take the method."""

    code, status, title = "METHOD_NOT_ALLOWED", 405, "The method is not allowed"


class ForeignObject(NotFound):
    """What the request names belongs to another account; the answer does not say so."""


class InternalError(Refused):
    """A defect of the service; the log has it under the request's id."""

    code, status, title = "INTERNAL_ERROR", 500, "Something went wrong on our side"


def get_request_id(scope: Scope) -> str:
    """Return the id of the request; the outermost middleware sets it."""
    return str(scope.get("exports.request_id", ""))


def problem_response(scope: Scope, refused: Refused) -> Response:
    """Return the response that describes `refused`: a page for a browser that opens a page, else a problem document."""
    scope[REFUSED] = refused
    if scope["path"].startswith(_PAGES) and "text/html" in Headers(scope=scope).get("accept", ""):
        page: Response = scope["app"].state.show_refusal(refused, get_request_id(scope))
        page.headers.update(refused.headers)
        return page
    return Response(
        problem_document(refused, get_request_id(scope)).model_dump_json(by_alias=True, exclude_none=True),
        refused.status,
        headers={"Cache-Control": "no-store", **refused.headers},
        media_type=MEDIA_TYPE,
    )


_CANNOT_DECRYPT: Final = (
    "a partner secret cannot be decrypted with the configured keys; try again later, or ask the operator, who finds more"
    " in the service log"
)


def internal_error() -> InternalError:
    """Return the error for a defect of the service; it gives no details."""
    return InternalError(
        "the request failed in the service; try again, and report the id of the request if it fails again"
    )


def build_busy(why: str, **headers: str) -> Busy:
    """Return the refusal of a request for which this process has no room."""
    return Busy(f"{why}; try again in 1 s", headers={"Retry-After": "1", **headers})


def to_refusal(error: Exception) -> Refused:
    """Return the refusal that stands for an exception of a library or of ours."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestValidationError):
        return validation_failed([_to_issue(each) for each in error.errors()])
    if isinstance(error, HTTPException):
        return _from_http_exception(error)
    if isinstance(error, RulesUnreadable):
        return NotReady(f"{error}; try again in 10 s", headers={"Retry-After": "10"})
    if isinstance(error, DocumentMissing | ArtifactConflict):
        return ArtifactLost(f"{error}; ask the operator to run `exports artifacts check`, which says how to restore it")
    if isinstance(error, ServiceBusy):
        return build_busy("the service is busy with other requests")
    if isinstance(error, Retryable):
        part = {DatabaseBusy: "the database", StoreUnavailable: "the artifact store"}.get(
            type(error), "a part of the service"
        )
        return NotReady(f"{part} does not respond; try again in 2 s", headers={"Retry-After": "2"})
    if isinstance(error, SecretUnreadable):
        return NotReady(_CANNOT_DECRYPT, headers={"Retry-After": "60"})
    return internal_error()


def add_problem_handlers(app: FastAPI) -> None:
    """Register handlers that turn every expected exception into a problem document; the outermost middleware catches others."""

    async def answer(request: Request, error: Exception) -> Response:
        refused = to_refusal(error)
        if refused.status == 405 or (refused.status == 404 and _is_reserved_path(request)):
            refused = _method_not_allowed(request)
        elif isinstance(error, HTTPException) and refused.status == 404 and _has_trailing_slash(request.url.path):
            refused = NotFound("there is nothing at this address; write it without the slash at its end")
        if isinstance(refused, ArtifactLost):
            log.error("artifact_lost", reason=str(error))
        if refused.status >= 500:
            log.warning("request_unavailable", error=type(error).__name__, reason=str(error))
        return problem_response(request.scope, refused)

    for kind in (Refused, Retryable, ArtifactConflict, SecretUnreadable, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


def _has_trailing_slash(path: str) -> bool:
    return path.endswith("/") and path != "/"


def _is_reserved_path(request: Request) -> bool:
    """Return whether the address is a reserved name, such as plans, that was looked up as an id."""
    operations = request.app.openapi()["paths"].get(request.url.path)
    return operations is not None and request.method.lower() not in operations


def _method_not_allowed(request: Request) -> MethodNotAllowed:
    # Each method of an address is a route of its own, and the framework names only the methods of the first.
    # A reserved address, such as plans, also matches the route of an export's id: only its own methods count.
    operations = request.app.openapi()["paths"].get(request.url.path)
    allowed = ", ".join(
        method
        for method in ("DELETE", "GET", "PATCH", "POST")
        if (
            method.lower() in operations
            if operations is not None
            else any(
                route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes
            )
        )
    )
    return MethodNotAllowed(f"this address takes {allowed}", headers={"Allow": allowed})


def _from_http_exception(error: HTTPException) -> Refused:
    headers: Mapping[str, str] = error.headers or {}
    if error.status_code == 404:
        return NotFound("there is nothing at this address; /docs lists the calls")
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        return MethodNotAllowed(f"this address takes {allowed}", headers=headers)
    if error.status_code == 413:
        return PayloadTooLarge("the body is too large", headers={"Connection": "close"})
    if error.status_code < 500:
        return InvalidRequest(str(error.detail), headers=headers)
    return internal_error()


def _to_issue(each: Any) -> Issue:  # FastAPI's errors have no fixed type
    location, *path_parts = each["loc"]
    inside = path_parts if location == "body" else [location, *path_parts]
    message = "is required; add it" if each["type"] == "missing" else error_phrase(str(each["msg"]))
    return Issue(path=json_pointer(inside), message=message, code=str(each["type"]))
