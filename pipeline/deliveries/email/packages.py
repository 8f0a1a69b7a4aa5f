"""The customs packages of a handoff as sections of its e-mail."""

from collections.abc import Sequence

from pipeline.core.money import format_amount, format_plain
from pipeline.customs.reference.ports import port_rules
from pipeline.deliveries.email.text import Section, format_moment
from pipeline.deliveries.schemas.to_broker import HandedUnit
from pipeline.exports.schemas.entry_filing import Filing, format_entry_number
from pipeline.exports.schemas.parties import UltimateConsignee
from pipeline.exports.schemas.plan import Entry


def build_package(unit: HandedUnit) -> Section:
    """Return the facts of one customs package."""
    invoice, entry, totals = unit.invoice, unit.entry, unit.totals
    importer = unit.parties.importer_of_record
    carrier = [entry.carrier_scac, entry.shipment_control_number]
    rows = [
        ("Invoice", f"{invoice.number} of {invoice.date}"),
        (
            "Total",
            f"{format_amount(totals.invoice_total, invoice.currency)} {invoice.currency}, {invoice.incoterm} {invoice.incoterm_place}",
        ),
        ("Importer of record", f"{importer.name or unit.parties.buyer.name}, {importer.masked_number}"),
        (
            "Entry",
            f"type {entry.type}, port {port_rules().ports.describe(entry.port_of_entry)}, by {entry.mode_of_transport}",
        ),
        ("Filing", _describe_filing(entry.filing)),
        ("Ultimate consignee", _describe_consignees(unit.parties.ultimate_consignees)),
        ("Carrier, shipment", ", ".join(each for each in carrier if each)),
        ("Truck", _describe_truck(entry)),
        ("Export date", str(entry.export_date)),
        ("Estimated arrival", "" if entry.estimated_arrival_at is None else format_moment(entry.estimated_arrival_at)),
        ("Goods", f"{format_count(totals.line_count, 'line')} in {format_count(totals.package_count, 'package')}"),
        ("Weight", f"{format_plain(totals.gross_weight_kg)} kg gross, {format_plain(totals.net_weight_kg)} kg net"),
        ("Treatment digest", unit.treatment_digest),
    ]
    return Section(f"Customs package {unit.package_number}", [(name, value) for name, value in rows if value])


def _describe_filing(filing: Filing | None) -> str:
    if filing is None:
        return ""
    bond, payment = filing.bond, filing.payment
    parts = (
        f"entry number {format_entry_number(filing.entry_number)}" if filing.entry_number else None,
        f"bond type {bond.type}, surety {bond.surety_code or 'not given'}" if bond else None,
        f"payment type {payment.type}" if payment else None,
    )
    return ", ".join(part for part in parts if part)


def _describe_consignees(consignees: Sequence[UltimateConsignee]) -> str:
    if len(consignees) > 1:
        return f"{len(consignees):,} consignees, see the entry worksheet"
    return ", ".join(part for each in consignees for part in (each.name, each.masked_number) if part)


def _describe_truck(entry: Entry) -> str:
    if entry.trip is None:
        return ""
    truck = entry.trip.describe_truck()
    named = [truck.trip_number and f"trip {truck.trip_number}", truck.license_plate and f"plate {truck.license_plate}"]
    return ", ".join(each for each in (*named, *truck.trailer_numbers) if each)


def format_count(number: int, noun: str) -> str:
    """Return such as `1,200 lines`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
