"""Package records: the checks of a plan's packages, their SSCCs, and their rows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import bindparam, insert, update
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.errors import StepFailed
from pipeline.core.findings import Finding
from pipeline.core.money import format_plain, sum_exact
from pipeline.exports import sscc
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import ExportPackage as PackageRow
from pipeline.exports.models import ExportUnit
from pipeline.exports.numbers import take_numbers
from pipeline.exports.schemas.plan import Package, Plan, Unit
from pipeline.exports.sscc import is_sscc, issue_sscc, sscc_check_digit
from pipeline.exports.step_context import StepContext, load_unit_row, parse_unit

_GS1 = "GS1 General Specifications, SSCC"
#: The most packages that one finding names; a line may be in thousands.
_MAX_NAMED: Final = 4
_PACKING = "19 CFR 141.86(e): a packing list states what each package holds"


def package_number(serial: int) -> str:
    """Return the account's customs package number for this serial."""
    return f"CP-{serial:06d}"


def check_plan(plan: Plan) -> list[Finding]:
    """Return the findings about the plan's packages, in each unit and across the units."""
    findings = [finding for index, unit in enumerate(plan.units) for finding in check_packages(unit, index)]
    seen: dict[str, str] = {}
    for index, unit in enumerate(plan.units):
        for position, package in enumerate(unit.packages):
            for kind, number in (("SSCC", package.sscc), ("LPN", package.lpn)):
                if number is None:
                    continue
                here = f"/units/{index}/packages/{position}"
                first = seen.setdefault(f"{kind} {number}", here)
                if first != here:
                    findings.append(_duplicate_finding(kind, number, package, f"{here}/{kind.lower()}"))
    return findings


def check_packages(unit: Unit, unit_index: int) -> list[Finding]:
    """Return the findings about the packages of one unit: names, nesting, numbers, weights and contents."""
    base = f"/units/{unit_index}"
    by_ref: dict[str, Package] = {}
    findings: list[Finding] = []
    for position, package in enumerate(unit.packages):
        if package.package_ref in by_ref:
            findings.append(
                Finding.blocking(
                    "P01",
                    f"{base}/packages/{position}/packageRef",
                    f"Package {package.package_ref} is in the unit twice.",
                    "Give every package a different packageRef.",
                    _PACKING,
                )
            )
        by_ref.setdefault(package.package_ref, package)
    holders = {package.parent_ref for package in unit.packages}
    cycles = _find_cycles(by_ref)
    lines = {line.line_ref: line.quantity for line in unit.lines}
    for position, package in enumerate(unit.packages):
        findings += _package_findings(
            package,
            f"{base}/packages/{position}",
            by_ref,
            lines,
            is_holder=package.package_ref in holders,
            in_cycle=package.package_ref in cycles,
        )
    findings += _weight_findings(unit, base)
    findings += _quantity_findings(unit, base)
    return findings


def _package_findings(
    package: Package,
    pointer: str,
    by_ref: Mapping[str, Package],
    lines: Mapping[str, Decimal],
    *,
    is_holder: bool,
    in_cycle: bool,
) -> Iterator[Finding]:
    ref = package.package_ref
    if package.parent_ref is not None and package.parent_ref not in by_ref:
        yield Finding.blocking(
            "P02",
            f"{pointer}/parentRef",
            f"Package {ref} is on or in {package.parent_ref}, which is not a package of the unit.",
            "Add the pallet or outer package to the unit's packages, or set parentRef to null.",
            _PACKING,
        )
    if in_cycle:
        yield Finding.blocking(
            "P03",
            f"{pointer}/parentRef",
            f"Package {ref} contains itself, through its parents.",
            "Let parentRef point outwards, from carton to pallet; the outermost package has no parent.",
            _PACKING,
        )
    if package.sscc is not None and not is_sscc(package.sscc):
        yield Finding.blocking(
            "P04",
            f"{pointer}/sscc",
            f"{package.sscc} is not an SSCC: its check digit should be {sscc_check_digit(package.sscc[:17])}.",
            "Read the number on the label again; put a number of your own that is not an SSCC into lpn.",
            _GS1,
        )
    if package.tare_weight_kg > package.gross_weight_kg:
        yield Finding.blocking(
            "P06",
            f"{pointer}/tareWeightKg",
            f"Package {ref} weighs {format_plain(package.tare_weight_kg)} kg empty, "
            f"more than its gross weight of {format_plain(package.gross_weight_kg)} kg.",
            "Correct the tare or the gross weight.",
        )
    if not package.contents and not is_holder:
        yield Finding.blocking(
            "P07",
            f"{pointer}/contents",
            f"Package {ref} holds no goods and no other package.",
            "Name the invoice lines that it holds, or remove the package.",
            _PACKING,
        )
    named: set[str] = set()
    for position, content in enumerate(package.contents):
        if content.line_ref not in lines:
            yield Finding.blocking(
                "P08",
                f"{pointer}/contents/{position}/lineRef",
                f"Package {ref} holds goods of line {content.line_ref}, which is not on the invoice.",
                "Add the line to the invoice, or remove the goods from the package.",
                _PACKING,
            )
        if content.line_ref in named:
            yield Finding.blocking(
                "P09",
                f"{pointer}/contents/{position}/lineRef",
                f"Package {ref} names line {content.line_ref} twice.",
                "Name each line once per package, with the whole quantity in it.",
                _PACKING,
            )
        named.add(content.line_ref)


