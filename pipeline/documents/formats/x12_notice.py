"""The ship notice as an X12 856: shipment, orders, packages with their SSCC, and items."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.documents.formats import x12
from pipeline.documents.formats.x12 import MUTUALLY_DEFINED, TransactionSet
from pipeline.documents.formats.x12_invoice import add_dates, add_party, find_unit, list_products
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, PackageRow, PackedLine
from pipeline.documents.schemas.profile import X12Envelope
from pipeline.documents.schemas.values import Printed

#: The order of the levels: shipment, order, packaging, item; or packaging before order.
_ORDERS_FIRST, _PACKAGES_FIRST = "0001", "0003"
_NEW, _REPLACED = "00", "05"
_MOST_DESCRIPTIONS = 200


@dataclass
class _Level:
    """A level of the shipment, with the levels below it."""

    code: str
    package: PackageRow | None = None
    item: PackedLine | None = None
    order: str | None = None
    below: "list[_Level]" = field(default_factory=list)


def build_notice_set(envelope: X12Envelope, invoice: Invoice) -> TransactionSet:
    """Return the transaction set 856 of the unit.

    The packages are below their order. If an outermost package holds goods of several orders, the orders are below the
    packages, as BSN05 says. Raises ValidationFailed if X12 cannot carry a number.
    """
    made = TransactionSet("856", "SH")
    provenance = invoice.provenance
    lines = {line.number: line for line in invoice.lines}
    shipment, structure = _build_tree(invoice, lines)
    purpose = _NEW if provenance.revision == 1 else _REPLACED
    made.add("BSN", purpose, provenance.package_number, invoice.header.invoice_date, "0000", structure)
    count = _add_level(made, shipment, envelope, invoice, lines, 1, None)
    made.add("CTT", count - 1)
    return made


def _build_tree(invoice: Invoice, lines: Mapping[int, InvoiceLine]) -> tuple[_Level, str]:
    inside: dict[str | None, list[PackageRow]] = defaultdict(list)
    for package in invoice.packages:
        inside[package.parent_ref].append(package)
    outermost = inside[None]
    orders = {each.package_ref: {*_list_orders(each, inside, lines)} for each in outermost}
    shipment = _Level("S")
    if any(len(those) > 1 for those in orders.values()):
        shipment.below = [_build_package(each, inside, lines, with_orders=True) for each in outermost]
        return shipment, _PACKAGES_FIRST
    by_order: dict[str | None, list[_Level]] = defaultdict(list)
    for each in outermost:
        order = next(iter(orders[each.package_ref]), each.order_id)
        by_order[order].append(_build_package(each, inside, lines, with_orders=False))
    shipment.below = [_Level("O", order=order, below=below) for order, below in by_order.items()]
    return shipment, _ORDERS_FIRST


def _list_orders(
    package: PackageRow, inside: Mapping[str | None, Sequence[PackageRow]], lines: Mapping[int, InvoiceLine]
) -> Iterable[str | None]:
    for item in package.contents:
        yield lines[item.line_number].order_id or package.order_id
    for each in inside.get(package.package_ref, ()):
        yield from _list_orders(each, inside, lines)


def _build_package(
    package: PackageRow,
    inside: Mapping[str | None, Sequence[PackageRow]],
    lines: Mapping[int, InvoiceLine],
    *,
    with_orders: bool,
) -> _Level:
    within = inside.get(package.package_ref, ())
    level = _Level("T" if within else "P", package=package)
    level.below = [_build_package(each, inside, lines, with_orders=with_orders) for each in within]
    items = [_Level("I", item=item) for item in package.contents]
    if not with_orders:
        level.below += items
        return level
    by_order: dict[str | None, list[_Level]] = defaultdict(list)
    for item in items:
        order = lines[item.item.line_number].order_id if item.item else None
        by_order[order or package.order_id].append(item)
    level.below += [_Level("O", order=order, below=below) for order, below in by_order.items()]
    return level


def _add_level(
    made: TransactionSet,
    level: _Level,
    envelope: X12Envelope,
    invoice: Invoice,
    lines: Mapping[int, InvoiceLine],
    number: int,
    parent: int | None,
) -> int:
    """Add a level and those below it, and return the number of the next level."""
    made.add("HL", number, parent, level.code, "1" if level.below else "0")
    if level.code == "S":
        _add_shipment(made, invoice)
    elif level.code == "O":
        _add_order(made, level.order, invoice)
    elif level.package is not None:
        _add_package(made, level.package)
    elif level.item is not None:
        _add_item(made, level.item, lines[level.item.line_number], envelope)
    following = number + 1
    for each in level.below:
        following = _add_level(made, each, envelope, invoice, lines, following, number)
    return following


def _add_shipment(made: TransactionSet, invoice: Invoice) -> None:
    transport, summary = invoice.transport, invoice.package_summary
    kinds = {_packaging(row.type) for row in invoice.packages if row.parent_ref is None}
    packaging = kinds.pop() if len(kinds) == 1 else None
    made.add("TD1", packaging, summary.outermost_count, *[None] * 3, "G", summary.gross_weight_kg.decimal, "KG")
    if transport.carrier_scac is not None:
        mode = x12.MODES.get(str(transport.mode_of_transport.exact))
        made.add("TD5", None, "2", transport.carrier_scac, mode)
    made.add_reference("CN", transport.shipment_control_number, "SHIPMENT CONTROL NUMBER")
    made.add_reference("IV", invoice.header.number)
    made.add_reference(MUTUALLY_DEFINED, transport.port_of_entry, "PORT OF ENTRY")
    made.add_reference(MUTUALLY_DEFINED, transport.trip_number, "TRIP NUMBER")
    made.add_reference(MUTUALLY_DEFINED, transport.truck_license_plate, "TRUCK")
    for trailer in transport.trailer_numbers:
        made.add_reference(MUTUALLY_DEFINED, trailer, "TRAILER")
    made.add_reference(MUTUALLY_DEFINED, invoice.provenance.plan_hash, "PLAN HASH")
    add_dates(made, transport)
    add_party(made, "SF", invoice.parties.seller)
    add_party(made, "ST", invoice.parties.ship_to)
    add_party(made, "BY", invoice.parties.buyer)


def _add_order(made: TransactionSet, order: str | None, invoice: Invoice) -> None:
    named = order or invoice.header.purchase_order
    if named is None:
        return
    made.add("PRF", named[: x12.NUMBER])
    if len(named) > x12.NUMBER:
        made.add_reference("PO", named)


def _add_package(made: TransactionSet, package: PackageRow) -> None:
    sides = (package.length_cm.decimal, package.width_cm.decimal, package.height_cm.decimal)
    weight = x12.ensure_digits(
        package.gross_weight_kg.decimal, x12.WEIGHT_DIGITS, f"the gross weight of package {package.package_ref}"
    )
    made.add("PO4", None, None, None, _packaging(package.type), "G", weight, "KG", None, None, *sides, "CM")
    made.add_reference(MUTUALLY_DEFINED, package.package_ref, "PACKAGE")
    if package.sscc is not None:
        # The application identifier of an SSCC is a part of what qualifier GM announces.
        made.add("MAN", "GM", f"00{package.sscc}")
    if package.lpn is not None:
        made.add("MAN", "CA", package.lpn[:48])
    if package.tracking_number is not None:
        made.add("MAN", "CP", package.tracking_number[:48])


def _add_item(made: TransactionSet, item: PackedLine, line: InvoiceLine, envelope: X12Envelope) -> None:
    made.add("LIN", line.number, *list_products(line))
    quantity = x12.ensure_digits(item.quantity.decimal, x12.QUANTITY_DIGITS, f"a packed quantity of line {line.number}")
    made.add("SN1", None, quantity, find_unit(line.unit, envelope))
    made.add_texts("PID", ("F", "", "", ""), line.description, x12.DESCRIPTION, _MOST_DESCRIPTIONS)
    made.add_reference("LI", line.line_ref)


def _packaging(kind: Printed) -> str | None:
    """Return the packaging code, which has three to five characters; None for a code of two."""
    code = str(kind.exact)
    return code if len(code) == 3 else None
