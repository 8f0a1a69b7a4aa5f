"""Which refusals a call may answer with, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from pipeline.core.errors import Refused
from pipeline.core.problems import Problem, problem_of
from pipeline.interfaces.api.errors import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]

_CODES: Final = {
    400: "INVALID_REQUEST, VALIDATION_ERROR",
    401: "INVALID_API_KEY",
    403: "INVALID_ACCOUNT_SCOPE, INSUFFICIENT_ROLE",
    404: "NOT_FOUND",
    408: "REQUEST_TIMEOUT",
    409: "PLAN_HASH_MISMATCH, EXPORT_ALREADY_EXECUTED, IDEMPOTENCY_IN_PROGRESS, INVALID_STATE",
    412: "PRECONDITION_FAILED",
    413: "PAYLOAD_TOO_LARGE",
    422: "IDEMPOTENCY_KEY_REUSED, PLAN_NOT_APPROVED, PLAN_EXPIRED, PLAN_NOT_EXECUTABLE, UNKNOWN_PARTNER, PARTNER_NOT_LIVE",
    429: "RATE_LIMITED",
    503: "NOT_READY",
}


_REFUSED: Final[dict[str, type[Refused]]] = {
    Refused.code: Refused,
    **{kind.code: kind for kind in Refused.__subclasses__()},
}


def refusals(*statuses: int) -> Responses:
    """Return what the OpenAPI document says of these statuses, and of those that every call may answer.

    Each refuses parameters that it does not know.
    A call that has a body, and so a largest one, has also one that is too slow.
    """
    slow = {408} if 413 in statuses else set[int]()
    return {
        status: {
            "description": f"`errorCode` is {_CODES[status].replace(', ', ' or ')}",
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{Problem.__name__}"},
                    "examples": {code: {"value": _told(code)} for code in _CODES[status].split(", ")},
                }
            },
        }
        for status in sorted({*statuses, *slow, 400, 401, 403, 429, 503})
    }


def _told(code: str) -> dict[str, Any]:
    kind = _REFUSED[code]
    # The class's own sentence: a refusal's message has the facts of its request in place of it.
    refused = Refused((kind.__doc__ or "").split("\n", 1)[0])
    problem = problem_of(refused, "req_01m883p0kdjh038wy1y8a4at2n").model_dump(by_alias=True, exclude_none=True)
    return problem | {
        "type": f"urn:exports:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "errorCode": code,
    }


READING: Final = refusals(400)
LOOKING: Final = refusals(404)
CHANGING: Final = refusals(404, 409, 412)
ACCEPTING: Final = refusals(400, 404, 409, 413, 422)
AMENDING: Final = refusals(400, 404, 409, 412, 413, 422)
