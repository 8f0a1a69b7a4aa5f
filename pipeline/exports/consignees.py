"""Which ultimate consignees receive the goods of each line: by the packages that hold them, and by their orders."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.exports.schemas.plan import Package, Unit


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who receives the goods of one line: places in `ultimateConsignees`, ascending, and whether that is all of the goods."""

    places: tuple[int, ...]
    complete: bool


def list_recipients(unit: Unit) -> list[Recipients]:
    """Return the recipients of each line of the unit.

    Without consignees nobody does. A single consignee that names no order and no package receives everything. Else a package decides for all that is in it,
    then the line's order, then the package's.
    """
    consignees = unit.parties.ultimate_consignees
    if not consignees:
        return [Recipients((), complete=False)] * len(unit.lines)
    if len(consignees) == 1 and not (consignees[0].order_ids or consignees[0].package_refs):
        return [Recipients((0,), complete=True)] * len(unit.lines)
    by_order = {order: place for place, each in enumerate(consignees) for order in each.order_ids}
    by_package = {package: place for place, each in enumerate(consignees) for package in each.package_refs}
    packages = {package.package_ref: package for package in unit.packages}
    own = {line.line_ref: by_order.get(line.order_id or "") for line in unit.lines}
    found: dict[str, set[int | None]] = {line.line_ref: set() for line in unit.lines}
    for package in unit.packages:
        outer = (by_package.get(each) for each in _list_around(package, packages))
        place = next((each for each in outer if each is not None), None)
        for content in package.contents:
            if content.line_ref in found:
                choices = (place, own[content.line_ref], by_order.get(package.order_id or ""))
                found[content.line_ref].add(next((each for each in choices if each is not None), None))
    return [_describe(found[line.line_ref] or {own[line.line_ref]}) for line in unit.lines]


def _describe(places: set[int | None]) -> Recipients:
    return Recipients(tuple(sorted(place for place in places if place is not None)), complete=None not in places)


def _list_around(package: Package, packages: Mapping[str, Package]) -> Iterator[str]:
    """Yield the ref of the package, then of each package around it; a cycle ends, and a check reports it."""
    seen: set[str] = set()
    current: Package | None = package
    while current is not None and current.package_ref not in seen:
        seen.add(current.package_ref)
        yield current.package_ref
        current = packages.get(current.parent_ref or "")
