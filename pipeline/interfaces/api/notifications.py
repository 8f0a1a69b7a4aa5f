"""One message over all of its channels."""

from __future__ import annotations

from fastapi import APIRouter

from pipeline.deliveries import traces
from pipeline.deliveries.schemas.tracing import NotificationTrace
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep
from pipeline.interfaces.api.refusals import LOOKING

router = APIRouter(prefix="/api/notifications", tags=["deliveries"])


@router.get("/{id}", response_model=NotificationTrace, responses=LOOKING)
def trace(id: str, runtime: RuntimeDep, caller: Reader) -> NotificationTrace:  # noqa: A002 - the contract's name
    """Return what became of a message by its CloudEvent id: each delivery, each try, and what came back."""
    return traces.read(runtime, caller.account_id, id)
