"""Liveness, readiness, health and metrics, the key of a request, and the published contracts."""

from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from pipeline.accounts.schemas import OwnKey
from pipeline.accounts.service import describe_own_key
from pipeline.core.errors import NotFound, NotReady
from pipeline.interfaces.api.dependencies import KeyHolder, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import PUBLIC, refusal_responses
from pipeline.interfaces.api.single_flight import SingleFlight
from pipeline.interfaces.contracts import asyncapi
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from pipeline.ops import readiness
from pipeline.ops.readiness import ServicePart
from pipeline.ops.schemas import Health, PartView

#: How long `/readyz`, which needs no key, may answer from its cache.
READY_SECONDS: Final = 1.0

router = APIRouter(tags=["system"])
contract_router = APIRouter(tags=["system"])


@router.get("/livez", include_in_schema=False)
async def read_liveness() -> dict[str, str]:
    """Answer that the process takes requests."""
    return {"status": "ok"}


@router.get("/readyz", responses={status: refusal_responses()[status] for status in (400, 503)}, openapi_extra=PUBLIC)
def read_readiness(request: Request) -> dict[str, str]:
    """Answer whether the service makes progress on due work, and how old the rules are; 503 names the part that fails."""
    flight: SingleFlight[list[ServicePart]] = request.app.state.parts
    parts = flight.get()
    failing = [part for part in parts if not part.ok]
    if failing:
        raise NotReady(
            "; ".join(f"{part.name}: {part.message}" for part in failing),
            details={
                "parts": [{"name": part.name, "message": part.message, "runbook": part.runbook} for part in failing]
            },
            headers={"Retry-After": "5"},
        )
    return {"status": "ok", **{part.name: part.message for part in parts if part.name == "rules"}}


@router.get("/api/system/health", responses=refusal_responses())
def read_health(runtime: RuntimeDep, _: Reader) -> Health:
    """Return the state of every part of the service."""
    parts = readiness.check_parts(runtime)
    return Health(
        status="ok" if all(part.ok for part in parts) else "degraded",
        version=version("exports"),
        parts=[
            PartView(
                name=part.name,
                status="ok" if part.ok else "failing",
                message=part.message,
                runbook=None if part.ok else part.runbook,
            )
            for part in parts
        ],
    )


@router.get("/api/key", responses=refusal_responses())
def read_own_key(runtime: RuntimeDep, caller: KeyHolder) -> OwnKey:
    """Return what the key of the request may do, and until when; any key may ask."""
    return describe_own_key(runtime, caller)


@router.get("/metrics", include_in_schema=False)
def read_metrics(request: Request) -> Response:
    """Return the metrics in the Prometheus format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/api/schemas/{name}.json",
    responses={status: refusal_responses(404)[status] for status in (400, 404)},
    openapi_extra=PUBLIC,
)
def read_json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a published document."""
    if name not in PUBLISHED:
        raise NotFound(f"there is no schema {name}; use one of {', '.join(PUBLISHED)}")
    return build_json_schema(name)


@contract_router.get("/asyncapi.json", responses={400: refusal_responses()[400]}, openapi_extra=PUBLIC)
def read_async_api() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: every queue, webhook and message, in and out."""
    return asyncapi.build_document(version("exports"))
