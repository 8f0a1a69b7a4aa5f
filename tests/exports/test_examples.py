"""Tests of the example plans: on every day of use their goods are about to cross the border."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import NotFound
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.plan import check_plan
from pipeline.exports import examples, packages
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.cli.plans import strip_comments

#: The day after the day of the plans, ends of years and of daylight saving, leap days, and the last day of a month.
DAYS = [
    date(2026, 11, 27),
    date(2026, 12, 31),
    date(2027, 1, 31),
    date(2027, 3, 14),
    date(2027, 11, 7),
    date(2027, 11, 27),
    date(2028, 2, 28),
    date(2028, 2, 29),
    date(2028, 12, 31),
]


def plans(today: date) -> dict[str, dict[str, Any]]:
    commented = json.loads(strip_comments(examples.read_text(examples.COMMENTED_PLAN, today)))
    return {name: examples.load_plan(name, today) for name in examples.list_names()} | {"commented": commented}


@pytest.mark.parametrize("today", DAYS, ids=str)
def test_example_plan_is_approved_yesterday_and_entered_from_tomorrow(today: date) -> None:
    for name, made in plans(today).items():
        plan = Plan.model_validate(made)
        assert plan.approval is not None
        assert plan.approval.approved_at.date() == today - timedelta(days=1), name
        for unit in plan.units:
            assert today < unit.entry.export_date <= today + timedelta(days=3), name
            assert today < entry_date(unit) <= today + timedelta(days=3), name
        assert plan.ruleset == Plan.model_validate(plans(DAYS[0])[name]).ruleset, "the plan must keep its ruleset"


@pytest.mark.parametrize("today", DAYS, ids=str)
def test_example_plan_has_no_findings_on_every_day(today: date) -> None:
    for name, made in plans(today).items():
        plan = Plan.model_validate(made)
        assert check_plan(plan, on=today) + packages.check_plan(plan) == [], name


def test_missing_example_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.jsonc cannot be read"):
        examples.read_text(tmp_path / "none.jsonc", DAYS[0])
