"""What the tariff says of a plan's lines on their days of entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import islice
from typing import Final

from sqlmodel import Session, col, select

from pipeline.customs.models import TariffEdition, TariffRow
from pipeline.customs.tariff.editions import find_edition
from pipeline.customs.tariff.rates import Rate, SpecialRate, parse_rate, parse_special_rates

_NUMBER_DIGITS: Final = 10
_RATE_DIGITS: Final = 8
_CHUNK: Final = 500


@dataclass(frozen=True)
class TariffNumber:
    """A number of ten digits in an edition: its row, or that of its first eight digits if these have no suffixes."""

    row: TariffRow
    rate_row: TariffRow

    @property
    def has_suffix(self) -> bool:
        """Whether the edition has the number with its statistical suffix."""
        return len(self.row.number) == _NUMBER_DIGITS

    @cached_property
    def general(self) -> Rate | None:
        """The general rate of column 1, or None if the edition has none."""
        return parse_rate(self.rate_row.general)

    @cached_property
    def special(self) -> tuple[SpecialRate, ...]:
        """The special rates of column 1."""
        return parse_special_rates(self.rate_row.special)


@dataclass(frozen=True)
class TariffOnDay:
    """The edition that is in force on a day, with the rows of a plan's numbers; without an edition nothing is known."""

    edition: TariffEdition | None
    rows: Mapping[str, Sequence[TariffRow]] = field(default_factory=dict)

    def covers(self, number: str) -> bool:
        """Return whether the edition has the chapter of the number."""
        return self.edition is not None and number[:2] in self.edition.chapters

    def find_number(self, number: str) -> TariffNumber | None:
        """Return the number of ten digits, or None if the edition does not have it.

        If the edition has no suffixes for its first eight digits, these are the number.
        """
        rows = self.rows.get(number[:_RATE_DIGITS], ())
        rate_row = next((row for row in rows if len(row.number) == _RATE_DIGITS), None)
        row = next((row for row in rows if row.number == number), None)
        if row is None and not self.list_suffixes(number):
            row = rate_row
        if row is None:
            return None
        has_rates = row.general or row.special or row.other
        return TariffNumber(row, row if has_rates or rate_row is None else rate_row)

    def has_provision(self, number: str) -> bool:
        """Return whether the edition has these eight digits."""
        return bool(self.rows.get(number[:_RATE_DIGITS]))

    def list_suffixes(self, number: str) -> list[TariffRow]:
        """Return the rows of ten digits below the first eight digits of the number."""
        return [row for row in self.rows.get(number[:_RATE_DIGITS], ()) if len(row.number) == _NUMBER_DIGITS]


def load_numbers(session: Session, numbers: Mapping[date, set[str]]) -> dict[date, TariffOnDay]:
    """Return for each day its edition with the rows of the numbers, which have eight or more digits."""
    return {on: _load_day(session, on, wanted) for on, wanted in numbers.items()}


def _load_day(session: Session, on: date, numbers: set[str]) -> TariffOnDay:
    edition = find_edition(session, on)
    if edition is None:
        return TariffOnDay(None)
    rows: dict[str, list[TariffRow]] = {}
    for part in _split(sorted({number[:_RATE_DIGITS] for number in numbers})):
        query = (
            select(TariffRow)
            .where(col(TariffRow.edition_id) == edition.id, col(TariffRow.number8).in_(part))
            .order_by(col(TariffRow.position))
        )
        for row in session.exec(query):
            rows.setdefault(str(row.number8), []).append(row)
    return TariffOnDay(edition, rows)


def _split(values: Sequence[str]) -> Iterator[list[str]]:
    iterator = iter(values)
    while part := list(islice(iterator, _CHUNK)):
        yield part
