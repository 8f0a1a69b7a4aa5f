"""Reads numbers of the tariff: a number with its rates and descriptions on a day."""

from collections.abc import Sequence
from datetime import date

from sqlmodel import Session, col, select

from pipeline.core.errors import InvalidRequest, NotFound
from pipeline.customs.models import DutyCase, NumberFlag, TariffEdition, TariffRow
from pipeline.customs.schemas import (
    DutyCaseView,
    EditionView,
    NumberFlagView,
    RateView,
    SpecialRateView,
    TariffNumberView,
)
from pipeline.customs.tariff.cases import CasesOnDay, format_case, load_number_cases
from pipeline.customs.tariff.editions import find_editions
from pipeline.customs.tariff.flags import FlagsOnDay, load_flags
from pipeline.customs.tariff.rates import Rate, parse_rate, parse_special_rates
from pipeline.customs.tariff.rows import NUMBER, RATE_DIGITS, remove_points


def parse_number(text: str) -> str:
    """Return the digits of a tariff number with or without points.

    Raises InvalidRequest if there are not 4, 6, 8 or 10.
    """
    digits = remove_points(text)
    if NUMBER.fullmatch(digits) is None:
        raise InvalidRequest(f"{text[:40]!r} is not a tariff number; give 4, 6, 8 or 10 digits, such as 6115.94.00.00")
    return digits


def format_number(digits: str) -> str:
    """Return the number as the tariff writes it, such as 6115.94.00.00."""
    return ".".join(part for part in (digits[:4], digits[4:6], digits[6:8], digits[8:]) if part)


def show_number(session: Session, number: str, on: date) -> TariffNumberView:
    """Return a tariff number as it was on the day.

    Raises NotFound if no edition is in force then, or if the edition does not have the number.
    """
    editions = find_editions(session, on)
    edition, flags, cases = (editions.get(kind) for kind in ("tariff", "agency-flags", "duty-cases"))
    if edition is None:
        raise NotFound(
            f"no edition of the tariff is in force on {on}; the operator imports one by `exports tariff import FILE --from DAY`"
        )
    rows = session.exec(
        select(TariffRow)
        .where(col(TariffRow.edition_id) == edition.id, col(TariffRow.heading) == number[:4])
        .order_by(col(TariffRow.position))
    ).all()
    place = next((place for place, row in enumerate(rows) if row.number == number), None)
    if place is None:
        suffixes = [format_number(row.number) for row in rows if _is_suffix(row, number[:RATE_DIGITS])]
        near = f"; below {format_number(number[:RATE_DIGITS])} it has {', '.join(suffixes[:20])}" if suffixes else ""
        raise NotFound(
            f"edition {edition.name} does not have the number {format_number(number)}{near or '; correct it'}"
        )
    carried = None if flags is None else load_flags(session, flags, {number})
    named = None if cases is None else load_number_cases(session, cases, on, number)
    return _build_view(edition, rows, place, on, carried, named)


def _build_view(
    edition: TariffEdition,
    rows: Sequence[TariffRow],
    place: int,
    on: date,
    flags: FlagsOnDay | None,
    cases: CasesOnDay | None,
) -> TariffNumberView:
    row = rows[place]
    priced = row if row.general or row.special or row.other else _find_rate_row(rows, row)
    return TariffNumberView(
        number=row.number,
        on=on,
        edition=EditionView(
            name=edition.name,
            effective_from=edition.effective_from,
            effective_to=edition.effective_to,
            content_hash=edition.content_hash,
            source=edition.source,
        ),
        descriptions=_describe_path(rows, place),
        units=row.units,
        rates_from=priced.number if priced else None,
        general=_view_rate(parse_rate(priced.general)) if priced else None,
        special=[
            SpecialRateView(rate=_build_rate(each.rate), programs=list(each.programs))
            for each in (parse_special_rates(priced.special) if priced else ())
        ],
        other=_view_rate(parse_rate(priced.other)) if priced else None,
        quota_quantity=row.quota_quantity or None,
        additional_duties=row.additional_duties or None,
        footnotes=list(dict.fromkeys([*row.footnotes, *(priced.footnotes if priced else ())])),
        suffixes=[each.number for each in rows if _is_suffix(each, row.number)],
        agency_flags=[]
        if flags is None
        else [_view_flag(each, flags.edition) for each in flags.list_flags(row.number)],
        duty_cases=[] if cases is None else [_view_case(each, cases.edition) for each in cases.list_named(row.number)],
    )


def _view_flag(row: NumberFlag, edition: TariffEdition) -> NumberFlagView:
    return NumberFlagView.model_validate(
        {
            "flag": row.flag,
            "agency": row.agency,
            "requirement": row.requirement or None,
            "meaning": row.meaning or None,
            "edition": edition.name,
        }
    )


def _view_case(row: DutyCase, edition: TariffEdition) -> DutyCaseView:
    return DutyCaseView.model_validate(
        {
            "case_number": format_case(row.case_number),
            "name": row.name,
            "country": row.country,
            "status": row.status,
            "rate": row.rate or None,
            "effective_from": row.effective_from,
            "source": row.source,
            "edition": edition.name,
        }
    )


def _is_suffix(row: TariffRow, number8: str) -> bool:
    return row.number8 == number8 and len(row.number) > RATE_DIGITS


def _find_rate_row(rows: Sequence[TariffRow], row: TariffRow) -> TariffRow | None:
    # By the number, not by the indent: the file's indents skip levels.
    return next((each for each in rows if each.number == row.number8), None)


def _describe_path(rows: Sequence[TariffRow], place: int) -> list[str]:
    """Return the descriptions of the rows that the row at `place` stands under, from the heading down, and its own."""
    indent, path = rows[place].indent, [rows[place].description]
    for row in reversed(rows[:place]):
        if row.indent < indent:
            indent = row.indent
            path.append(row.description)
    return path[::-1]


def _view_rate(rate: Rate | None) -> RateView | None:
    return None if rate is None else _build_rate(rate)


def _build_rate(rate: Rate) -> RateView:
    return RateView(text=rate.text, kind=rate.kind, percent=rate.percent, amount=rate.amount, per=rate.per)
