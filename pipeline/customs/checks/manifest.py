"""Checks of packages against the invoice and the carrier's manifest: gross weights and the number of packages."""

from collections.abc import Iterator
from decimal import Decimal

from pipeline.core.findings import Finding
from pipeline.core.money import EXACT, ZERO, format_plain, multiply, sum_exact, to_decimal
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.package_counts import PackageSums, sum_packages
from pipeline.exports.schemas.plan import Unit

_HUNDRED = to_decimal("100")


def check_carriage(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield where the packages of the unit differ from its invoice or from the carrier's manifest (V04, V06)."""
    sums = sum_packages(unit)
    packed = sums.counted_weight_kg
    invoiced = sum_exact(line.gross_weight_kg for line in unit.lines)
    if _differ(packed, invoiced):
        yield Finding.blocking(
            "V04",
            f"{pointer}/packages",
            f"Gross weights of unit {unit.unit_ref} differ: its lines weigh {format_plain(invoiced)} kg, "
            f"its packages {format_plain(packed)} kg.",
            "Correct the gross weights of the lines or of the packages with goods; pallets do not count.",
            "19 CFR 141.86(a)(4), (e)",
        )
    yield from _check_manifest(unit, pointer, sums)


def _check_manifest(unit: Unit, pointer: str, sums: PackageSums) -> Iterator[Finding]:
    packed = sums.counted_weight_kg
    weighed = unit.entry.manifest_gross_weight_kg
    if weighed is not None and _differ(packed, weighed):
        yield Finding.blocking(
            "V04",
            f"{pointer}/entry/manifestGrossWeightKg",
            f"The packages of unit {unit.unit_ref} weigh {format_plain(packed)} kg, but the manifest says "
            f"{format_plain(weighed)} kg.",
            "Correct the weight in the plan or on the carrier's manifest; a difference stops the shipment.",
            "19 CFR 141.86(a)(4), (e)",
        )
    counted = unit.entry.manifest_quantity
    rule = entry_rules().manifest
    if counted is not None and int(counted) != sums.counted:
        yield rule.finding(
            "V06",
            f"{pointer}/entry/manifestQuantity",
            f"Unit {unit.unit_ref} has {sums.counted} packages of goods, but the manifest says {counted}.",
            "Count the outermost packages with goods, not the pallets, and give the same number in both.",
        )


def _differ(one: Decimal, other: Decimal) -> bool:
    tolerance = entry_rules().weights
    apart = EXACT.abs(EXACT.subtract(one, other))
    return apart > tolerance.least_kg and multiply(apart, _HUNDRED) > multiply(max(one, other, ZERO), tolerance.percent)
