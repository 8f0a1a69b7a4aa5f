"""The commented plan that `exports plans new` prints: without its comments it is a valid plan without findings."""

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.alias_generators import to_camel

from pipeline.customs.checks.plan import check_plan
from pipeline.exports import packages
from pipeline.exports.schemas.entry_filing import Filing
from pipeline.exports.schemas.parties import ResidentAgent, UltimateConsignee
from pipeline.exports.schemas.plan import Chapter98, EntryPart, Plan, as_json
from pipeline.exports.schemas.transport import CanadianExport, Trip
from pipeline.interfaces.cli.plans import strip_comments

TEMPLATE = Path(__file__).parents[3] / "templates" / "plans" / "plan.jsonc"


#: Fields that the template shows only in a comment: a plan that keeps them by mistake would claim something.
RARE: dict[str, type[Any]] = {
    "chapter98": Chapter98,
    "filing": Filing,
    "part": EntryPart,
    "residentAgent": ResidentAgent,
    "ultimateConsignees": list[UltimateConsignee],
    "trip": Trip,
    "canadianExport": CanadianExport,
}


def read_commented() -> str:
    return TEMPLATE.read_text(encoding="utf-8")


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(strip_comments(read_commented()))
    return loaded


def models(value: object) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        for _, inner in value:
            yield from models(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from models(inner)


def test_plan_template_has_no_finding() -> None:
    plan = Plan.model_validate(document())
    assert check_plan(plan, on=date(2026, 11, 24)) + packages.check_plan(plan) == []


def test_plan_template_shows_every_field() -> None:
    plan = Plan.model_validate(document())
    missing = {name for model in models(plan) for name in set(type(model).model_fields) - model.model_fields_set}
    assert {to_camel(name) for name in missing} == RARE.keys()
    for name, wanted in RARE.items():
        (line,) = re.findall(rf'^ *// "{name}": (.*),$', read_commented(), re.MULTILINE)
        shown = list(models(TypeAdapter(wanted).validate_json(line)))
        assert shown
        assert all(model.model_fields_set == set(type(model).model_fields) for model in shown)
    assert as_json(plan) == document()
