"""Checks of the invoice's charges: which of them count for the entered value, and whether that value is below zero."""

from collections.abc import Iterator

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain, sum_exact
from pipeline.customs.reference.valuation import valuation_rules
from pipeline.customs.valuation.entered_value import list_adjustments, total_adjustment
from pipeline.exports.schemas.plan import Charge, Unit


def check_charges(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield freight that may hold inland freight (V17-FREIGHT), and charges that are not decided or too high (V17-CHARGE)."""
    codes = {charge.code for charge in unit.invoice.charges}
    for place, charge in enumerate(unit.invoice.charges):
        here = f"{pointer}/invoice/charges/{place}"
        if not charge.amount:
            continue
        if charge.code == "freight" and charge.dutiable is None and "inland_freight" not in codes:
            yield _unsplit_freight(unit, charge, here)
        yield from _check_side(unit, charge, here)
    yield from _check_sum(unit, pointer)


def _unsplit_freight(unit: Unit, charge: Charge, here: str) -> Finding:
    rule = valuation_rules().find_charge("inland_freight")
    counted = "deducts" if charge.included_in_prices else "does not count"
    return Finding(
        rule="V17-FREIGHT",
        # Freight in the prices is deducted from them, so a wrong part of it makes the entered value too low.
        severity="warn" if charge.included_in_prices else "note",
        pointer=f"{here}/code",
        message=f"Invoice {unit.invoice.number} does not say which part of its freight is inside the country of export. The "
        f"estimate {counted} the whole amount.",
        remedy="Give the inland part as a charge inland_freight. If there is none, or a through bill of lading covers it, set "
        "dutiable of the freight to false.",
        source=rule.source,
    )


def _check_side(unit: Unit, charge: Charge, here: str) -> Iterator[Finding]:
    rule = valuation_rules().find_charge(charge.code)
    named = charge.name or charge.code
    if charge.dutiable is None and not rule.decided:
        yield rule.warning(
            "V17-CHARGE",
            f"{here}/code",
            f"The rules cannot decide whether a charge of invoice {unit.invoice.number} counts for the entered value: "
            f"{named}. The estimate counts it.",
            f"Set its dutiable: false if {rule.unless}, otherwise true; or give it a code that says what it is for.",
        )
    elif charge.dutiable not in {None, rule.dutiable} and rule.unless is None:
        yield rule.warning(
            "V17-CHARGE",
            f"{here}/dutiable",
            f"The plan says that a charge of invoice {unit.invoice.number} "
            f"{'counts' if charge.dutiable else 'does not count'} for the entered value: {named}. The rules say the opposite.",
            "Correct dutiable or the code of the charge; the estimate follows the rules.",
        )


def _check_sum(unit: Unit, pointer: str) -> Iterator[Finding]:
    invoice = unit.invoice
    adjustment = total_adjustment(tuple(list_adjustments(valuation_rules(), invoice)))
    goods = sum_exact(line.line_value for line in unit.lines)
    if sum_exact((goods, adjustment)) < 0:
        yield Finding.blocking(
            "V17-CHARGE",
            f"{pointer}/invoice/charges",
            f"The goods of invoice {invoice.number} are worth {format_plain(goods)} {invoice.currency}. Its charges and "
            f"discounts lower that by {format_plain(abs(adjustment))}, and the entered value would be below zero.",
            "Correct the amounts, or set includedInPrices to false if the prices do not include the charges.",
            valuation_rules().discount.source,
        )
