"""The packages of an invoice: numbered with each pallet before its contents, and their sums."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.core import money
from pipeline.core.errors import StepFailed
from pipeline.documents.invoice import code_wording, wording
from pipeline.documents.schemas import invoice as out
from pipeline.documents.schemas.invoice import Printed
from pipeline.exports.package_counts import sum_packages
from pipeline.exports.schemas import plan

CM3_IN_M3 = money.to_decimal("0.000001")

#: The most marks that the invoice itself shows.
MAX_MARKS_SHOWN = 8


def package_rows(unit: plan.Unit, ssccs: Mapping[str, str]) -> tuple[out.PackageRow, ...]:
    """Return the packages in the order of loading; raises StepFailed if a content or a parent does not exist."""
    numbered = {line.line_ref: (number, line) for number, line in enumerate(unit.lines, start=1)}
    numbers: dict[str, int] = {}
    rows: list[out.PackageRow] = []
    for depth, package in _walk_packages(unit.packages):
        number = numbers[package.package_ref] = len(rows) + 1
        contents: list[out.PackedLine] = []
        for content in package.contents:
            line_number, line = wording.look_up(numbered, content.line_ref, "line", package.package_ref)
            contents.append(
                out.PackedLine(
                    line_number=line_number,
                    line_ref=line.line_ref,
                    sku=line.sku,
                    description=line.description,
                    quantity=wording.format_number(content.quantity),
                    unit=code_wording.format_packed_unit(line.unit),
                )
            )
        sscc = ssccs.get(package.package_ref) or package.sscc
        sides = (package.length_cm, package.width_cm, package.height_cm)
        rows.append(
            out.PackageRow(
                number=number,
                package_ref=package.package_ref,
                type=code_wording.format_package_type(package.type),
                mark=_package_mark(sscc, package),
                sscc=sscc,
                lpn=package.lpn,
                parent_ref=package.parent_ref,
                parent_number=numbers[package.parent_ref] if package.parent_ref else None,
                depth=depth,
                length_cm=wording.format_number(package.length_cm),
                width_cm=wording.format_number(package.width_cm),
                height_cm=wording.format_number(package.height_cm),
                size_shown=" x ".join(wording.group_digits(side) for side in sides),
                gross_weight_kg=wording.format_number(package.gross_weight_kg),
                tare_weight_kg=wording.format_number(package.tare_weight_kg),
                tracking_number=package.tracking_number,
                order_id=package.order_id,
                contents=tuple(contents),
            )
        )
    return tuple(rows)


def _walk_packages(packages: Sequence[plan.Package]) -> Iterator[tuple[int, plan.Package]]:
    # Yields each package with its depth, parents before their contents. No recursion: the depth is not limited.
    carried: dict[str | None, list[plan.Package]] = {}
    for package in packages:
        carried.setdefault(package.parent_ref, []).append(package)
    seen = 0
    stack = [(0, package) for package in reversed(carried.get(None, []))]
    while stack:
        depth, package = stack.pop()
        seen += 1
        yield depth, package
        stack.extend((depth + 1, inner) for inner in reversed(carried.get(package.package_ref, [])))
    if seen != len(packages):
        raise StepFailed(
            "parentRef of some packages names a package that the unit does not have, or forms a circle; correct parentRef."
        )


def package_summary(unit: plan.Unit, rows: Sequence[out.PackageRow]) -> out.PackageSummary:
    """Return the sums of the unit's packages; `rows` are the same packages with their numbers."""
    packages, sums = unit.packages, sum_packages(unit)
    outermost = [package for package in packages if package.parent_ref is None]
    counts: dict[str, int] = {}
    for package in packages:
        counts[package.type] = counts.get(package.type, 0) + 1
    volume = money.sum_exact(
        money.multiply(money.multiply(money.multiply(box.length_cm, box.width_cm), box.height_cm), CM3_IN_M3)
        for box in outermost
    )
    by_type = tuple(
        out.PackageTypeTotal(type=code_wording.format_package_type(code), count=count)
        for code, count in sorted(counts.items())
    )
    shown_types = ", ".join(f"{row.count:,} {row.type.shown}{'' if row.count == 1 else 's'}" for row in by_type)
    return out.PackageSummary(
        count=len(packages),
        outermost_count=sums.to_load,
        manifest_count=sums.packages,
        manifest_weight_kg=wording.format_number(sums.gross_weight_kg),
        by_type=by_type,
        gross_weight_kg=wording.format_number(sums.loaded_weight_kg),
        volume_m3=Printed(volume, f"{volume:,.3f}"),
        marks_shown=_marks(rows),
        shown=shown_types
        if len(outermost) == len(packages)
        else f"{shown_types}; {len(outermost):,} handling unit{'' if len(outermost) == 1 else 's'} to load",
    )


def _marks(rows: Sequence[out.PackageRow]) -> str:
    # An invoice must show marks and numbers (19 CFR 141.86(a)(3)); it refers to the packing list if there are many.
    if len(rows) > MAX_MARKS_SHOWN:
        return f"numbers 1-{len(rows):,} with their marks on the packing list"
    # Non-breaking spaces keep a number and its mark on one line.
    return ", ".join(f"{row.number}: {row.mark.shown}".replace(" ", "\u00a0") for row in rows)


def _package_mark(sscc: str | None, package: plan.Package) -> Printed:
    if sscc:
        return Printed(sscc, f"SSCC {sscc}")
    return (
        Printed(package.lpn, f"LPN {package.lpn}") if package.lpn else Printed(package.package_ref, package.package_ref)
    )
