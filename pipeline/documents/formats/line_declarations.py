"""What an entry line declares: the number of a license, and the export of softwood lumber; for tables, records and print."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from pipeline.core.money import format_amount, multiply, to_decimal
from pipeline.documents.formats.columns import Cell, read_attributes
from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.line_declarations import (
    LICENSES,
    LUMBER_CHARGE,
    LUMBER_DECLARED,
    LUMBER_PRICE,
    License,
    parse_lumber_amount,
)


class Lumber(NamedTuple):
    """Softwood lumber: export price and charge in US dollars, None if not known, and whether the importer declares them."""

    price: Decimal | None
    charge: Decimal | None
    declared: bool


def list_licenses(merged: MergedLine, invoice: Invoice) -> list[tuple[License, str]]:
    """Return the licenses of an entry line with their numbers."""
    named = _read_shared(merged, invoice)
    return [(license_, named[name]) for name, license_ in LICENSES.items() if name in named]


def find_lumber(merged: MergedLine, invoice: Invoice) -> Lumber | None:
    """Return the softwood lumber of an entry line, the amounts of its invoice lines added; None if it declares none."""
    named = _read_shared(merged, invoice)
    if named.keys().isdisjoint((LUMBER_PRICE, LUMBER_CHARGE, LUMBER_DECLARED)):
        return None
    lines = to_decimal(str(len(merged.line_numbers)))
    price, charge = (parse_lumber_amount(named.get(name)) for name in (LUMBER_PRICE, LUMBER_CHARGE))
    return Lumber(
        None if price is None else multiply(price, lines),
        None if charge is None else multiply(charge, lines),
        named.get(LUMBER_DECLARED) == "Y",
    )


def declaration_columns(merged: MergedLine, invoice: Invoice) -> dict[str, Cell]:
    """Return the declarations of an entry line as column name to value, always with the same columns in the same order."""
    licenses, lumber = list_licenses(merged, invoice), find_lumber(merged, invoice)
    return {
        "license_type": "|".join(license_.type for license_, _ in licenses) or None,
        "license_number": "|".join(number for _, number in licenses) or None,
        "softwood_price_usd": None if lumber is None else lumber.price,
        "softwood_charge_usd": None if lumber is None else lumber.charge,
        "softwood_declaration": "Y" if lumber is not None and lumber.declared else None,
    }


def describe_declarations(merged: MergedLine, invoice: Invoice) -> Iterator[str]:
    """Yield the declarations of an entry line in words."""
    for license_, number in list_licenses(merged, invoice):
        yield f"{license_.name} (type {license_.type}) {number}"
    lumber = find_lumber(merged, invoice)
    if lumber is not None:
        amounts = (("export price", lumber.price), ("export charge", lumber.charge))
        shown = [f"{name} USD {format_amount(amount, 'USD')}" for name, amount in amounts if amount is not None]
        shown.append(f"declaration {'Y' if lumber.declared else 'missing'}")
        yield f"Softwood lumber: {', '.join(shown)}"


def _read_shared(merged: MergedLine, invoice: Invoice) -> dict[str, str]:
    # Merged lines have equal attributes, apart from the number of the order.
    return read_attributes(invoice.lines[merged.line_numbers[0] - 1])
