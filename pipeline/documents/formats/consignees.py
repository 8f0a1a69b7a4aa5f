"""Which ultimate consignee receives a package, and which receive a line, if the entry has several."""

from collections.abc import Iterator, Mapping

from pipeline.documents.schemas.entry_filing import EntryConsignee
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, PackageRow


def list_line_consignees(invoice: Invoice, line: InvoiceLine) -> list[EntryConsignee]:
    """Return the consignees that receive goods of the line; empty if the entry has fewer than two."""
    return [each for each in _list_several(invoice) if line.number in each.line_numbers]


def find_package_consignees(invoice: Invoice) -> Mapping[int, EntryConsignee]:
    """Return the consignee of each package by its number; one whose goods go to several, or to nobody, is missing.

    The package or the nearest one around it decides, then all goods in it, then its order.
    """
    several = _list_several(invoice)
    if not several:
        return {}
    by_number = {package.number: package for package in invoice.packages}
    by_package = {ref: place for place, each in enumerate(several) for ref in each.package_refs}
    by_order = {order: place for place, each in enumerate(several) for order in each.order_ids}
    found: dict[int, set[int]] = {package.number: set() for package in invoice.packages}
    # A package has a lower number than the packages in it.
    for package in reversed(invoice.packages):
        places = found[package.number]
        named = next((by_package[ref] for ref in _list_refs(package, by_number) if ref in by_package), None)
        if named is not None:
            places = {named}
        else:
            lines = {content.line_number for content in package.contents}
            places |= {place for place, each in enumerate(several) if lines & set(each.line_numbers)}
            if not places and package.order_id in by_order:
                places = {by_order[package.order_id]}
        found[package.number] = places
        if package.parent_number in found:
            found[package.parent_number] |= places
    return {number: several[min(places)] for number, places in found.items() if len(places) == 1}


def describe_place(consignee: EntryConsignee) -> str:
    """Return name, city, state and ZIP code of a consignee in one line."""
    address = consignee.address
    return f"{consignee.name}, {' '.join(filter(None, (address.city, address.region, address.postal_code)))}"


def _list_several(invoice: Invoice) -> tuple[EntryConsignee, ...]:
    consignees = () if invoice.filing is None else invoice.filing.consignees
    return consignees if len(consignees) > 1 else ()


def _list_refs(package: PackageRow, by_number: Mapping[int, PackageRow]) -> Iterator[str]:
    current: PackageRow | None = package
    while current is not None:
        yield current.package_ref
        current = None if current.parent_number is None else by_number.get(current.parent_number)
