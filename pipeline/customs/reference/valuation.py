"""The dated reference data of the entered value: what each charge does to it, and the fees of an entry."""

from datetime import date
from functools import cached_property
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.money import ONE
from pipeline.customs.reference.base import Figure, ReferenceData, ReferenceRow
from pipeline.customs.reference.chapter98 import Provision
from pipeline.customs.reference.content import RulesContent, load_once, parse_file
from pipeline.customs.reference.entry import TariffPrefix


class ValueRule(ReferenceRow):
    """A rule in words."""

    text: str


class ChargeRule(ValueRule):
    """What a charge does: it counts for the entered value if it is dutiable, also if the prices do not include it.

    `unless` is the fact that makes it the opposite, in words, such as a through bill of lading; only the plan knows it. An
    undecided row is an assumption: the plan should say. `shipping` is whether it is a charge of the international shipment if
    it does not count.
    """

    code: str
    dutiable: bool
    unless: str | None = None
    decided: bool = True
    shipping: bool = True

    def counts(self, stated: bool | None) -> bool:  # noqa: FBT001 - the plan's own statement
        """Return whether the charge counts, if the plan states this; None: the plan does not say."""
        return self.dutiable if stated is None or self.unless is None else stated


class EntryFee(ReferenceRow):
    """A fee of an entry: a percentage of the entered value between a minimum and a maximum, or a flat amount in dollars.

    Without `entry_types` or `modes` it is due for all of them.
    """

    code: Annotated[str, Field(pattern=r"^[0-9]{3}$")]
    name: str
    entry_types: frozenset[str] = frozenset()
    modes: frozenset[str] = frozenset()
    percent: Figure | None = None
    minimum: Figure | None = None
    maximum: Figure | None = None
    flat: Figure | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.percent is None) == (self.flat is None):
            raise ValueError(f"fee {self.code} needs either percent or flat")
        return self

    def is_due(self, entry_type: str, mode: str) -> bool:
        """Return whether the fee is due for the entry type and the mode of transport."""
        return (not self.entry_types or entry_type in self.entry_types) and (not self.modes or mode in self.modes)


class FeeExemption(ReferenceRow):
    """Goods that fees leave out: by the program that their line claims, by their origin, or by their claim of chapter 98.

    With `chapter98_pays`, goods with a claim of these provisions pay on their part with duty, and other claims pay nothing.
    """

    name: str
    fees: frozenset[str]
    programs: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    chapter98_pays: frozenset[Provision] | None = None

    def leaves_out(self, program: str | None, origin: str, provision: str | None) -> bool:
        """Return whether it leaves out goods of this origin, with this program and this claim of chapter 98."""
        paying = provision is None or self.chapter98_pays is None or provision[:10] in self.chapter98_pays
        return program in self.programs or origin in self.origins or not paying


class GoodsFee(ReferenceRow):
    """A fee on goods of some tariff numbers. Its rate changes often: a person looks it up in `section`.

    Entries of `except_entry_types` and claims of the provisions `except_chapter98` never have it. Other goods may have it.
    """

    code: Annotated[str, Field(pattern=r"^[0-9]{3}$")]
    name: str
    section: str
    numbers: Annotated[tuple[TariffPrefix, ...], Field(min_length=1)]
    except_entry_types: frozenset[str] = frozenset()
    except_chapter98: tuple[str, ...] = ()

    def may_cover(self, hts_code: str, provision: str | None) -> bool:
        """Return whether goods of this HTS code, with this claim of chapter 98, may have the fee."""
        exempt = provision is not None and provision.startswith(self.except_chapter98)
        return hts_code.startswith(self.numbers) and not exempt


