"""The words that printed documents show for codes of the plan. A code without words here is printed as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

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


#: What the rate of a chapter 99 heading applies to.
BASES: Final[Mapping[str, str]] = {
    "full_value": "of the full value",
    "metal_content": "of the value of the metal",
    "non_metal_content": "of the value without the metal",
    "non_us_content": "of the value without the U.S. content",
    "special_rate_only": "with the special rate only",
    "total_with_column_1": "in all with the column 1 rate",
    "us_content": "of the value of the U.S. content",
}

PACKAGE_TYPES: Final[Mapping[str, str]] = {
    "BAG": "bag",
    "BDL": "bundle",
    "BOX": "box",
    "CRT": "crate",
    "CTN": "carton",
    "DRM": "drum",
    "PKG": "package",
    "PLT": "pallet",
}

#: What a packer calls the units of the entry.
PACKED_UNITS: Final[Mapping[str, str]] = {
    "BBL": "barrels",
    "CAR": "carats",
    "CC": "cm³",
    "CGM": "g of content",
    "CKG": "kg of content",
    "CM": "cm",
    "CM2": "cm²",
    "CM3": "cm³",
    "CTN": "t of content",
    "CYK": "kg clean yield",
    "DOZ": "dozen",
    "DPC": "dozen pcs",
    "DPR": "dozen pairs",
    "DS": "doses",
    "FBM": "m of fiber",
    "FT": "ft",
    "G": "g",
    "GAL": "gallons",
    "GBQ": "GBq",
    "GM": "g",
    "GR": "gross",
    "GRL": "gross lines",
    "GRS": "gross",
    "HUN": "hundred",
    "JWL": "jewels",
    "K": "thousand",
    "KG": "kg",
    "KM": "km",
    "KM2": "thousand m²",
    "KM3": "thousand m³",
    "KWH": "kWh",
    "L": "liters",
    "LB": "lb",
    "LNM": "m",
    "M": "m",
    "M2": "m²",
    "M3": "m³",
    "MBQ": "MBq",
    "MG": "mg",
    "ML": "ml",
    "MWH": "MWh",
    "NO": "pcs",
    "OZ": "oz",
    "PCS": "pcs",
    "PFL": "proof liters",
    "PK": "packs",
    "PRS": "pairs",
    "SFT": "sq ft",
    "SQ": "squares",
    "SYD": "sq yd",
    "T": "t",
    "THS": "thousand",
    "W": "W",
    "YD": "yd",
}


def format_basis(code: str) -> Printed:
    """Return what a rate applies to, such as `full_value` and `of the full value`."""
    return Printed(code, BASES.get(code) or f"of the {wording.space_words(code)}")


def format_package_type(code: str) -> Printed:
    """Return a type of packages, such as `CTN` and `carton`."""
    return Printed(code, PACKAGE_TYPES.get(code, code))


def format_packed_unit(code: str) -> Printed:
    """Return a unit of quantity as a packer calls it, such as `NO` and `pcs`."""
    return Printed(code, PACKED_UNITS.get(code, code))
