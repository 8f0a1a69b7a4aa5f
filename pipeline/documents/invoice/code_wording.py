"""The words that printed documents show for codes of the plan. A code without words here is printed as it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pipeline.core.templating import SOURCES
from pipeline.documents.invoice import wording
from pipeline.documents.schemas.invoice import Printed


@dataclass(frozen=True)
class RuleWords:
    """The words of one ruleset for its codes.

    An export prints those of the rules with which it was accepted: so the same plan and template version give the same
    bytes after the rules have changed.
    """

    programs: Mapping[str, str]
    entry_types: Mapping[str, str]
    bond_types: Mapping[str, str]
    payment_types: Mapping[str, str]
    agency_data: Mapping[str, str]
    ports: Mapping[str, str]

    def name_program(self, code: str) -> str:
        """Return the name of a chapter 99 program, such as `Section 232, metals`."""
        return self.programs.get(code, code)

    def format_entry_type(self, code: str) -> Printed:
        """Return a CBP entry type with its name, such as `01 consumption, formal`."""
        return Printed(code, _add_name(code, self.entry_types))

    def format_bond_type(self, code: str) -> Printed:
        """Return the type of a bond with its name, such as `8 continuous`."""
        return Printed(code, _add_name(code, self.bond_types))

    def format_payment_type(self, code: str) -> Printed:
        """Return a payment type of ACE with its name, such as `1 individual payment`."""
        return Printed(code, _add_name(code, self.payment_types))

    def name_agency_datum(self, key: str) -> str:
        """Return the agency's term for a datum, such as `FDA product code`."""
        return self.agency_data.get(key) or wording.spell_title(key)

    def describe_port(self, code: str) -> str:
        """Return a port of entry with its name, such as `0901 Buffalo-Niagara Falls NY`."""
        return _add_name(code, self.ports)


def _add_name(code: str, names: Mapping[str, str]) -> str:
    return f"{code} {names[code]}" if code in names else code


@cache
def read_words() -> Mapping[str, Mapping[str, str]]:
    """Return the words of `templates/documents/words.json`: of bases of rates, and what a packer calls packages and units."""
    words: dict[str, dict[str, str]] = json.loads(SOURCES["documents/words.json"])
    return words


def format_basis(code: str) -> Printed:
    """Return what a rate applies to, such as `full_value` and `of the full value`."""
    return Printed(code, read_words()["bases"].get(code) or f"of the {wording.space_words(code)}")


def format_package_type(code: str) -> Printed:
    """Return a type of packages, such as `CTN` and `carton`."""
    return Printed(code, read_words()["package_types"].get(code, code))


def format_packed_unit(code: str) -> Printed:
    """Return a unit of quantity as a packer calls it, such as `NO` and `pcs`."""
    return Printed(code, read_words()["packed_units"].get(code, code))
