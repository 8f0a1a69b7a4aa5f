"""Builds the estimate of an entry: entered values by entry line, duties by heading, fees, and the bond."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pipeline.core.money import (
    ONE,
    ZERO,
    divide_exact,
    format_plain,
    multiply,
    round_cents,
    sum_exact,
    sum_known,
    take_percent,
)
from pipeline.customs.reference.base import combine_evidence
from pipeline.customs.reference.chapter98 import chapter98_rules
from pipeline.customs.reference.chapter99 import TOTAL_WITH_COLUMN_1
from pipeline.customs.reference.filing import filing_rules
from pipeline.customs.reference.ports import port_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.reference.valuation import EntryFee, FeeExemption, ValuationRules, valuation_rules
from pipeline.customs.tariff.deposits import DeclaredCase, list_declared
from pipeline.customs.tariff.facts import KeptRate, TariffFacts
from pipeline.customs.tariff.goods import COLUMN_2
from pipeline.customs.valuation.chapter98 import DutyBase, divide_value, find_goods_base, find_heading_base
from pipeline.customs.valuation.duties import NO_EXCHANGE_RATE, column_1_duty, deposit_duty, is_on_quantity
from pipeline.customs.valuation.entered_value import (
    LineValue,
    line_values,
    list_adjustments,
    total_adjustment,
    total_charges,
)
from pipeline.customs.valuation.open_duties import find_open_duties, price_open_duties
from pipeline.customs.valuation.taxes import list_taxes
from pipeline.exports.schemas.entry_estimate import (
    COLUMN_1,
    BondHint,
    DutyRow,
    EntryEstimate,
    EntryLine,
    FeeRow,
    HeadingSource,
    ModeOfTransport,
    SummaryDue,
    UnpricedFee,
    ValueDivision,
)
from pipeline.exports.schemas.plan import Chapter99, Line, Unit

#: Special programs that make the column 1 duty free.
_FREE_SPI = frozenset({"S", "S+"})
_DIVIDED = "chapter 98 divides the value, and the filer decides which duty is on which part"


@dataclass(frozen=True)
class _KeptByLine:
    """What an export keeps of the editions, by what its lines declare."""

    rates: Mapping[tuple[str, str | None], KeptRate | None]
    deposits: Mapping[DeclaredCase, str | None]

    @classmethod
    def of_unit(cls, unit: Unit, tariff: TariffFacts | None) -> "_KeptByLine":
        """Return what is kept for the lines of the unit; empty without an edition."""
        return cls({}, {}) if tariff is None else cls(tariff.map_rates(unit), tariff.map_deposits(unit))


def build_estimate(
    unit: Unit, on: date, groups: Sequence[Sequence[int]], tariff: TariffFacts | None = None
) -> EntryEstimate:
    """Return the estimate of the unit, entered on the day `on`.

    `groups` holds the numbers of the invoice lines of each entry line; they count from 1. Without `tariff`, the duty of
    column 1 is not known.
    """
    rules, header, kept = valuation_rules(), unit.invoice, _KeptByLine.of_unit(unit, tariff)
    other_bond = rules.find_other_bond(unit.entry.type)
    adjustments = tuple(list_adjustments(rules, header))
    rate = ONE if header.currency == "USD" else header.exchange_rate
    entries = [[unit.lines[number - 1] for number in group] for group in groups]
    values = line_values(
        [sum_exact(line.line_value for line in lines) for lines in entries],
        total_adjustment(adjustments),
        total_charges(rules, header),
        rate,
    )
    rows = tuple(
        _entry_line(number, group, lines, value, kept, on)
        for number, (group, lines, value) in enumerate(zip(groups, entries, values, strict=True), start=1)
    )
    firsts = [lines[0] for lines in entries]
    fees = tuple(_fees(rules, unit, on, rows, firsts)) if rate is not None else ()
    unpriced = tuple(list_unpriced_fees(rules, unit.entry.type, on, firsts))
    entered = sum_known([row.entered_value_usd for row in rows])
    duty = None if rate is None else sum_exact(row.duty_usd for row in rows if row.duty_usd is not None)
    taxes = tuple(list_taxes(rules, unit.entry.type, on, entries, kept.rates))
    known = [*(fee.amount_usd for fee in fees), *(tax.amount_usd for tax in taxes if tax.amount_usd is not None)]
    total = None if duty is None else sum_exact((duty, *known))
    return EntryEstimate(
        entry_type=unit.entry.type,
        entered_on=on,
        rules_as_of=rules.as_of,
        currency=header.currency,
        exchange_rate=rate,
        rounding=rules.rounding.text,
        adjustments=adjustments,
        lines=rows,
        total_value=sum_exact(row.value for row in rows),
        total_dutiable_value=sum_exact(row.dutiable_value for row in rows),
        total_entered_value_usd=entered,
        duty_usd=duty,
        heading_sources=tuple(_list_heading_sources(unit, on)),
        fees=fees,
        unpriced_fees=unpriced,
        taxes=taxes,
        total_usd=total,
        bond=_bond(rules, rows, entries, known) if rate is not None and other_bond is None else None,
        summary_due=_find_summary_day(unit, on),
        mode_of_transport=_find_mode(unit),
        missing=(
            *_missing(rules, unit, on, rows, rate),
            *(fee.text for fee in unpriced),
            *(tax.text for tax in taxes if tax.text is not None),
        ),
        editions=() if tariff is None else tuple(tariff.cite()),
    )


def _entry_line(
    number: int, group: Sequence[int], lines: Sequence[Line], value: LineValue, kept: _KeptByLine, on: date
) -> EntryLine:
    line, division = lines[0], divide_value(lines, value)
    rate = kept.rates.get((line.hts_code, line.spi))
    deposits = [deposit_duty(case, lines, value.entered_usd, kept.deposits.get(case)) for case in list_declared(line)]
    if line.chapter98 is not None:
        of_goods = _divided_column_1(lines, division, rate, on)
        of_headings = [_divided_duty(row, division, on) for row in line.treatment.chapter99]
    else:
        of_goods = _column_1(lines, value.entered_usd, rate)
        of_headings = [_heading_duty(row, value.entered_usd) for row in line.treatment.chapter99]
    open_rows = tuple(price_open_duties(lines, value.entered_usd, on))
    bases = (*(row.basis for row in line.treatment.chapter99), *(row.basis for row in find_open_duties(line, on)))
    duties = (*of_headings, *open_rows, *(() if TOTAL_WITH_COLUMN_1 in bases else (of_goods,)), *deposits)
    return EntryLine(
        number=number,
        line_numbers=tuple(group),
        hts_code=line.hts_code,
        country_of_origin=line.country_of_origin,
        spi=line.spi,
        value=value.value,
        adjustment=value.adjustment,
        dutiable_value=value.dutiable,
        dutiable_value_usd=value.usd,
        entered_value_usd=value.entered_usd,
        charges_usd=value.charges_usd,
        division=division,
        duties=duties,
        duty_usd=None
        if value.entered_usd is None
        else sum_exact(row.amount_usd for row in duties if row.amount_usd is not None),
    )


def _column_1(lines: Sequence[Line], value: Decimal | None, kept: KeptRate | None) -> DutyRow:
    """Return the duty of column 1 on the value for the invoice lines of an entry line."""
    spi = lines[0].spi
    if kept is not None:
        return column_1_duty(lines, value, kept)
    if spi in _FREE_SPI:
        free = None if value is None else ZERO
        return DutyRow(heading=COLUMN_1, rate=f"free ({spi})", amount_usd=free, note="as claimed")
    return DutyRow(heading=COLUMN_1, rate=None, amount_usd=None, note="look the rate up in the tariff")


def _divided_column_1(
    lines: Sequence[Line], division: ValueDivision | None, kept: KeptRate | None, on: date
) -> DutyRow:
    base = None if division is None else find_goods_base(division, on)
    if division is None or base is None:
        return DutyRow(heading=COLUMN_1, rate=None, amount_usd=None, note=_DIVIDED)
    if not base.usd:
        free = DutyRow(heading=COLUMN_1, rate=f"free ({division.provision})", amount_usd=ZERO, note=None)
        return _on_base(free, base)
    first = lines[0]
    if chapter98_rules().grants_by_place(division.provision, first.spi, on) and first.country_of_origin not in COLUMN_2:
        note = f"special rate ({first.spi}) of {division.provision}, as claimed"
        return _on_base(DutyRow(heading=COLUMN_1, rate=f"free ({first.spi})", amount_usd=ZERO, note=note), base)
    row = _column_1(lines, base.usd, kept)
    if row.rate is not None and is_on_quantity(row.rate):
        full = sum_exact((division.exempt_value_usd, division.dutiable_value_usd))
        row = _take_share(_column_1(lines, full, kept), base.usd, full)
    return _on_base(row, base)


def _take_share(row: DutyRow, part: Decimal, full: Decimal) -> DutyRow:
    """Return the duty of the full value in the proportion of a part; unchanged without an amount."""
    if row.amount_usd is None:
        return row
    amount = round_cents(multiply(row.amount_usd, divide_exact(part, full)))
    share = f"{format_plain(row.amount_usd)} x {format_plain(part)} / {format_plain(full)} = {format_plain(amount)}"
    return row.model_copy(update={"amount_usd": amount, "arithmetic": f"{row.arithmetic}; {share}"})


def _divided_duty(row: Chapter99, division: ValueDivision | None, on: date) -> DutyRow:
    base = None if division is None else find_heading_base(division, row.heading, on)
    if base is None:
        return _heading_duty(row, None).model_copy(update={"note": _DIVIDED})
    duty = _heading_duty(row, base.usd)
    if duty.amount_usd is not None and base.usd is not None and row.rate_percent is not None:
        shown = f"{format_plain(base.usd)} x {format_plain(row.rate_percent)} % = {format_plain(duty.amount_usd)}"
        duty = duty.model_copy(update={"arithmetic": shown})
    return _on_base(duty, base)


def _on_base(row: DutyRow, base: DutyBase) -> DutyRow:
    """Return the duty with what it is on; unchanged without an amount, because its note says what to do."""
    if row.amount_usd is None:
        return row
    note = base.note if row.note is None else f"{row.note}; {base.note}"
    return row.model_copy(update={"note": note, "base_usd": base.usd})


def _heading_duty(row: Chapter99, value: Decimal | None) -> DutyRow:
    """Return the duty of a heading of chapter 99 on the value; without an amount if the rate is on another value."""
    rate = None if row.rate_percent is None else f"{format_plain(row.rate_percent)} %"
    amount, note = None, None
    if row.rate_percent is None:
        note = "the plan gives no rate"
    elif row.basis not in {"full_value", TOTAL_WITH_COLUMN_1} and row.rate_percent:
        note = f"the rate is on {row.basis.replace('_', ' ')}, whose value the plan does not give"
    elif value is None:
        note = NO_EXCHANGE_RATE
    else:
        amount = take_percent(value, row.rate_percent)
    if row.basis == TOTAL_WITH_COLUMN_1:
        note = note or "includes column 1"
    return DutyRow(heading=row.heading, rate=rate, amount_usd=amount, note=note)


def _list_heading_sources(unit: Unit, on: date) -> Iterator[HeadingSource]:
    for heading in sorted({row.heading for line in unit.lines for row in line.treatment.chapter99}):
        row = ruleset().find_row(heading, on)
        if row is not None:
            yield HeadingSource(heading=heading, source=row.source, status=row.status)
    for duty in dict.fromkeys(duty for line in unit.lines for duty in find_open_duties(line, on)):
        yield HeadingSource(heading=duty.program, source=duty.source, status=duty.status)


def _fees(
    rules: ValuationRules, unit: Unit, on: date, rows: Sequence[EntryLine], lines: Sequence[Line]
) -> Iterator[FeeRow]:
    for fee in rules.fees_on(on):
        if not fee.is_due(unit.entry.type, unit.entry.mode_of_transport):
            continue
        exemptions = rules.exemptions_of(fee.code, on)
        counted = [row for row, line in zip(rows, lines, strict=True) if not _is_exempt(exemptions, line)]
        if counted:
            on_parts = any(row.chapter98_pays is not None for row in exemptions)
            yield _fee_row(fee, counted, len(rows) - len(counted), on_parts=on_parts)


def _is_exempt(exemptions: Sequence[FeeExemption], line: Line) -> bool:
    provision = None if line.chapter98 is None else line.chapter98.provision
    return any(row.leaves_out(line.spi, line.country_of_origin, provision) for row in exemptions)


def _fee_row(fee: EntryFee, counted: Sequence[EntryLine], exempt: int, *, on_parts: bool) -> FeeRow:
    """Return the fee of the counted lines; `on_parts` is whether it is on the part with duty of a claim of chapter 98."""
    parts = [row.division.dutiable_value_usd if on_parts and row.division else None for row in counted]
    divided = sum(part is not None for part in parts)
    base = sum_exact(
        (row.entered_value_usd or ZERO) if part is None else part for row, part in zip(counted, parts, strict=True)
    )
    if fee.flat is not None:
        amount, rate, arithmetic = fee.flat, f"{format_plain(fee.flat)} an entry", "flat"
    else:
        percent = fee.percent or ZERO
        exact = take_percent(base, percent)
        amount = exact if fee.minimum is None else max(exact, fee.minimum)
        amount = amount if fee.maximum is None else min(amount, fee.maximum)
        rate = f"{format_plain(percent)} %"
        arithmetic = f"{format_plain(base)} x {rate} = {format_plain(exact)}"
        if amount != exact:
            arithmetic += f"; {'minimum' if amount > exact else 'maximum'} {format_plain(amount)}"
    if exempt:
        arithmetic += f"; {exempt} exempt {'line' if exempt == 1 else 'lines'} left out"
    if divided:
        arithmetic += f"; of {divided} {'line' if divided == 1 else 'lines'} only the part with duty of chapter 98"
    return FeeRow(
        code=fee.code,
        name=fee.name,
        rate=rate,
        base_usd=base,
        amount_usd=amount,
        arithmetic=arithmetic,
        source=fee.source,
        status=fee.status,
    )


def list_unpriced_fees(
    rules: ValuationRules, entry_type: str, on: date, lines: Sequence[Line]
) -> Iterator[UnpricedFee]:
    """Yield each fee that goods of an entry may have on the day; `lines` holds the first invoice line of each entry line."""
    for fee in rules.goods_fees_on(on, entry_type):
        covered = tuple(
            number
            for number, line in enumerate(lines, start=1)
            if fee.may_cover(line.hts_code, None if line.chapter98 is None else line.chapter98.provision)
        )
        if covered:
            shown = "1 line" if len(covered) == 1 else f"{len(covered)} lines"
            yield UnpricedFee(
                code=fee.code,
                name=fee.name,
                lines=covered,
                text=f"the {fee.name} ({fee.code}), which {shown} may have: look it up in {fee.section}",
                source=fee.source,
                status=fee.status,
            )


def _bond(
    rules: ValuationRules, rows: Sequence[EntryLine], entries: Sequence[Sequence[Line]], fees: Sequence[Decimal]
) -> BondHint:
    """Return the hint: goods under an agency count by the multiple of their value, others with duty, fees and taxes."""
    rule = rules.bond
    agency: list[EntryLine] = []
    others: list[EntryLine] = []
    for row, lines in zip(rows, entries, strict=True):
        (agency if any(map(_is_regulated, lines)) else others).append(row)
    terms: list[Decimal] = []
    shown: list[str] = []
    if agency:
        value = sum_exact(row.entered_value_usd or ZERO for row in agency)
        terms.append(multiply(value, rule.agency_factor))
        shown.append(f"{format_plain(rule.agency_factor)} x {format_plain(value)}")
    if others:
        duties = (row.duty_usd or ZERO for row in others)
        terms += [sum_exact(row.entered_value_usd or ZERO for row in others), sum_exact(duties)]
        terms += [sum_exact(fees)]
        shown += map(format_plain, terms[-3:])
    amount = sum_exact(terms)
    arithmetic = f"{' + '.join(shown)} = {format_plain(amount)}"
    return BondHint(amount_usd=amount, arithmetic=arithmetic, text=rule.text, source=rule.source, status=rule.status)


def _is_regulated(line: Line) -> bool:
    return any(row.disclaimer is None and row.data for row in line.treatment.pga)


def _find_mode(unit: Unit) -> ModeOfTransport | None:
    rule, trip = port_rules().modes, unit.entry.trip
    in_container = trip is not None and any(trailer.type == "container" for trailer in trip.trailers)
    code = rule.find_code(unit.entry.mode_of_transport, in_container=in_container)
    return None if code is None else ModeOfTransport(code=code, source=rule.source, status=rule.status)


def _find_summary_day(unit: Unit, on: date) -> SummaryDue | None:
    row, days = filing_rules().summary_time, filing_rules().statement_days
    if unit.entry.estimated_arrival_at is None or unit.entry.type not in row.entry_types or not row.in_force(on):
        return None
    day = days.add_working_days(on, row.working_days)
    if day is None:
        return None
    return SummaryDue(
        day=day,
        text=f"Computed: {row.working_days} working days after the expected day of entry, {on}, without weekends and federal holidays",
        source=row.source,
        status=combine_evidence(row, days).status,
    )


def _missing(
    rules: ValuationRules, unit: Unit, on: date, rows: Sequence[EntryLine], rate: Decimal | None
) -> Iterator[str]:
    header = unit.invoice
    if rate is None:
        yield f"the exchange rate of {header.currency}: the filer takes that of the day of export"
    unpriced = [assist.name for assist in header.assist_items if assist.amount is None]
    for name in unpriced:
        yield f"the value of the assist {name}"
    if header.assists == "declared" and not header.assist_items:
        yield "the values of the assists, which the plan declares but does not list"
    if not sum_exact(row.value for row in rows):
        yield "values of the goods: charges and discounts could not be apportioned"
    if rules.lacks_fees(on):
        yield f"the fees of {on}: the rules have no row for that day"
    if (bond := rules.find_other_bond(unit.entry.type)) is not None:
        yield f"the bond of entry type {unit.entry.type}: {bond.text} ({bond.source})"
    unknown = Counter((row.heading, row.note) for line in rows for row in line.duties if row.amount_usd is None)
    for (heading, note), lines in sorted(unknown.items(), key=str):
        yield f"the duty of {heading} for {lines} {'line' if lines == 1 else 'lines'}: {note}"
