"""Divides the entered value of a claim of chapter 98, and finds which duties are on its part with duty."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from pipeline.core.money import divide_exact, format_plain, multiply, round_dollars, sum_exact
from pipeline.customs.reference.chapter98 import chapter98_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.valuation.entered_value import LineValue
from pipeline.exports.schemas.entry_estimate import ValueDivision
from pipeline.exports.schemas.plan import Line

#: The program of the duty of the goods themselves, as the rules name it.
GOODS: Final = "COLUMN_1"


@dataclass(frozen=True)
class DutyBase:
    """What a duty is on: `usd` is the value, None if it is not known; `note` says why it is a part of the entered value."""

    usd: Decimal | None
    note: str | None = None


def divide_value(lines: Sequence[Line], value: LineValue) -> ValueDivision | None:
    """Return the parts of the entered value of an entry line by those of its claims; their sum is the entered value.

    None without a claim, without an exchange rate, or if the parts of the plan are not its line values.
    """
    claims = [line.chapter98 for line in lines if line.chapter98 is not None]
    exempt = sum_exact(claim.exempt_value for claim in claims)
    with_duty = sum_exact(claim.dutiable_value for claim in claims)
    entered = value.entered_usd
    if not claims or entered is None or not value.value or sum_exact((exempt, with_duty)) != value.value:
        return None
    part = round_dollars(multiply(entered, divide_exact(exempt, value.value)))
    rest = sum_exact((entered, part.copy_negate()))
    shown = f"{format_plain(entered)} x {format_plain(exempt)} / {format_plain(value.value)} = {format_plain(part)}"
    return ValueDivision(
        provision=claims[0].provision,
        exempt_value_usd=part,
        dutiable_value_usd=rest,
        arithmetic=f"{shown} without duty, {format_plain(entered)} - {format_plain(part)} = {format_plain(rest)} with duty",
    )


def find_goods_base(division: ValueDivision, on: date) -> DutyBase | None:
    """Return what the duty of column 1 is on; None if no rule says it."""
    return _find_base(division, GOODS, on)


def find_heading_base(division: ValueDivision, heading: str, on: date) -> DutyBase | None:
    """Return what the duty of a heading of chapter 99 is on; None if no rule says it."""
    program = ruleset().find_program(heading)
    return None if program is None else _find_base(division, program.id, on)


def _find_base(division: ValueDivision, program: str, on: date) -> DutyBase | None:
    row = chapter98_rules().find_duty(division.provision, program, on)
    if row is None:
        return None
    said = f"{division.provision} ({row.status}: {row.source})"
    if row.whole:
        full = sum_exact((division.exempt_value_usd, division.dutiable_value_usd))
        return DutyBase(full, f"on the full value in spite of {said}")
    return DutyBase(division.dutiable_value_usd, f"on the value with duty of {said}")
