"""Units of quantity: the codes of the entry, how the tariff writes them, and exact conversions between them."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.money import EXACT, multiply, round_decimals
from pipeline.customs.reference.base import Figure, ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file

_KEPT_DECIMALS: Final = 12


class UnitOfQuantity(ReferenceData):
    """One unit: its code on the entry, its names in the tariff, what it measures, and how many smallest units it is."""

    code: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,3}$")]
    names: tuple[str, ...]
    measure: str
    factor: Figure


class UnitRules(ReferenceRow):
    """The units of quantity; `net_weight` is the unit that a line's net weight is in."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    decimals: int
    units: tuple[UnitOfQuantity, ...]
    without_quantity: frozenset[str]
    net_weight: str

    @model_validator(mode="after")
    def _names_are_different(self) -> Self:
        codes = [unit.code for unit in self.units]
        names = [_normalize(name) for unit in self.units for name in unit.names]
        for found in (codes, names):
            twice = {each for each in found if found.count(each) > 1}
            if twice:
                raise ValueError(f"units has {', '.join(sorted(twice))} twice")
        unknown = {*self.without_quantity, self.net_weight} - {*codes}
        if unknown:
            raise ValueError(f"units lacks {', '.join(sorted(unknown))}")
        return self

    @cached_property
    def by_code(self) -> Mapping[str, UnitOfQuantity]:
        """The units by their codes."""
        return {unit.code: unit for unit in self.units}

    @cached_property
    def _by_name(self) -> Mapping[str, UnitOfQuantity]:
        return {_normalize(name): unit for unit in self.units for name in unit.names}

    def find_unit(self, name: str) -> UnitOfQuantity | None:
        """Return the unit that the tariff writes so, such as `doz. pr.`; None if the table does not have it."""
        return self._by_name.get(_normalize(name))

    def convert(self, quantity: Decimal, code: str, to: str) -> Decimal | None:
        """Return the quantity in another unit, to 12 decimals; None if the units do not measure the same."""
        if code == to:
            return quantity
        unit, target = self.by_code.get(code), self.by_code.get(to)
        if unit is None or target is None or unit.measure != target.measure:
            return None
        return round_decimals(EXACT.divide(multiply(quantity, unit.factor), target.factor), _KEPT_DECIMALS)

    def unify(self, code: str) -> tuple[str, Decimal] | str:
        """Return what the unit is, equal for two codes of one unit; an unknown code unchanged."""
        unit = self.by_code.get(code)
        return code if unit is None else (unit.measure, unit.factor)

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Return the quantity as an entry may state it: with as many decimals as it allows, without zeros at the end."""
        rounded, whole = round_decimals(quantity, self.decimals), round_decimals(quantity, 0)
        return whole if rounded == whole else rounded.normalize(EXACT)

    def agrees(self, stated: Decimal, exact: Decimal) -> bool:
        """Return whether the stated quantity is the exact one, rounded as an entry may state it."""
        return stated in (exact, round_decimals(exact, self.decimals), round_decimals(exact, 0))


def _normalize(name: str) -> str:
    return " ".join(re.sub(r"[.\s]+", " ", name.lower()).split())


@load_once
def unit_rules(content: RulesContent) -> UnitRules:
    """Return the units of quantity."""
    return parse_file(content, UnitRules, "units.yaml")
