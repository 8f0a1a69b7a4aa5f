"""The customs rules: what they decide for a line."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Final, cast, get_args

from fastapi import APIRouter, Query

from pipeline.core.errors import ValidationFailed
from pipeline.core.field_types import BoundedDay
from pipeline.core.money import ZERO, to_decimal
from pipeline.customs import rulesets
from pipeline.customs.chapter99.facts import LineFacts, MetalFacts
from pipeline.customs.decisions import check_facts, decide_line, find_rate
from pipeline.customs.reference.base import Metal
from pipeline.customs.reference.content import use_rules
from pipeline.customs.rules_reader import watch_rules
from pipeline.customs.schemas import LineDecision
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS

router = APIRouter(prefix="/api/rules", tags=["rules"])

_METALS: Final = get_args(Metal)
_HUNDRED: Final = to_decimal("100")
_NUMBER: Final = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
_HEADING: Final = r"^99[0-9]{2}\.[0-9]{2}\.[0-9]{2}$"


@router.get("/decide", response_model=LineDecision, response_model_by_alias=True, responses=LIST_REFUSALS)
def decide_headings(
    runtime: RuntimeDep,
    caller: Reader,
    hts_code: Annotated[str, Query(alias="htsCode", pattern=r"^[0-9]{10}$", description="Ten digits without dots")],
    origin: Annotated[str, Query(pattern=r"^[A-Z]{2}$", description="Country of origin, ISO 3166-1 alpha-2")],
    on: Annotated[BoundedDay | None, Query(description="Day of entry; default: today, UTC")] = None,
    spi: Annotated[str | None, Query(pattern=r"^[A-Z]{1,2}[+*]?$", description="Special program claimed")] = None,
    net_kg: Annotated[str | None, Query(alias="netKg", pattern=_NUMBER, description="Net weight of the line")] = None,
    metal: Annotated[
        list[str], Query(max_length=3, description="A metal and its weight in kg, such as steel:0.8; repeat it")
    ] = [],  # noqa: B006 - never changed
    us_percent: Annotated[
        str | None, Query(alias="usPercent", pattern=_NUMBER, description="Share of the metal that is US metal")
    ] = None,
    metal_country: Annotated[
        str | None,
        Query(
            alias="metalCountry",
            pattern=r"^([A-Z]{2}|OTH)$",
            description="Where the metal was melted and poured, or smelted and cast; OTH: unknown",
        ),
    ] = None,
    claim: Annotated[
        list[Annotated[str, Query(pattern=_HEADING)]],
        Query(max_length=20, description="A heading that the line carries; repeat it"),
    ] = [],  # noqa: B006 - never changed
) -> LineDecision:
    """Return the chapter 99 headings that the active rules decide for a line, with reasons, open questions and sources."""
    share = None if us_percent is None else to_decimal(us_percent)
    if share is not None and share > _HUNDRED:
        raise ValidationFailed(f"{us_percent} is more than 100 percent; give a share from 0 to 100", field="usPercent")
    facts = LineFacts(
        hts_code=hts_code,
        origin=origin,
        on=on or _today(runtime),
        spi=spi,
        net_kg=None if net_kg is None else to_decimal(net_kg),
        metals=tuple(_parse_metal(text, share, metal_country) for text in metal) or None,
        claimed=frozenset(claim),
    )
    watch_rules(runtime)
    with runtime.db.read() as session:
        rules = rulesets.read_active(session)
        with use_rules(rules):
            check_facts(facts)
            return decide_line(find_rate(session, facts))


def _today(runtime: RuntimeDep) -> date:
    return runtime.clock().date()


def _parse_metal(text: str, us_percent: Decimal | None, country: str | None) -> MetalFacts:
    name, _, weight = text.partition(":")
    try:
        weight_kg = to_decimal(weight)
    except ValueError:
        weight_kg = None
    if name not in _METALS or weight_kg is None or weight_kg < ZERO:
        raise ValidationFailed(
            f"{text!r} is not a metal and its weight; write it as in steel:0.8, with one of {', '.join(_METALS)}",
            field="metal",
        )
    steel = name == "steel"
    return MetalFacts(
        metal=cast("Metal", name),
        weight_kg=weight_kg,
        melt_and_pour=country if steel else None,
        smelts=(country,) if country and not steel else (),
        cast=None if steel else country,
        us_percent=us_percent,
    )