def _find_cycles(by_ref: Mapping[str, Package]) -> set[str]:
    """Return the packages that contain themselves, without those that are only on or in one of them."""
    # Each package is visited once, so that a high tower of packages does not take long.
    done: set[str] = set()
    cycles: set[str] = set()
    for start in by_ref:
        path: dict[str, int] = {}
        ref: str | None = start
        while ref is not None and ref in by_ref and ref not in done and ref not in path:
            path[ref] = len(path)
            ref = by_ref[ref].parent_ref
        if ref is not None and ref in path:
            cycles.update(list(path)[path[ref] :])
        done.update(path)
    return cycles


def _weight_findings(unit: Unit, base: str) -> Iterator[Finding]:
    held: dict[str, list[Decimal]] = defaultdict(list)
    for package in unit.packages:
        if package.parent_ref is not None:
            held[package.parent_ref].append(package.gross_weight_kg)
    for position, package in enumerate(unit.packages):
        inside = sum_exact(held.get(package.package_ref, ()))
        if inside > package.gross_weight_kg:
            yield Finding.blocking(
                "P06",
                f"{base}/packages/{position}/grossWeightKg",
                f"Package {package.package_ref} weighs {format_plain(package.gross_weight_kg)} kg, "
                f"but the packages on or in it weigh {format_plain(inside)} kg.",
                "Give the gross weight with everything that is on or in the package.",
            )


def _quantity_findings(unit: Unit, base: str) -> Iterator[Finding]:
    packed: dict[str, list[tuple[str, Decimal]]] = defaultdict(list)
    for package in unit.packages:
        for content in package.contents:
            packed[content.line_ref].append((package.package_ref, content.quantity))
    for position, line in enumerate(unit.lines):
        held = packed.get(line.line_ref, [])
        in_packages = sum_exact(quantity for _, quantity in held)
        if in_packages != line.quantity:
            yield Finding.blocking(
                "P10",
                f"{base}/lines/{position}/quantity",
                f"Line {line.line_ref} invoices {format_plain(line.quantity)} {line.unit} of {line.sku}, "
                f"but the packages hold {format_plain(in_packages)}: {_describe_holders(held)}.",
                "Correct the line's quantity or the contents of the packages; they must be equal.",
                _PACKING,
            )


def _describe_holders(held: Sequence[tuple[str, Decimal]]) -> str:
    if not held:
        return "no package names the line"
    named = [f"{package} holds {format_plain(quantity)}" for package, quantity in held[:_MAX_NAMED]]
    return ", ".join(named) + (
        f", and {len(held) - _MAX_NAMED} more packages hold the rest" if len(held) > _MAX_NAMED else ""
    )


def _duplicate_finding(kind: str, number: str, package: Package, pointer: str) -> Finding:
    return Finding.blocking(
        "P05",
        pointer,
        f"{kind} {number} of package {package.package_ref} is also on another package of the plan.",
        f"Give every package a different {kind}.",
        _GS1 if kind == "SSCC" else None,
    )


_units = table(ExportUnit).c
_SET_PACKAGE_NUMBER: Final = (
    update(table(ExportUnit))
    .where(_units.export_id == bindparam("of_export"), _units.unit_no == bindparam("of_unit"))
    .values(package_number=bindparam("number"))
)
_INSERT_PACKAGES: Final = insert(table(PackageRow))


