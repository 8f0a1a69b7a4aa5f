"""The customs packages of a handoff as rows of a table, in the portal and on the page of a reply link."""

from dataclasses import dataclass

from pipeline.core.money import format_amount
from pipeline.customs.reference.ports import port_rules
from pipeline.deliveries.schemas.to_broker import HandedUnit


@dataclass(frozen=True)
class ShownHandedUnit:
    """A customs package of a handoff, as a person knows it."""

    package: str
    invoice: str
    total: str
    lines: int
    packages: int
    importer: str
    importer_number: str
    port: str


def show_handed_unit(unit: HandedUnit) -> ShownHandedUnit:
    """Return a customs package as a row of a table."""
    importer = unit.parties.importer_of_record
    return ShownHandedUnit(
        package=unit.package_number,
        invoice=unit.invoice.number,
        total=f"{format_amount(unit.totals.invoice_total, unit.invoice.currency)} {unit.invoice.currency}",
        lines=unit.totals.line_count,
        packages=unit.totals.package_count,
        importer=importer.name or unit.parties.buyer.name,
        importer_number=importer.masked_number,
        port=port_rules().ports.describe(unit.entry.port_of_entry),
    )
