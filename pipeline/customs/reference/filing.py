"""The dated reference data of how an entry is filed: numbers, bond, power of attorney, payment, resident agent."""

from calendar import monthcalendar
from collections.abc import Mapping
from datetime import MAXYEAR, date, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from pipeline.customs.reference.base import Figure, ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file
from pipeline.customs.reference.entry import Pattern, TariffPrefix
from pipeline.exports.line_declarations import LICENSES

_SATURDAY: Final = 5
_SUNDAY: Final = 6

Code = Annotated[str, Field(pattern=r"^[0-9]$")]
SuretyCode = Annotated[str, Field(pattern=r"^[0-9]{3}$")]


class EntryTypeRow(ReferenceRow):
    """A rule for entries of some types."""

    entry_types: frozenset[str]


class BondTypes(ReferenceRow):
    """The types of a bond with their names, and which of them is which."""

    types: Mapping[Code, str]
    none: Code
    continuous: Code
    single: Code

    @model_validator(mode="after")
    def _names_are_given(self) -> Self:
        if unnamed := {self.none, self.continuous, self.single} - self.types.keys():
            raise ValueError(f"types must name {', '.join(sorted(unnamed))}")
        return self


class Sureties(ReferenceRow):
    """The surety codes that stand for cash, and for no surety."""

    cash: SuretyCode
    none: SuretyCode


class ContinuousBond(ReferenceRow):
    """The least amount of a continuous bond."""

    least_usd: Figure


class PartnershipPower(ReferenceRow):
    """The longest period of a power of attorney that a partnership gives."""

    years: int


class PaymentType(ReferenceData):
    """One way to pay, and on which statement."""

    name: str
    cycle: Literal["none", "daily", "monthly"]


class PaymentTypes(ReferenceRow):
    """The payment types of ACE."""

    types: Mapping[Code, PaymentType]


class Holiday(ReferenceData):
    """A federal holiday: on a day of the month, or on its `nth` weekday (Monday is 0; -1 is the last)."""

    name: str
    month: Annotated[int, Field(ge=1, le=12)]
    day: Annotated[int, Field(ge=1, le=31)] | None = None
    weekday: Annotated[int, Field(ge=0, le=6)] | None = None
    nth: Literal[-1, 1, 2, 3, 4] | None = None

    @model_validator(mode="after")
    def _day_is_given_once(self) -> Self:
        if (self.day is None) == (self.weekday is None) or (self.weekday is None) != (self.nth is None):
            raise ValueError(f"{self.name} needs either day, or weekday and nth")
        return self

    def observed_in(self, year: int) -> date:
        """Return the day on which offices are closed for the holiday of that year; it may be in the year before."""
        if self.day is not None:
            there = date(year, self.month, self.day)
            return there + timedelta(days={_SATURDAY: -1, _SUNDAY: 1}.get(there.weekday(), 0))
        weeks = monthcalendar(year, self.month)
        days = [week[self.weekday or 0] for week in weeks if week[self.weekday or 0]]
        nth = self.nth or 1
        return date(year, self.month, days[nth - 1 if nth > 0 else nth])


class StatementDays(ReferenceRow):
    """The days on which a preliminary statement is printed, and how many of them after the entry at the latest."""

    working_days: Annotated[int, Field(ge=1, le=60)] | None = None  # rules that were stored before lack it
    holidays: tuple[Holiday, ...]

    def describe_closed(self, day: date) -> str | None:
        """Return why no statement is printed on the day, such as `a weekend`; None if it is a working day."""
        if day.weekday() in (_SATURDAY, _SUNDAY):
            return "a weekend"
        # New Year's Day on a Saturday is observed in the year before.
        closed = {
            each.observed_in(year): each.name
            for year in {day.year, min(day.year + 1, MAXYEAR)}
            for each in self.holidays
        }
        return closed.get(day)

    def add_working_days(self, day: date, days: int) -> date | None:
        """Return the last of so many working days after the day; None if it is after the last day that a date can be."""
        while days:
            if day == date.max:
                return None
            day += timedelta(days=1)
            days -= self.describe_closed(day) is None
        return day


class SummaryTime(EntryTypeRow):
    """The working days after the time of entry in which the entry summary must be filed."""

    working_days: Annotated[int, Field(ge=1, le=60)]


class GoodsOnEntry(EntryTypeRow):
    """A rule for goods of some tariff numbers on entries of some types."""

    numbers: Annotated[tuple[TariffPrefix, ...], Field(min_length=1)]

    def cover(self, hts_code: str, entry_type: str, on: date) -> bool:
        """Return whether the rule is in force on the day for goods of this HTS code on an entry of this type."""
        return self.in_force(on) and entry_type in self.entry_types and hts_code.startswith(self.numbers)


class LicensedGoods(GoodsOnEntry):
    """Goods that need a license, the attribute with its number, the form of the number, and who gives it."""

    name: str
    attribute: str
    form: Pattern
    issuer: str

    @model_validator(mode="after")
    def _attribute_is_known(self) -> Self:
        if self.attribute not in LICENSES:
            raise ValueError(f"attribute {self.attribute} is not one of {', '.join(LICENSES)}")
        return self


class FilingRules(ReferenceData):
    """The rules of how an entry is filed."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    entry_number: ReferenceRow
    consignee_number: EntryTypeRow
    several_consignees: ReferenceRow
    bond_types: BondTypes
    sureties: Sureties
    bond_needed: EntryTypeRow
    continuous_bond: ContinuousBond
    foreign_continuous_bond: ReferenceRow
    power_of_attorney: ReferenceRow
    partnership_power: PartnershipPower
    payment_types: PaymentTypes
    statement_days: StatementDays
    summary_time: SummaryTime
    resident_agent: ReferenceRow
    # Rules that were stored before lack these.
    non_reimbursement: ReferenceRow | None = None
    licenses: tuple[LicensedGoods, ...] = ()
    softwood_lumber: GoodsOnEntry | None = None


@load_once
def filing_rules(content: RulesContent) -> FilingRules:
    """Return the rules of how an entry is filed."""
    return parse_file(content, FilingRules, "filing.yaml")
