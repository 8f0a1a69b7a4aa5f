"""The facts of one line, on its day of entry, from which the chapter 99 headings are decided."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from pipeline.core.money import sum_exact
from pipeline.customs.reference.base import Metal
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.tariff.goods import GoodsRate
from pipeline.exports.schemas.plan import Line, Section232, Unit


@dataclass(frozen=True, slots=True)
class MetalFacts:
    """One metal of a line: its weight in kg, its countries, and the percentage of US metal in it."""

    metal: Metal
    weight_kg: Decimal
    melt_and_pour: str | None = None
    smelts: tuple[str, ...] = ()
    cast: str | None = None
    us_percent: Decimal | None = None

    @property
    def countries(self) -> tuple[str, ...]:
        """The known countries of the metal: of melt and pour, of smelt, of cast."""
        known = (self.melt_and_pour, *self.smelts, self.cast)
        return tuple(country for country in known if country is not None)


@dataclass(frozen=True, slots=True)
class LineFacts:
    """The facts of one line; `metals` is None if the plan gives none, `claimed` holds the plan's headings.

    `goods_rate` is None if no edition of the tariff says it.
    """

    hts_code: str
    origin: str
    on: date
    spi: str | None = None
    net_kg: Decimal | None = None
    metals: tuple[MetalFacts, ...] | None = None
    claimed: frozenset[str] = frozenset()
    goods_rate: GoodsRate | None = None

    @property
    def chapter(self) -> str:
        """The chapter of the HTS code."""
        return self.hts_code[:2]

    def metal_facts(self, metals: Iterable[Metal]) -> tuple[MetalFacts, ...]:
        """Return the facts of those metals whose weight is more than 0."""
        wanted = set(metals)
        return tuple(fact for fact in self.metals or () if fact.metal in wanted and fact.weight_kg > 0)

    def total_weight(self, metals: Iterable[Metal]) -> Decimal | None:
        """Return the total weight of the metals in kg, or None if the plan gives no metals."""
        if self.metals is None:
            return None
        return sum_exact(fact.weight_kg for fact in self.metal_facts(metals))


def line_facts(line: Line, on: date, goods_rate: GoodsRate | None = None) -> LineFacts:
    """Return the facts of a plan's line that is entered on the day `on`, with the rate of its goods if it is known."""
    treatment = line.treatment
    metals = tuple(_metal_facts(row) for row in treatment.section232) or None
    return LineFacts(
        hts_code=line.hts_code,
        origin=line.country_of_origin,
        on=on,
        spi=line.spi,
        net_kg=None if metals is None else line.net_weight_kg,  # only a metal's share depends on it
        metals=metals,
        claimed=frozenset(row.heading for row in treatment.chapter99),
        goods_rate=goods_rate,
    )


def _metal_facts(row: Section232) -> MetalFacts:
    smelts = (row.primary_country_of_smelt, row.secondary_country_of_smelt)
    return MetalFacts(
        metal=row.metal,
        weight_kg=row.metal_weight_kg,
        melt_and_pour=row.country_of_melt_and_pour,
        smelts=tuple(country for country in smelts if country is not None),
        cast=row.country_of_cast,
        us_percent=row.us_metal_percent,
    )


def entry_date(unit: Unit) -> date:
    """Return the expected day of entry of the unit: its day of arrival if the plan gives it, else its day of export.

    The arrival is converted to the time zone of the rules, whatever offset the plan gives.
    """
    arrival = unit.entry.estimated_arrival_at
    return unit.entry.export_date if arrival is None else arrival.astimezone(_entry_zone()).date()


def find_arrival(unit: Unit) -> datetime:
    """Return when the unit arrives: the instant that the plan gives, else the beginning of its day of entry."""
    arrival = unit.entry.estimated_arrival_at
    return arrival or datetime.combine(entry_date(unit), time(), _entry_zone()).astimezone(UTC)


def _entry_zone() -> ZoneInfo:
    return ZoneInfo(entry_rules().clock.zone)  # ZoneInfo caches its instances
