"""What the tariff says of a plan's lines on their days of entry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from typing import Final

from sqlmodel import Session, col, select

from pipeline.customs.models import TariffEdition, TariffRow
from pipeline.customs.tariff.cases import CasesOnDay, load_cases
from pipeline.customs.tariff.editions import find_editions
from pipeline.customs.tariff.flags import FlagsOnDay, load_flags
from pipeline.customs.tariff.rates import Rate, SpecialRate, parse_rate, parse_special_rates
from pipeline.customs.tariff.rows import RATE_DIGITS, split_chunks

_NUMBER_DIGITS: Final = 10


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


@dataclass
class WantedFacts:
    """What a plan asks on one day: tariff numbers of eight or more digits, countries of origin, and declared cases."""

    numbers: set[str] = field(default_factory=set)
    countries: set[str] = field(default_factory=set)
    cases: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class TariffOnDay:
    """What the editions that are in force on a day say of a plan's lines; without an edition nothing is known."""

    wanted: WantedFacts
    edition: TariffEdition | None
    rows: Mapping[str, Sequence[TariffRow]] = field(default_factory=dict)
    flags: FlagsOnDay | None = None
    cases: CasesOnDay | None = None

    @property
    def editions(self) -> list[TariffEdition]:
        """The editions that are in force, of all kinds."""
        tables = (table.edition for table in (self.flags, self.cases) if table is not None)
        return [*tables] if self.edition is None else [self.edition, *tables]

    def covers(self, number: str) -> bool:
        """Return whether the edition has the chapter of the number."""
        return self.edition is not None and number[:2] in self.edition.chapters

    def find_number(self, number: str) -> TariffNumber | None:
        """Return the number of ten digits, or None if the edition does not have it.

        If the edition has no suffixes for its first eight digits, these are the number.
        """
        rows = self.rows.get(number[:RATE_DIGITS], ())
        rate_row = next((row for row in rows if len(row.number) == RATE_DIGITS), None)
        row = next((row for row in rows if row.number == number), None)
        if row is None and not self.list_suffixes(number):
            row = rate_row
        if row is None:
            return None
        has_rates = row.general or row.special or row.other
        return TariffNumber(row, row if has_rates or rate_row is None else rate_row)

    def has_provision(self, number: str) -> bool:
        """Return whether the edition has these eight digits."""
        return bool(self.rows.get(number[:RATE_DIGITS]))

    def list_suffixes(self, number: str) -> list[TariffRow]:
        """Return the rows of ten digits below the first eight digits of the number."""
        return [row for row in self.rows.get(number[:RATE_DIGITS], ()) if len(row.number) == _NUMBER_DIGITS]


#: Returns the edition of each kind that counts for a day.
FindEditions = Callable[[date], Mapping[str, TariffEdition]]


def load_days(
    session: Session, wanted: Mapping[date, WantedFacts], find: FindEditions | None = None
) -> dict[date, TariffOnDay]:
    """Return for each day what its editions say of what is wanted: those that `find` returns, by default those in force."""
    find = find or partial(find_editions, session)
    return {on: _load_day(session, on, each, find(on)) for on, each in wanted.items()}


def _load_day(session: Session, on: date, wanted: WantedFacts, editions: Mapping[str, TariffEdition]) -> TariffOnDay:
    tariff, flags, cases = (editions.get(kind) for kind in ("tariff", "agency-flags", "duty-cases"))
    return TariffOnDay(
        wanted,
        tariff,
        {} if tariff is None else _load_rows(session, tariff, wanted.numbers),
        None if flags is None else load_flags(session, flags, wanted.numbers),
        None if cases is None else load_cases(session, cases, on, wanted.countries, wanted.cases),
    )


def _load_rows(session: Session, edition: TariffEdition, numbers: set[str]) -> dict[str, list[TariffRow]]:
    rows: dict[str, list[TariffRow]] = {}
    for part in split_chunks(sorted({number[:RATE_DIGITS] for number in numbers})):
        query = (
            select(TariffRow)
            .where(col(TariffRow.edition_id) == edition.id, col(TariffRow.number8).in_(part))
            .order_by(col(TariffRow.position))
        )
        for row in session.exec(query):
            rows.setdefault(str(row.number8), []).append(row)
    return rows