def record_packages(session: Session, context: StepContext, _: object = None) -> Sequence[NewEvent]:
    """Number the unit's customs package and write its packages, each with an SSCC if the account can issue them.

    A newer revision keeps the numbers that it takes over. Raises StepFailed if the account's GS1 prefix has no serials left.
    """
    row = load_unit_row(session, context)
    unit = parse_unit(row)
    reused = sscc.find_reused(session, context, context.revision, unit) if context.revision > 1 else {}
    unlabelled = sum(1 for package in unit.packages if package.sscc is None) - len(reused)
    taken = take_numbers(session, context.account_id, packages=1 if row.package_number is None else 0, ssccs=unlabelled)
    number = row.package_number or package_number(taken.package)
    if row.package_number is None:
        here = {"of_export": context.export_id, "of_unit": context.unit_no}
        session.execute(_SET_PACKAGE_NUMBER, here | {"number": number})
    first_serial = taken.sscc - unlabelled + 1
    try:
        ssccs = assign_ssccs(unit, reused, taken.gs1_prefix, first_serial)
    except ValueError as error:
        raise StepFailed(f"no SSCC can be issued: {error}") from error
    rows = package_rows(
        unit, ssccs, export_id=context.export_id, unit_no=context.unit_no, account_id=context.account_id
    )
    # SSCCs of a test export are released at once, so that live packages may carry the same.
    session.execute(_INSERT_PACKAGES, [row | {"released": context.test} for row in rows])
    positions = {package.package_ref: position for position, package in enumerate(unit.packages, start=1)}
    data = {
        "unitNo": context.unit_no,
        "unitRef": row.unit_ref,
        "customsPackageId": row.customs_package_id,
        "packageNumber": number,
        "packages": len(rows),
        "ssccsIssued": unlabelled if taken.gs1_prefix else 0,
        **({"ssccPrefix": taken.gs1_prefix, "firstSerial": first_serial} if taken.gs1_prefix and unlabelled else {}),
        **({"ssccsReused": len(reused)} if reused else {}),
        **({"reusedSsccs": sorted([positions[ref], sscc] for ref, sscc in reused.items())} if reused else {}),
    }
    return (NewEvent(EventType.PACKAGES_RECORDED, data),)


def assign_ssccs(unit: Unit, reused: Mapping[str, str], gs1_prefix: str | None, first_serial: int) -> dict[str, str]:
    """Return the SSCCs of the unit's packages by packageRef: from the plan, taken over, or newly issued.

    A package without an SSCC is left out. Raises ValueError if the prefix has no serials left.
    """
    serial = first_serial
    ssccs = {}
    for package in unit.packages:
        sscc = package.sscc or reused.get(package.package_ref)
        if sscc is None and gs1_prefix is not None:
            sscc = issue_sscc(gs1_prefix, serial)
            serial += 1
        if sscc is not None:
            ssccs[package.package_ref] = sscc
    return ssccs


def package_rows(
    unit: Unit, ssccs: Mapping[str, str], *, export_id: str, unit_no: int, account_id: str
) -> list[dict[str, Any]]:
    """Return the rows of the unit's packages, in the order of the plan."""
    keys = {"export_id": export_id, "unit_no": unit_no, "account_id": account_id}
    return [
        keys | _package_row(position, package, ssccs.get(package.package_ref))
        for position, package in enumerate(unit.packages, start=1)
    ]


def _package_row(position: int, package: Package, sscc: str | None) -> dict[str, Any]:
    return {
        "package_ref": package.package_ref,
        "position": position,
        "type": package.type,
        "sscc": sscc,
        "sscc_issued": package.sscc is None and sscc is not None,
        "lpn": package.lpn,
        "parent_ref": package.parent_ref,
        "length_cm": format_plain(package.length_cm),
        "width_cm": format_plain(package.width_cm),
        "height_cm": format_plain(package.height_cm),
        "gross_weight_kg": format_plain(package.gross_weight_kg),
        "tare_weight_kg": format_plain(package.tare_weight_kg),
        "tracking_number": package.tracking_number,
        "order_id": package.order_id,
        "contents": [{"lineRef": c.line_ref, "quantity": format_plain(c.quantity)} for c in package.contents],
    }
