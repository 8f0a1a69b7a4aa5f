"""Whether the service lives, is ready, and what it counts; and the JSON Schemas of what is said to it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.responses import Response

from pipeline import readiness
from pipeline.api.dependencies import Reader, RuntimeDep
from pipeline.api.refusals import refusals
from pipeline.errors import NotFound, NotReady
from pipeline.schemas.execution import ExecuteRequest, ExportView, View
from pipeline.schemas.files import FileManifest
from pipeline.schemas.invoice import Invoice
from pipeline.schemas.messages import (
    CONNECTION_TEST,
    MESSAGES,
    AcknowledgementBody,
    ConnectionTested,
    HandoffAnswer,
    HandoffStatus,
    SentAcknowledgement,
)
from pipeline.schemas.plan import Plan
from pipeline.schemas.problems import Problem
from pipeline.schemas.profiles import BrokerProfile

router = APIRouter(tags=["system"])

SCHEMAS: Final[dict[str, type[BaseModel]]] = {
    "plan": Plan,
    "execute-request": ExecuteRequest,
    "export": ExportView,
    "problem": Problem,
    "acknowledgement": AcknowledgementBody,
    "sent-acknowledgement": SentAcknowledgement,
    "broker-profile": BrokerProfile,
    "handoff-answer": HandoffAnswer,
    "handoff-status": HandoffStatus,
    "file-manifest": FileManifest,
    "commercial-customs-invoice": Invoice,
    # The `dataschema` of each CloudEvent, by its type.
    **{message_type.value: model for message_type, model in MESSAGES.items()},
    CONNECTION_TEST: ConnectionTested,
}


class PartView(View):
    """One part of the service and how it is."""

    name: str
    status: Literal["ok", "failing"]
    message: str


class Health(View):
    """How the service is, part by part."""

    status: Literal["ok", "degraded"]
    version: str
    parts: list[PartView]


@router.get("/livez", include_in_schema=False)
async def alive() -> dict[str, str]:
    """Answer: the process takes requests."""
    return {"status": "ok"}


@router.get("/readyz", responses=refusals())
def ready(runtime: RuntimeDep) -> dict[str, str]:
    """Answer whether work put here now is done: 503 names the part that fails."""
    failing = [part for part in readiness.parts(runtime) if not part.ok]
    if failing:
        raise NotReady(
            "; ".join(f"{part.name}: {part.message}" for part in failing),
            details={"parts": [{"name": part.name, "message": part.message} for part in failing]},
            headers={"Retry-After": "5"},
        )
    return {"status": "ok"}


@router.get("/api/system/health", response_model=Health, responses=refusals())
def health(runtime: RuntimeDep, _: Reader) -> Health:
    """Tell how every part of the service is."""
    parts = readiness.parts(runtime)
    return Health(
        status="ok" if all(part.ok for part in parts) else "degraded",
        version=version("exports"),
        parts=[PartView(name=p.name, status="ok" if p.ok else "failing", message=p.message) for p in parts],
    )


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Return what is counted, for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/api/schemas/{name}.json", responses={404: refusals(404)[404]})
def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a document, for its senders and readers."""
    model = SCHEMAS.get(name)
    if model is None:
        raise NotFound(f"there is no schema {name}; there are {', '.join(SCHEMAS)}")
    mode: Literal["validation", "serialization"] = (
        "serialization" if issubclass(model, View | Invoice) else "validation"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(by_alias=True, mode=mode),
    }
