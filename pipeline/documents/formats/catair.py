"""The 80-column records of an entry summary (AE) and a cargo release (SE): their layouts, and the writer that obeys them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Final

from pipeline.core.money import format_plain, multiply, round_decimals, to_decimal
from pipeline.documents.formats.x12 import spell_text

#: The chapters that the layouts come from. Nobody compared these positions with the printed chapters.
SOURCE: Final = "ACE ABI CATAIR: Entry Summary Create/Update (July 2026), ACE Cargo Release (version 40, July 2025)"
STATUS: Final = "probable"

WIDTH: Final = 80

#: The layouts: `name first-last kind need`, both columns inclusive and counted from 1. Kind X is text, left-aligned; N, N2: a
#: number with that many implied decimals, right-aligned with zeros; D: a date, MMDDYY; R: columns that are laid out
#: already. Need M: the chapter says mandatory. Columns without a field are filler. Fields that a plan never has are left
#: out, unless they are mandatory: those are blanks with a name.
LAYOUTS: Final[Mapping[str, str]] = {
    "10": "action 3-3 X M, filer_code 4-6 X M, entry_number 9-16 X M, port_of_entry 18-21 X M, entry_type 34-35 X M,"
    " mode_of_transport 36-37 X C, electronic_signature 39-39 X M, payment_type 51-51 X M, statement_date 52-57 D C,"
    " statement_month 58-59 X C, client_branch 60-61 X C, pga_data 68-68 X C",
    "11": "importer_number 3-14 X M, consignee_number 15-26 X C, entry_date 42-47 D C, import_date 48-53 D C,"
    " state_of_destination 61-62 X C",
    "20": "carrier 3-6 X C, port_of_unlading 7-10 X C, arrival_date 11-16 D C, location_of_goods 17-20 X C",
    "21": "trip 3-7 X M",
    "22": "manifest_quantity 3-10 N M, manifest_unit 11-15 X M",
    "23": "bill_type 3-3 X M, bill_issuer 4-7 X C, bill_number 8-19 X M",
    "31": "bond_type 3-3 X M, bond_designation 4-4 X M, surety_code 6-8 X M, bond_amount 9-18 N C",
    "40": "line 5-7 X M, origin 9-10 X M, export_country 11-12 X C, export_date 13-18 D C, spi 25-26 X C, charges 27-36 N C,"
    " gross_kg 42-51 N C, related_parties 56-56 X C, non_reimbursement 60-60 X C",
    "42": "supplier 3-17 X M, invoice_number 18-34 X M, range_1_first 36-39 N M, range_1_last 41-44 N M,"
    " range_2_first 46-49 N C, range_2_last 51-54 N C, range_3_first 56-59 N C, range_3_last 61-64 N C,"
    " range_4_first 66-69 N C, range_4_last 71-74 N C",
    "44": "description 3-72 X M",
    "47": "party_type 3-3 X M, party_number 4-18 X M",
    "50": "hts 3-12 X M, duty 14-23 N2 M, value 25-34 N M, quantity_1 36-47 N2 C, unit_1 48-50 X C, quantity_2 51-62 N2 C,"
    " unit_2 63-65 X C, quantity_3 66-77 N2 C, unit_3 78-80 X C",
    "52": "license_type 3-4 X M, license_number 5-14 X M",
    # The declaration of softwood lumber: record 54 of type 01.
    "5401": "declared 5-5 X M, export_price 6-16 N2 M, export_charge 17-27 N2 M",
    "54": "declaration_type 3-4 X M, information 5-80 R M",
    "89": "class_1 3-5 X M, fee_1 6-16 N2 M, class_2 17-19 X C, fee_2 20-30 N2 C, class_3 31-33 X C, fee_3 34-44 N2 C,"
    " class_4 45-47 X C, fee_4 48-58 N2 C, class_5 59-61 X C, fee_5 62-72 N2 C",
    "90": "duty 3-13 N2 C, fees 15-25 N2 C",
    "SE10": "action 5-5 X M, filer_code 6-8 X M, entry_number 11-18 X M, entry_type 20-21 X M, importer_type 22-24 X C,"
    " importer_number 25-36 X C, mode_of_transport 37-38 X C, bond_type 39-39 X M, value 40-49 N M, port_of_entry 50-54 X C",
    "SE11": "location_of_goods 12-15 X C, trip 40-44 X C",
    "SE15": "bill_type 5-5 X M, bill_issuer 6-9 X C, bill_number 10-59 X M, quantity 60-67 N C, non_ams 73-73 X M",
    "SE17": "equipment 5-24 X M",
    "SE30": "entity 5-7 X M, name 8-42 X C, number_type 43-45 X C, number 46-65 X C",
    "SE35": "address_type_1 5-6 X M, address_1 7-41 X M, address_type_2 42-43 X C, address_2 44-78 X C",
    "SE36": "city 5-39 X M, region 40-42 X C, postal_code 49-63 X C, country 64-65 X M",
    "SE40": "line 5-7 X M, origin 8-9 X M, description 11-80 X C",
    "SE50": "entity 5-7 X M, name 8-42 X C, number_type 43-45 X C, number 46-65 X C",
    "SE55": "address_type_1 5-6 X M, address_1 7-41 X M, address_type_2 42-43 X C, address_2 44-78 X C",
    "SE56": "city 5-39 X M, region 40-42 X C, postal_code 49-63 X C, country 64-65 X M",
    "SE60": "hts 5-14 X M, value 15-24 N C",
}  # fmt: skip
_FIELD: Final = re.compile(r"([a-z0-9_]+) ([0-9]+)-([0-9]+) (X|R|N2?|D) ([MC])")

Datum = str | int | Decimal | date | None


@dataclass(frozen=True)
class Column:
    """A field of a record: its columns, counted from 1 and inclusive, its kind, and whether it is mandatory."""

    name: str
    first: int
    last: int
    kind: str
    mandatory: bool

    @property
    def width(self) -> int:
        """The number of its columns."""
        return self.last - self.first + 1


@cache
def list_columns(record: str) -> tuple[Column, ...]:
    """Return the fields of a record in order."""
    found = [_FIELD.fullmatch(part.strip()) for part in LAYOUTS[record].split(",")]
    return tuple(
        Column(each[1], int(each[2]), int(each[3]), each[4], each[5] == "M") for each in found if each is not None
    )


@dataclass(frozen=True)
class WrittenRecord:
    """A record of 80 columns, the mandatory fields that it leaves blank, and those whose value is too long for it."""

    text: str
    blank: tuple[str, ...]
    cut: tuple[str, ...]


def write_record(record: str, **values: Datum) -> WrittenRecord:
    """Return the record; a field without a value stays blank. A number that is too long stays blank, a text is cut."""
    line = [*record.ljust(WIDTH)]
    blank, cut = [], []
    for column in list_columns(record):
        text = _format_datum(values.get(column.name), column)
        if len(text) > column.width:
            cut.append(f"{record} {column.name} {column.first}-{column.last}")
            text = text[: column.width] if column.kind in "XR" else ""
        if not text and column.mandatory:
            blank.append(f"{record} {column.name} {column.first}-{column.last}")
        line[column.first - 1 : column.first - 1 + len(text)] = text
    return WrittenRecord("".join(line), tuple(blank), tuple(cut))


def _format_datum(value: Datum, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, date):
        return f"{value:%m%d%y}"
    if column.kind == "R":
        return str(value)
    if column.kind == "X":
        return spell_text(str(value)).upper()
    scaled = multiply(to_decimal(str(value)), to_decimal("100" if column.kind == "N2" else "1"))
    return format_plain(round_decimals(scaled, 0)).zfill(column.width)
