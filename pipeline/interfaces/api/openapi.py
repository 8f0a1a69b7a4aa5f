"""The OpenAPI document: FastAPI's description of the routes, and the bodies that our code reads itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pipeline.core.errors import Refused
from pipeline.core.problems import Problem, problem_document
from pipeline.interfaces.api.dependencies import roles_of
from pipeline.interfaces.api.errors import MEDIA_TYPE
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED

_DESCRIPTION: Final = """\
Executes approved export plans: package records, customs treatment, importable invoices, the handoff to the customs
broker, and messages to brokers, warehouses and operators. It files no entry.

Clients branch on `errorCode`; every error message says what to do. Decimals are strings.
"""


#: The documents of this process by the ids of the routers that they describe; making one takes a third of a second.
_DOCUMENTS: Final[dict[tuple[int, ...], dict[str, Any]]] = {}


def add_contract(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Add the complete document as /openapi.json; `x-roles` names the roles of keys that may make a call."""

    def document() -> dict[str, Any]:
        # Routers compare by their routes and have no hash; they live as long as the process.
        key = tuple(map(id, routers))
        if key not in _DOCUMENTS:
            _DOCUMENTS[key] = _build_document(app, routers)
        return _DOCUMENTS[key]

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _build_document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    openapi = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    # Our code reads the bodies, so FastAPI does not know them.
    models: list[type[BaseModel]] = [Problem]
    models += [each.model for each in PUBLISHED.values() if not each.outbound]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    # FastAPI's own error format; no route answers with it.
    for operation in _operations(openapi):
        answer = operation["responses"].get("422", {})
        if "HTTPValidationError" in str(answer):
            del operation["responses"]["422"]
        _add_examples(operation)
    _add_roles(openapi, routers)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return openapi


_SCHEMA_NAMES: Final = {published.model.__name__: name for name, published in PUBLISHED.items()}


def _add_examples(operation: dict[str, Any]) -> None:
    """Add the published example to each JSON body and answer."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        content = part.get("content", {}).get("application/json", {})
        name = _SCHEMA_NAMES.get(content.get("schema", {}).get("$ref", "").rpartition("/")[2])
        if name is not None:
            content["examples"] = {name: {"value": read_example(name)}}


def _add_roles(document: dict[str, Any], routers: Sequence[APIRouter]) -> None:
    for router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute) or not route.include_in_schema:
                continue
            role_sets = [roles_of(each.call) for each in _iterate_dependencies(route.dependant)]
            roles = next((each for each in role_sets if each is not None), None)
            for method in route.methods or ():
                operation = document["paths"][route.path][method.lower()]
                # Empty if the route reads a credential of its own or needs none.
                operation.setdefault("x-roles", list(roles or ()))


def _iterate_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _iterate_dependencies(each)


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


Responses = dict[int | str, dict[str, Any]]

_CODES_BY_STATUS: Final = {
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


_REFUSALS_BY_CODE: Final[dict[str, type[Refused]]] = {
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
    kind = _REFUSALS_BY_CODE[code]
    # The class's own sentence; the message of a real refusal has the facts of its request instead.
    refused = Refused((kind.__doc__ or "").split("\n", 1)[0])
    problem = problem_document(refused, "req_01m883p0kdjh038wy1y8a4at2n").model_dump(by_alias=True, exclude_none=True)
    return problem | {
        "type": f"urn:exports:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "errorCode": code,
    }


LIST_REFUSALS: Final = refusal_responses(400)
READ_REFUSALS: Final = refusal_responses(404)
CHANGE_REFUSALS: Final = refusal_responses(404, 409, 412)
EXECUTE_REFUSALS: Final = refusal_responses(400, 404, 409, 413, 422)
AMEND_REFUSALS: Final = refusal_responses(400, 404, 409, 412, 413, 422)
