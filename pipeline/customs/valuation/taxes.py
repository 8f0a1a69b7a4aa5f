"""The internal revenue taxes of an entry: on alcohol and tobacco, by the rules and by the footnotes of the tariff."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from pipeline.core.money import ONE, divide_exact, format_plain, multiply, round_cents
from pipeline.customs.reference.units import unit_rules
from pipeline.customs.reference.valuation import ExciseTax, ValuationRules
from pipeline.customs.tariff.facts import KeptRate
from pipeline.customs.tariff.quantity import sum_exact_quantity
from pipeline.exports.schemas.entry_estimate import TaxRow
from pipeline.exports.schemas.plan import Line


def list_taxes(
    rules: ValuationRules,
    entry_type: str,
    on: date,
    entries: Sequence[Sequence[Line]],
    rates: Mapping[tuple[str, str | None], KeptRate | None],
) -> Iterator[TaxRow]:
    """Yield the tax on each entry line that has one, entered on the day; `entries` holds the invoice lines of each.

    `rates` has what an edition says of the numbers: a tax that its footnote names counts without a row of the rules.
    """
    if entry_type in rules.untaxed_entry_types:
        return
    for number, lines in enumerate(entries, start=1):
        row = rules.find_tax(lines[0].hts_code, on)
        kept = rates.get((lines[0].hts_code, lines[0].spi))
        if row is not None and row.taxed:
            yield _price(row, number, lines)
        elif kept is not None and kept.tax is not None:
            yield TaxRow(
                line=number,
                section=kept.tax,
                name="goods",
                rate=None,
                amount_usd=None,
                arithmetic=None,
                text=f"the tax on the goods of line {number}: look the rate up in {kept.tax}",
                source="the footnote of the tariff",
                status="probable",
            )


def _price(row: ExciseTax, number: int, lines: Sequence[Line]) -> TaxRow:
    """Return the tax, without an amount if the rate or the quantity is not known, or if chapter 98 is claimed."""
    amount, arithmetic, text = None, None, None
    named = f"the tax on {row.name} ({row.section}) of line {number}"
    rate = None if row.dollars is None else f"${format_plain(row.dollars)} {row.words}"
    if lines[0].chapter98 is not None:
        text = f"{named}: check what it is on under chapter 98"
    elif row.dollars is None or row.unit is None:
        text = f"{named}: look the rate up"
    elif (quantity := sum_exact_quantity(lines, row.unit)) is None:
        unit = unit_rules().by_code[row.unit]
        text = f"{named}: the plan does not give the quantity in {unit.code} ({unit.names[0]})"
    else:
        amount = round_cents(divide_exact(multiply(quantity, row.dollars), row.each))
        per = f"{format_plain(row.each)} {row.unit}" if row.each != ONE else row.unit
        arithmetic = (
            f"{format_plain(unit_rules().round_quantity(quantity))} {row.unit} x ${format_plain(row.dollars)} / {per}"
        )
        arithmetic += f" = {format_plain(amount)}"
    return TaxRow(
        line=number,
        section=row.section,
        name=row.name,
        rate=rate,
        amount_usd=amount,
        arithmetic=arithmetic,
        text=text,
        source=row.source,
        status=row.status,
    )
