"""The customs rules: what they decide for a line."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Final, cast, get_args

from fastapi import APIRouter, Query
from pydantic import AfterValidator, WithJsonSchema

from pipeline.core.errors import ValidationFailed
from pipeline.core.field_types import BoundedDay
from pipeline.core.money import to_decimal
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


def _must_match(pattern: str, rule: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Return the check of a text, which says in words what is wrong, and the schema with the pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(rule)
        return text

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


_Code = Annotated[str, *_must_match("[0-9]{10}", "must have all ten digits, without dots, such as 7323930045")]
_Country = Annotated[str, *_must_match("[A-Z]{2}", "must be two capital letters, such as CA")]
_MetalCountry = Annotated[
    str, *_must_match("([A-Z]{2}|OTH)", "must be two capital letters, such as CA, or OTH if it is not known")
]
_Program = Annotated[str, *_must_match(r"[A-Z]{1,2}[+*]?", "must be the code of a special program, such as S or S+")]
_Number = Annotated[str, *_must_match(r"[0-9]{1,12}(\.[0-9]{1,6})?", "must be a number, such as 0.8")]
_Heading = Annotated[str, *_must_match(r"99[0-9]{2}\.[0-9]{2}\.[0-9]{2}", "must be a heading such as 9903.82.09")]
_MetalWeight = Annotated[
    str,
    *_must_match(
        rf"({'|'.join(_METALS)}):[0-9]{{1,12}}(\.[0-9]{{1,6}})?",
        f"must be a metal and its weight, such as steel:0.8; the metals are {', '.join(_METALS)}",
    ),
]


@router.get("/decide", response_model_by_alias=True, responses=LIST_REFUSALS)
def decide_headings(
    runtime: RuntimeDep,
    caller: Reader,
    hts_code: Annotated[_Code, Query(alias="htsCode", description="Ten digits without dots")],
    origin: Annotated[_Country, Query(description="Country of origin, ISO 3166-1 alpha-2")],
    on: Annotated[BoundedDay | None, Query(description="Day of entry; default: today, UTC")] = None,
    spi: Annotated[_Program | None, Query(description="Special program claimed")] = None,
    net_kg: Annotated[_Number | None, Query(alias="netKg", description="Net weight of the line")] = None,
    metal: Annotated[
        list[_MetalWeight],
        Query(max_length=3, description="A metal and its weight in kg, such as steel:0.8; repeat it"),
    ] = [],  # noqa: B006 - never changed
    us_percent: Annotated[
        _Number | None, Query(alias="usPercent", description="Share of the metal that is US metal; only with `metal`")
    ] = None,
    metal_country: Annotated[
        _MetalCountry | None,
        Query(
            alias="metalCountry",
            description="Where the metal was melted and poured, or smelted and cast; OTH: unknown. Only with `metal`",
        ),
    ] = None,
    claim: Annotated[
        list[_Heading], Query(max_length=20, description="A heading that the line carries; repeat it")
    ] = [],  # noqa: B006 - never changed
) -> LineDecision:
    """Return the chapter 99 headings that the active rules decide for a line, with reasons, open questions and sources."""
    share = None if us_percent is None else to_decimal(us_percent)
    if share is not None and share > _HUNDRED:
        raise ValidationFailed(f"{us_percent} is more than 100 percent; give a share from 0 to 100", field="usPercent")
    if not metal and (us_percent or metal_country):
        raise ValidationFailed(
            "usPercent and metalCountry are facts of a metal; add it, as in metal=steel:0.8", field="metal"
        )
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
    steel = name == "steel"
    return MetalFacts(
        metal=cast("Metal", name),
        weight_kg=to_decimal(weight),
        melt_and_pour=country if steel else None,
        smelts=(country,) if country and not steel else (),
        cast=None if steel else country,
        us_percent=us_percent,
    )
