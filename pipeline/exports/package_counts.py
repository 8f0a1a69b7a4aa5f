"""The number and weight of a unit's packages, as every paper, message and file states them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.core.money import sum_exact
from pipeline.exports.schemas.plan import Package, Unit


@dataclass(frozen=True)
class PackageSums:
    """The sums of a unit's packages; weights are in kg.

    `counted` are the outermost packages with goods: what the carrier's manifest counts (19 CFR 4.7a(c)(4), 123.91). A
    pallet is none, so that `counted_weight_kg` is without the pallets. Papers and messages state `packages` and
    `gross_weight_kg`: those of the plan for the manifest, else these. `to_load` are the outermost packages with or
    without goods.
    """

    counted: int
    counted_weight_kg: Decimal
    packages: int
    gross_weight_kg: Decimal
    to_load: int
    loaded_weight_kg: Decimal


def sum_packages(unit: Unit) -> PackageSums:
    """Return the sums of the unit's packages."""
    with_goods = list(_outermost_with_goods(unit.packages))
    outermost = [each for each in unit.packages if each.parent_ref is None]
    counted, weight = len(with_goods), sum_exact(each.gross_weight_kg for each in with_goods)
    return PackageSums(
        counted=counted,
        counted_weight_kg=weight,
        packages=int(unit.entry.manifest_quantity or counted),
        gross_weight_kg=unit.entry.manifest_gross_weight_kg or weight,
        to_load=len(outermost),
        loaded_weight_kg=sum_exact(each.gross_weight_kg for each in outermost),
    )


def _outermost_with_goods(packages: Sequence[Package]) -> Iterator[Package]:
    """Yield the packages with goods that are not inside another such package."""
    # The result of each package is kept, so that deep nesting is walked only once.
    by_ref = {package.package_ref: package for package in packages}
    holds_goods: dict[str, bool] = {}
    for package in packages:
        path: dict[str, None] = {}
        ref = package.parent_ref
        found = False
        while ref is not None and ref in by_ref and ref not in path:
            if ref in holds_goods:
                found = holds_goods[ref]
                break
            path[ref] = None
            if by_ref[ref].contents:
                found = True
                break
            ref = by_ref[ref].parent_ref
        holds_goods.update(dict.fromkeys(path, found))
        if package.contents and not found:
            yield package
