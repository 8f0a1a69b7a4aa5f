"""The rate of column 1 that goods take, as a percentage of their value, on which headings of chapter 99 depend."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from sqlmodel import Session

from pipeline.core.money import ZERO
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts, cite_edition, keep_edition, keep_rate
from pipeline.customs.tariff.lines import WantedFacts, load_days
from pipeline.customs.tariff.queries import format_number
from pipeline.customs.tariff.rates import Rate, parse_rate, parse_special_rates
from pipeline.customs.tariff.rows import RATE_DIGITS
from pipeline.exports.schemas.plan import Line, Unit

#: Their goods take column 2 (HTSUS general note 3(b)).
COLUMN_2: Final = frozenset({"BY", "CU", "KP", "RU"})


@dataclass(frozen=True, slots=True)
class GoodsRate:
    """The rate of column 1 in percent of the value, from `least` to `most`: two rates if the goods may take either.

    `words` is the number with its rates, `edition_from` the first day of the edition, and `source` the edition.
    """

    least: Decimal
    most: Decimal
    words: str
    edition_from: date
    source: str


@dataclass(frozen=True)
class GoodsRates:
    """The rates of a unit's goods, from what its export keeps of the tariff."""

    edition: KeptEdition | None
    rates: Mapping[tuple[str, str | None], KeptRate | None]

    @classmethod
    def of_unit(cls, unit: Unit, kept: TariffFacts | None) -> "GoodsRates":
        """Return the rates of the unit; without an edition none is known."""
        return cls(None, {}) if kept is None else cls(kept.edition, kept.map_rates(unit))

    def find_rate(self, line: Line) -> GoodsRate | None:
        """Return the rate of the line's goods; None if only a person can say it."""
        kept = self.rates.get((line.hts_code, line.spi))
        if self.edition is None or kept is None:
            return None
        return read_goods_rate(line.hts_code, line.country_of_origin, line.spi, kept, self.edition)


def load_goods_rate(session: Session, number: str, origin: str, spi: str | None, on: date) -> GoodsRate | None:
    """Return the rate of goods by the edition in force on the day; None without one, or if only a person can say it."""
    tariff = load_days(session, {on: WantedFacts(numbers={number})})[on]
    kept = None if tariff.edition is None else keep_rate(tariff, number, spi)
    if tariff.edition is None or kept is None:
        return None
    return read_goods_rate(number, origin, spi, kept, keep_edition(tariff.edition))


def read_goods_rate(
    number: str, origin: str, spi: str | None, kept: KeptRate, edition: KeptEdition
) -> GoodsRate | None:
    """Return the rate of goods from the texts of column 1.

    None for goods that may take column 2, for a rate on a quantity or in words, and for a program that the special column
    does not name. With a claimed program the goods may take its rate or the general one.
    """
    rates = None if origin in COLUMN_2 else _list_rates(kept, spi)
    percents = [] if rates is None else [_read_percent(rate) for rate, _ in rates]
    known = [percent for percent in percents if percent is not None]
    if rates is None or len(known) != len(rates):
        return None
    words = f"column 1 of {format_rated_number(number, kept)} is {' or '.join(f'{rate.text}{column}' for rate, column in rates)}"
    return GoodsRate(min(known), max(known), words, edition.effective_from, cite_edition(edition))


def format_rated_number(number: str, kept: KeptRate) -> str:
    """Return the number whose row has the rate, with points: the goods' own, or its first eight digits."""
    return format_number(number if kept.suffix else number[:RATE_DIGITS])


def _list_rates(kept: KeptRate, spi: str | None) -> list[tuple[Rate, str]] | None:
    general = parse_rate(kept.general)
    if general is None:
        return None
    if spi is None or general.kind == "free":
        return [(general, "")]
    special = next(_find_special(kept, spi), None)
    return None if special is None else [(general, ""), (special, f" for {spi}")]


def _find_special(kept: KeptRate, spi: str) -> Iterator[Rate]:
    for each in parse_special_rates(kept.special or ""):
        if spi in each.programs or f"{spi}*" in each.programs:
            yield each.rate


def _read_percent(rate: Rate) -> Decimal | None:
    return ZERO if rate.kind == "free" else rate.percent if rate.kind == "ad_valorem" else None
