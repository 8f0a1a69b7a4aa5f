"""The tariff by day: one number with its units of quantity and rates."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from pipeline.core.field_types import BoundedDay
from pipeline.customs.schemas import TariffNumberView
from pipeline.customs.tariff.queries import parse_number, show_number
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep
from pipeline.interfaces.api.openapi import refusal_responses

router = APIRouter(prefix="/api/tariff", tags=["tariff"])


@router.get("/{number}", responses=refusal_responses(400, 404))
def read_number(
    number: Annotated[
        str,
        Path(
            description="4, 6, 8 or 10 digits, with or without points",
            json_schema_extra={"pattern": r"^[0-9]{4}(\.?[0-9]{2}){0,3}$"},
        ),
    ],
    runtime: RuntimeDep,
    caller: Reader,
    on: Annotated[BoundedDay | None, Query(description="Day of entry; by default today in UTC")] = None,
) -> TariffNumberView:
    """Return a number of the tariff as it is on a day, from the edition that the operator imported.

    All accounts read the same editions.
    """
    digits = parse_number(number)
    with runtime.db.read() as session:
        return show_number(session, digits, on or runtime.clock().date())
