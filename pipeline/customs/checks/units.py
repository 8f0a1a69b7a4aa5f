"""Checks of a line's units of quantity, without the tariff: known units, and quantities that agree with one another."""

from collections.abc import Iterator

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.units import unit_rules
from pipeline.customs.tariff.quantity import find_exact_quantity
from pipeline.exports.schemas.plan import Line


def check_units(line: Line, here: str) -> Iterator[Finding]:
    """Yield each unit of quantity that is not known (H02), and each entry quantity that differs from the line's (H04)."""
    rules = unit_rules()
    places = {f"{here}/unit": line.unit}
    places |= {f"{here}/entryQuantities/{place}/unit": each.unit for place, each in enumerate(line.entry_quantities)}
    for pointer, code in places.items():
        if code not in rules.by_code:
            yield rules.warning(
                "H02",
                pointer,
                f"Line {line.line_ref}: {code} is not a known unit of quantity.",
                "Write a unit as the entry does: " + join_words(sorted(rules.by_code)) + ".",
            )
    seen: set[str] = set()
    for place, each in enumerate(line.entry_quantities):
        pointer = f"{here}/entryQuantities/{place}"
        if each.unit in seen:
            yield rules.warning(
                "H04",
                f"{pointer}/unit",
                f"Line {line.line_ref} has two entry quantities in {each.unit}.",
                "Give one quantity for each unit of the tariff number.",
            )
        seen.add(each.unit)
        exact = find_exact_quantity(line, each.unit, rules)
        if exact is not None and not rules.agrees(each.quantity, exact[0]):
            yield rules.warning(
                "H04",
                f"{pointer}/quantity",
                f"Line {line.line_ref}: entry quantity {format_plain(each.quantity)} {each.unit} differs from "
                f"{exact[1]}, which are {format_plain(rules.round_quantity(exact[0]))} {each.unit}.",
                "Correct the entry quantity, the quantity of the line, or its net weight.",
            )
