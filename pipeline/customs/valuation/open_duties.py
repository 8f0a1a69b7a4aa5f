"""The duties of an entry line whose heading no text names yet: rates in percent, and price floors as arithmetic."""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

from pipeline.core.money import EXACT, ZERO, format_plain, multiply, round_cents, take_percent
from pipeline.customs.reference.chapter99 import TOTAL_WITH_COLUMN_1
from pipeline.customs.reference.rows import OpenDuty, PriceFloor
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.tariff.quantity import sum_quantity
from pipeline.customs.valuation.duties import NO_EXCHANGE_RATE
from pipeline.exports.schemas.entry_estimate import DutyRow
from pipeline.exports.schemas.plan import Line


def find_open_duties(line: Line, on: date) -> tuple[OpenDuty, ...]:
    """Return the duties without a heading that the line takes on the day."""
    return ruleset().find_open_duties(line.hts_code, line.country_of_origin, on)


def price_open_duties(lines: Sequence[Line], entered: Decimal | None, on: date) -> Iterator[DutyRow]:
    """Yield a row for each duty without a heading of an entry line; `entered` is its entered value in US dollars.

    A price floor has no amount, because only the importer's document decides it: its note has both amounts. Nor has a duty of a
    line that divides its value, or that carries a heading which the rules do not know: it may be this one.
    """
    first = lines[0]
    unknown = ruleset().list_unknown(row.heading for row in first.treatment.chapter99)
    for duty in find_open_duties(first, on):
        amount, note = None, "check: its heading is open"
        if unknown:
            note = f"check: {unknown[0]} on the line may be its heading"
        elif first.chapter98 is not None:
            note = "check: chapter 98 divides the value"
        elif entered is None:
            note = NO_EXCHANGE_RATE
        elif duty.floor is not None:
            note = _describe_floor(duty.floor, lines, entered)
        else:
            amount = take_percent(entered, duty.rate_percent or ZERO)
            note += ", and it includes column 1" if duty.basis == TOTAL_WITH_COLUMN_1 else ""
        yield DutyRow(heading=duty.program, rate=duty.rate, amount_usd=amount, note=note)


def _describe_floor(floor: PriceFloor, lines: Sequence[Line], entered: Decimal) -> str:
    quantity = sum_quantity(lines, floor.per)
    if quantity is None:
        return f"check: the plan does not give the quantity in {floor.per}"
    whole = round_cents(multiply(quantity, floor.amount))
    lacking = max(EXACT.subtract(whole, entered), ZERO)
    terms = f"{format_plain(quantity)} x ${format_plain(floor.amount)}/{floor.per} = {format_plain(whole)}"
    rest = f"{format_plain(whole)} - {format_plain(entered)} = {format_plain(lacking)}" if lacking else "0.00"
    return f"check: {terms} without the importer's document at entry, {rest} with it"
