"""The OpenAPI document: what FastAPI knows of the routes, and the bodies that we read ourselves."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pipeline.schemas.execution import ExecuteRequest
from pipeline.schemas.messages import AcknowledgementBody
from pipeline.schemas.partners import NewPartner, PartnerChanges, SecretRotation
from pipeline.schemas.plan import Plan
from pipeline.schemas.problems import Problem
from pipeline.schemas.replays import ReplayRequest
from pipeline.schemas.waivers import NewWaiver

#: Read by our own hands, and so unknown to FastAPI.
_BODIES: Final[tuple[type[BaseModel], ...]] = (
    ExecuteRequest,
    Plan,
    NewPartner,
    PartnerChanges,
    SecretRotation,
    NewWaiver,
    AcknowledgementBody,
    ReplayRequest,
    Problem,
)

_ABOUT: Final = """\
Executes approved export plans: package records, customs treatment, importable invoices, the handoff to the customs
broker, and messages to brokers, warehouses and operators. It files no entry.

Clients branch on `errorCode`; every refusal says its remedy. Decimals are strings.
"""


def add_contract(app: FastAPI) -> None:
    """Have /openapi.json tell of everything."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            _, definitions = models_json_schema(
                [(model, "validation") for model in _BODIES], ref_template="#/components/schemas/{model}"
            )
            for name, schema in definitions["$defs"].items():
                schemas.setdefault(name, schema)
            # FastAPI's own shape of errors, which nothing here answers with.
            for operation in _operations(made):
                answer = operation["responses"].get("422", {})
                if "HTTPValidationError" in str(answer):
                    del operation["responses"]["422"]
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]
