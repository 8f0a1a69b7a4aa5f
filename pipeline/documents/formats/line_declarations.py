"""What an entry line declares by attributes of its lines, one record each: for tables, entry records and the worksheet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from pipeline.core.money import format_amount, multiply, to_decimal
from pipeline.documents.formats.catair import Datum
from pipeline.documents.formats.cells import Columns, of_part
from pipeline.documents.formats.facts import FactsOfEntry
from pipeline.documents.schemas.invoice import InvoiceLine
from pipeline.exports.line_declarations import (
    CASES,
    LICENSES,
    LUMBER_CHARGE,
    LUMBER_DECLARED,
    LUMBER_PRICE,
    NOT_REIMBURSED,
    License,
    is_antidumping,
    parse_lumber_amount,
    split_cases,
)


@dataclass(frozen=True)
class LineDeclaration:
    """One kind of declaration of an entry line.

    `block` is its name on the worksheet, and `supplier` who gives it if no line does. It has words for each line that
    declares it, its columns of an entry line, and its entry records with their fields.
    """

    block: str
    supplier: str
    columns: Columns[FactsOfEntry]
    list_words: Callable[[FactsOfEntry], list[str]]
    list_records: Callable[[FactsOfEntry], Iterator[tuple[str, dict[str, Datum]]]]


def read_attribute(line: InvoiceLine, name: str) -> str | None:
    """Return the attribute of the line with this name; None if the plan does not give it."""
    return next((pair.value for pair in line.attributes if pair.name == name), None)


def find_certificate(line: InvoiceLine) -> str | None:
    """Return `Y` if the importer certifies that nobody reimburses the line's antidumping duty; None if it does not."""
    return "Y" if read_attribute(line, NOT_REIMBURSED) == "Y" else None


def has_antidumping_case(line: InvoiceLine) -> bool:
    """Return whether the line declares an antidumping case: its number begins with A."""
    return any(map(is_antidumping, split_cases(read_attribute(line, CASES) or "")))


class Lumber(NamedTuple):
    """Softwood lumber: export price and charge in US dollars, None if not known, and whether the importer declares them."""

    price: Decimal | None
    charge: Decimal | None
    declared: bool


def list_licenses(row: FactsOfEntry) -> list[tuple[License, str]]:
    """Return the licenses of an entry line with their numbers."""
    numbers = {name: read_attribute(row.line, name) for name in LICENSES}
    return [(LICENSES[name], number) for name, number in numbers.items() if number is not None]


def find_lumber(row: FactsOfEntry) -> Lumber | None:
    """Return the softwood lumber of an entry line, the amounts of its invoice lines added; None if it declares none."""
    texts = [read_attribute(row.line, name) for name in (LUMBER_PRICE, LUMBER_CHARGE, LUMBER_DECLARED)]
    if texts == [None] * len(texts):
        return None
    lines = to_decimal(str(len(row.goods.line_numbers)))
    price, charge = (None if (one := parse_lumber_amount(text)) is None else multiply(one, lines) for text in texts[:2])
    return Lumber(price, charge, texts[2] == "Y")


def _name_licenses(row: FactsOfEntry) -> list[str]:
    return [f"{license_.name} (type {license_.type}) {number}" for license_, number in list_licenses(row)]


def _record_licenses(row: FactsOfEntry) -> Iterator[tuple[str, dict[str, Datum]]]:
    for license_, number in list_licenses(row):
        yield "52", {"license_type": license_.type, "license_number": number}


def _describe_lumber(row: FactsOfEntry) -> list[str]:
    lumber = find_lumber(row)
    if lumber is None:
        return []
    amounts = (("export price", lumber.price), ("export charge", lumber.charge))
    shown = [f"{name} USD {format_amount(amount, 'USD')}" for name, amount in amounts if amount is not None]
    shown.append(f"declaration {'Y' if lumber.declared else 'missing'}")
    return [f"Softwood lumber: {', '.join(shown)}"]


def _record_lumber(row: FactsOfEntry) -> Iterator[tuple[str, dict[str, Datum]]]:
    lumber = find_lumber(row)
    if lumber is not None:
        declared = "P" if lumber.declared else None
        yield "5401", {"declared": declared, "export_price": lumber.price, "export_charge": lumber.charge}


_LUMBER: Final[Columns[Lumber]] = {
    "softwood_price_usd": lambda lumber: lumber.price,
    "softwood_charge_usd": lambda lumber: lumber.charge,
    "softwood_declaration": lambda lumber: "Y" if lumber.declared else None,
}

#: All declarations, in the order of the worksheet, of the columns and of the entry records.
DECLARATIONS: Final = (
    LineDeclaration(
        block="License or certificate number",
        supplier="the importer, if the goods need one",
        columns={
            "license_type": lambda row: "|".join(license_.type for license_, _ in list_licenses(row)) or None,
            "license_number": lambda row: "|".join(number for _, number in list_licenses(row)) or None,
        },
        list_words=_name_licenses,
        list_records=_record_licenses,
    ),
    LineDeclaration(
        block="Softwood lumber declaration",
        supplier="the importer, if of softwood lumber",
        columns=of_part(find_lumber, _LUMBER),
        list_words=_describe_lumber,
        list_records=_record_lumber,
    ),
)
