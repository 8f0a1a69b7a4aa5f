"""Quantities in the units of the tariff: those that the plan gives, and those that follow exactly from it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from pipeline.core.money import format_plain, sum_exact
from pipeline.customs.reference.units import UnitRules, unit_rules
from pipeline.exports.schemas.plan import Line

#: How the unit table names what the tariff calls `each`.
_EACH: Final = "number"


def find_exact_quantity(line: Line, code: str, rules: UnitRules) -> tuple[Decimal, str] | None:
    """Return the line's quantity in a unit, and in words where it comes from; None if no conversion is exact."""
    converted = rules.convert(line.quantity, line.unit, code)
    if converted is not None:
        return converted, f"{format_plain(line.quantity)} {line.unit}"
    weight = rules.convert(line.net_weight_kg, rules.net_weight, code)
    return None if weight is None else (weight, f"{format_plain(line.net_weight_kg)} kg net")


def sum_quantity(lines: Sequence[Line], name: str) -> Decimal | None:
    """Return the quantity of an entry line in the unit that a rate names, such as `doz.`, rounded as an entry states it.

    None if the unit is not known, or if a line does not give the quantity.
    """
    rules = unit_rules()
    unit = rules.find_unit(_EACH if name == "each" else name)
    if unit is None:
        return None
    quantity = sum_exact_quantity(lines, unit.code)
    return None if quantity is None else rules.round_quantity(quantity)


def sum_exact_quantity(lines: Sequence[Line], code: str) -> Decimal | None:
    """Return the quantity of an entry line in the unit of a code; None if a line does not give it."""
    rules = unit_rules()
    known = [quantity for line in lines if (quantity := _find_entry_quantity(line, code, rules)) is not None]
    return sum_exact(known) if len(known) == len(lines) else None


def _find_entry_quantity(line: Line, code: str, rules: UnitRules) -> Decimal | None:
    for each in line.entry_quantities:
        converted = rules.convert(each.quantity, each.unit, code)
        if converted is not None:
            return converted
    exact = find_exact_quantity(line, code, rules)
    return None if exact is None else exact[0]
