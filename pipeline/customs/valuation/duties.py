"""The duty of column 1 for an entry line: the general rate, or the special rate of the program that the line claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pipeline.core.money import ZERO, divide_exact, format_plain, multiply, round_cents, sum_exact, to_decimal
from pipeline.customs.tariff.deposits import KINDS, DeclaredCase
from pipeline.customs.tariff.facts import KeptRate
from pipeline.customs.tariff.goods import COLUMN_2, format_rated_number
from pipeline.customs.tariff.quantity import sum_quantity
from pipeline.customs.tariff.rates import Rate, parse_rate, parse_special_rates
from pipeline.exports.schemas.entry_estimate import COLUMN_1, DutyRow
from pipeline.exports.schemas.plan import Line

#: The note of a duty whose value is not known in US dollars.
NO_EXCHANGE_RATE: Final = "there is no exchange rate"
_HUNDRED: Final = to_decimal("100")


@dataclass(frozen=True)
class _ChosenRate:
    """The rate that a line takes, which column has it, and why a person must decide, if so."""

    rate: Rate | None
    column: str
    note: str | None = None


def column_1_duty(lines: Sequence[Line], entered: Decimal | None, kept: KeptRate) -> DutyRow:
    """Return the duty of column 1 for the invoice lines of an entry line; `entered` is its entered value in US dollars.

    A rate that cannot be read has no amount, and a note with its text.
    """
    first = lines[0]
    chosen = _choose_rate(first, kept)
    source = f"{chosen.column} of {format_rated_number(first.hts_code, kept)}"
    return price_rate(COLUMN_1, chosen.rate, lines, entered, source, chosen.note)


def _choose_rate(line: Line, kept: KeptRate) -> _ChosenRate:
    if line.country_of_origin in COLUMN_2:
        return _ChosenRate(None, "rate", f"check: goods of {line.country_of_origin} may take column 2")
    general = parse_rate(kept.general)
    if line.spi is None or (general is not None and general.kind == "free"):
        note = None if general is not None else "check: the tariff has no general rate for the number"
        return _ChosenRate(general, "general rate", note)
    for each in parse_special_rates(kept.special or ""):
        if line.spi in each.programs:
            return _ChosenRate(each.rate, f"special rate ({line.spi})", "as claimed")
        if f"{line.spi}*" in each.programs:
            return _ChosenRate(each.rate, f"special rate ({line.spi}*)", "as claimed; some countries are excluded")
    return _ChosenRate(None, "special rate", f"check: the special column does not name {line.spi}")


def deposit_duty(case: DeclaredCase, lines: Sequence[Line], entered: Decimal | None, kept: str | None) -> DutyRow:
    """Return the cash deposit of a declared case by the kept rate, else by the plan's; without an amount if neither is known.

    The filer decides on the scope and on what the rate is taken.
    """
    if lines[0].chapter98 is not None:
        return DutyRow(heading=case.name, rate=None, amount_usd=None, note="check: chapter 98 divides the value")
    rate = parse_rate(kept or case.rate or "")
    kind = KINDS.get((case.number or "")[:1], "deposit")
    note = f"{kind}, as declared" if kept or rate is None else f"{kind}, at the plan's rate"
    if rate is None:
        return DutyRow(heading=case.name, rate=None, amount_usd=None, note=f"check: look the {kind} rate up")
    return price_rate(case.name, rate, lines, entered, "cash deposit rate" if kept else None, note)


def is_on_quantity(text: str) -> bool:
    """Return whether a rate is on a quantity, wholly or in part."""
    rate = parse_rate(text)
    return rate is not None and rate.amount is not None


def price_rate(
    heading: str,
    rate: Rate | None,
    lines: Sequence[Line],
    entered: Decimal | None,
    source: str | None,
    note: str | None,
) -> DutyRow:
    """Return the duty of a rate with its arithmetic; without an amount if the rate or what it is on is not known."""
    text = None if rate is None else rate.text
    if rate is None:
        return DutyRow(heading=heading, rate=None, amount_usd=None, note=note, source=source)
    if rate.kind == "text":
        note = f'check: a person must read the rate "{rate.text}"'
        return DutyRow(heading=heading, rate=text, amount_usd=None, note=note, source=source)
    if entered is None:
        return DutyRow(heading=heading, rate=text, amount_usd=None, note=NO_EXCHANGE_RATE, source=source)
    parts: list[Decimal] = []
    terms: list[str] = []
    if rate.amount is not None:
        quantity = sum_quantity(lines, rate.per or "")
        if quantity is None:
            note = f"check: the plan does not give the quantity in {rate.per}"
            return DutyRow(heading=heading, rate=text, amount_usd=None, note=note, source=source)
        parts.append(multiply(quantity, rate.amount))
        terms.append(f"{format_plain(quantity)} x ${format_plain(rate.amount)}/{rate.per}")
    if rate.percent is not None:
        parts.append(divide_exact(multiply(entered, rate.percent), _HUNDRED))
        terms.append(f"{format_plain(entered)} x {format_plain(rate.percent)} %")
    amount = round_cents(sum_exact(parts)) if parts else ZERO
    arithmetic = f"{' + '.join(terms)} = {format_plain(amount)}" if terms else None
    return DutyRow(heading=heading, rate=text, amount_usd=amount, note=note, arithmetic=arithmetic, source=source)
