"""The delivery log, and sending a delivered or dead message once more."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pipeline import delivery
from pipeline.api.dependencies import LauncherDep, Operator, Reader, RuntimeDep
from pipeline.api.refusals import LOOKING, READING, refusals
from pipeline.execution import Wake
from pipeline.schemas.partners import DeliveryPage, DeliveryView
from pipeline.states import DeliveryState

router = APIRouter(prefix="/api/deliveries", tags=["deliveries"])


@router.get("", response_model=DeliveryPage, responses=READING)
def list_deliveries(
    runtime: RuntimeDep,
    caller: Reader,
    state: Annotated[DeliveryState | None, Query()] = None,
    export_id: Annotated[str | None, Query(alias="exportId", max_length=64)] = None,
    partner_id: Annotated[str | None, Query(alias="partnerId", max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=128, description="`nextCursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeliveryPage:
    """List the account's deliveries, newest first, each with its latest tries."""
    return delivery.listed(
        runtime,
        caller.account_id,
        state=state,
        export_id=export_id,
        partner_id=partner_id,
        after=cursor,
        limit=limit,
    )


@router.get("/{id}", response_model=DeliveryView, responses=LOOKING)
def read_delivery(id: str, runtime: RuntimeDep, caller: Reader) -> DeliveryView:  # noqa: A002 - the contract's name
    """Return one delivery with its latest tries."""
    return delivery.get(runtime, caller.account_id, id)


@router.post("/{id}/resend", status_code=202, response_model=DeliveryView, responses=refusals(404, 409))
def resend_delivery(
    id: str,  # noqa: A002 - the contract's name
    runtime: RuntimeDep,
    launcher: LauncherDep,
    caller: Operator,
) -> DeliveryView:
    """Owe a delivered or dead message once more, with the same id."""
    owed, lane = delivery.resend(runtime, caller.account_id, id, caller.key_id)
    launcher.wake([Wake(lane.export_id, partner_id=lane.partner_id, channel=lane.channel)])
    return owed