class ExciseTax(ReferenceRow):
    """A tax of 26 USC on goods of some tariff numbers: `dollars` for so many (`each`) of a unit of quantity.

    Without `dollars` a person looks the rate up in `section`; `words` names what the rate is for. Goods that are not `taxed`
    have none.
    """

    section: str
    name: str
    numbers: Annotated[tuple[TariffPrefix, ...], Field(min_length=1)]
    taxed: bool = True
    dollars: Figure | None = None
    each: Figure = ONE
    unit: str | None = None
    words: str | None = None

    @model_validator(mode="after")
    def _has_unit_of_rate(self) -> Self:
        if not (self.dollars is None) == (self.unit is None) == (self.words is None):
            raise ValueError(f"tax {self.section} on {self.name} needs dollars, unit and words, or none of them")
        return self


class BondRule(ValueRule):
    """The amount of a single transaction bond."""

    agency_factor: Figure


class OtherBond(ValueRule):
    """The amount, in words, of the bond of entries of some types."""

    entry_types: frozenset[str]


class ValuationRules(ReferenceData):
    """The rules of the entered value and of the fees."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    rounding: ValueRule
    charges: tuple[ChargeRule, ...]
    discount: ValueRule
    assist: ValueRule
    fees: tuple[EntryFee, ...]
    exemptions: tuple[FeeExemption, ...] = ()
    #: Rules that were stored before have neither of the next three.
    goods_fees: tuple[GoodsFee, ...] = ()
    taxes: tuple[ExciseTax, ...] = ()
    untaxed_entry_types: frozenset[str] = frozenset()
    bond: BondRule
    other_bond: OtherBond | None = None  # rules that were stored before lack it

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        fees: tuple[EntryFee | GoodsFee, ...] = (*self.fees, *self.goods_fees)
        for left, right in combinations(fees, 2):
            if left.code == right.code and left.overlaps(right):
                raise ValueError(f"fee {left.code} has two rows for one day")
        for one, other in combinations(self.charges, 2):
            if one.code == other.code:
                raise ValueError(f"charge {one.code} has two rows")
        known = {fee.code for fee in self.fees}
        for row in self.exemptions:
            if not row.fees <= known:
                raise ValueError(
                    f"exemption {row.name} is of fees without a row: {', '.join(sorted(row.fees - known))}"
                )
        return self

    @cached_property
    def _charges(self) -> dict[str, ChargeRule]:
        return {row.code: row for row in self.charges}

    def find_charge(self, code: str) -> ChargeRule:
        """Return the rule of a charge; an unknown code has the rule of `other`."""
        return self._charges.get(code) or self._charges["other"]

    def fees_on(self, on: date) -> tuple[EntryFee, ...]:
        """Return the fees in force on the day."""
        return tuple(fee for fee in self.fees if fee.in_force(on))

    def exemptions_of(self, code: str, on: date) -> tuple[FeeExemption, ...]:
        """Return the exemptions from the fee in force on the day."""
        return tuple(row for row in self.exemptions if code in row.fees and row.in_force(on))

    def find_other_bond(self, entry_type: str) -> OtherBond | None:
        """Return the other amount of the bond of entries of this type; None if `bond` has it."""
        row = self.other_bond
        return row if row is not None and entry_type in row.entry_types else None

    def goods_fees_on(self, on: date, entry_type: str) -> tuple[GoodsFee, ...]:
        """Return the fees on goods in force on the day for entries of this type."""
        return tuple(row for row in self.goods_fees if row.in_force(on) and entry_type not in row.except_entry_types)

    def find_tax(self, hts_code: str, on: date) -> ExciseTax | None:
        """Return the first row of taxes that fits the number on the day, or None."""
        return next((row for row in self.taxes if row.in_force(on) and hts_code.startswith(row.numbers)), None)

    def lacks_fees(self, on: date) -> bool:
        """Return whether a fee has rows, but none for the day."""
        return {fee.code for fee in self.fees} != {fee.code for fee in self.fees_on(on)}


@load_once
def valuation_rules(content: RulesContent) -> ValuationRules:
    """Return the rules of the entered value."""
    return parse_file(content, ValuationRules, "valuation.yaml")
