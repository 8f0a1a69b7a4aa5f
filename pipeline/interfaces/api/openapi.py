"""What the routes say about themselves in the OpenAPI document: who may call, and which refusals answer."""

from typing import Any, Final

from pipeline.core.errors import Refused
from pipeline.core.problems import HELP, Problem, problem_document
from pipeline.deliveries.schemas.cloudevent import SIGNATURE_HEADERS
from pipeline.interfaces.api.errors import MEDIA_TYPE

Security = list[dict[str, list[str]]]

_BY_KEY: Final[dict[str, list[str]]] = {"apiKey": []}
#: All three headers together are one signature.
SIGNATURE: Final[dict[str, list[str]]] = {name: [] for name in SIGNATURE_HEADERS}

#: `openapi_extra` of routes that read a credential of their own, or none.
PUBLIC: Final[dict[str, Security]] = {"security": []}
SIGNED: Final[dict[str, Security]] = {"security": [SIGNATURE]}
SIGNED_OR_BY_KEY: Final[dict[str, Security]] = {"security": [_BY_KEY, SIGNATURE]}
BY_SANDBOX_TOKEN: Final[dict[str, Security]] = {"security": [{"sandboxToken": []}]}

SECURITY_SCHEMES: Final[dict[str, dict[str, str]]] = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: `exp_live_...` or `exp_test_...`."},
    "sandboxToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token by which this installation calls its own sandbox broker.",
    },
    "webhook-id": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-id",
        "description": "The message's id. It is one of the three headers of a signature by Standard Webhooks 1.0.",
    },
    "webhook-timestamp": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-timestamp",
        "description": "When the message was signed, in seconds since 1970.",
    },
    "webhook-signature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "`v1,` and the Base64 of HMAC-SHA256 with the partner's secret over `id.timestamp.body`.",
    },
}

Responses = dict[int | str, dict[str, Any]]

#: Without a schema, client generators leave the answer out.
FILE: Final = {"schema": {"type": "string", "format": "binary"}}
#: A file in the media type of its document. Client generators that do not know a range take the first entry.
ANY_FILE: Final = {"application/octet-stream": FILE, "*/*": FILE}

_CODES_BY_STATUS: Final = {
    400: "INVALID_REQUEST, VALIDATION_ERROR",
    401: "INVALID_API_KEY",
    403: "INVALID_ACCOUNT_SCOPE, INSUFFICIENT_ROLE",
    404: "NOT_FOUND",
    408: "REQUEST_TIMEOUT",
    409: "PLAN_HASH_MISMATCH, EXPORT_ALREADY_EXECUTED, IDEMPOTENCY_IN_PROGRESS, INVALID_STATE",
    410: "ARTIFACT_LOST",
    412: "PRECONDITION_FAILED",
    413: "PAYLOAD_TOO_LARGE",
    422: "IDEMPOTENCY_KEY_REUSED, PLAN_NOT_APPROVED, PLAN_EXPIRED, PLAN_NOT_EXECUTABLE, UNKNOWN_PARTNER, PARTNER_NOT_LIVE, NOT_IN_HANDOFF",
    429: "RATE_LIMITED",
    503: "NOT_READY, BUSY",
}


REFUSALS_BY_CODE: Final[dict[str, type[Refused]]] = {
    Refused.code: Refused,
    **{kind.code: kind for kind in Refused.__subclasses__()},
}


def refusal_responses(*statuses: int) -> Responses:
    """Return the description of these statuses, and of those that every call may answer, for the OpenAPI document.

    Every call rejects unknown parameters with 400. A call with a body has a size limit (413), and so also a time limit
    (408).
    """
    slow = {408} if 413 in statuses else set[int]()
    return {
        status: {
            "description": f"`errorCode` is {_CODES_BY_STATUS[status].replace(', ', ' or ')}",
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{Problem.__name__}"},
                    "examples": {
                        code: {"value": _example_problem(code)} for code in _CODES_BY_STATUS[status].split(", ")
                    },
                }
            },
        }
        for status in sorted({*statuses, *slow, 400, 401, 403, 429, 503})
    }


def _example_problem(code: str) -> dict[str, Any]:
    kind = REFUSALS_BY_CODE[code]
    # The class's own sentence; the message of a real refusal has the facts of its request instead.
    refused = Refused((kind.__doc__ or "").split("\n", 1)[0])
    problem = problem_document(refused, "req_01m883p0kdjh038wy1y8a4at2n").model_dump(by_alias=True, exclude_none=True)
    return problem | {
        "type": f"{HELP}{code}",
        "help": f"{HELP}{code}",
        "title": kind.title,
        "status": kind.status,
        "errorCode": code,
    }


LIST_REFUSALS: Final = refusal_responses(400)
READ_REFUSALS: Final = refusal_responses(404)
CHANGE_REFUSALS: Final = refusal_responses(404, 409, 412)
EXECUTE_REFUSALS: Final = refusal_responses(400, 404, 409, 413, 422)
AMEND_REFUSALS: Final = refusal_responses(400, 404, 409, 412, 413, 422)
