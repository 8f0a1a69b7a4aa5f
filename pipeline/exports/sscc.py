"""SSCCs: how they are issued and checked, and how an unchanged package keeps its SSCC in a newer revision."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from sqlalchemy import exists, select, text
from sqlmodel import Session, col

from pipeline.core.findings import Finding
from pipeline.exports.models import Export, ExportPackage, ExportUnit
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.step_context import StepContext, parse_unit

#: The most SSCCs of one query: databases limit the parameters of a statement.
_IN_ONE_QUERY: Final = 1_000

#: The lengths of a GS1 company prefix.
PREFIX_LENGTHS: Final = range(4, 13)

#: The direct contents of a package: its goods by line, SKU and quantity, and the packages in it.
_Contents = tuple[frozenset[tuple[str, str, Decimal]], frozenset[str]]


def find_reused(session: Session, export: Export | StepContext, revision: int, unit: Unit) -> dict[str, str]:
    """Return the SSCCs, by packageRef, that packages of the unit keep from revisions of the export before `revision`.

    A package keeps an SSCC that the service issued in the newest earlier revision that recorded the unit. The package must
    have the same name and the same contents as then. It does not keep the SSCC if the plan now gives it one, or if another
    batch carries it now.
    """
    before = session.scalars(
        select(ExportUnit)
        .join(Export, col(Export.id) == col(ExportUnit.export_id))
        .where(
            col(Export.account_id) == export.account_id,
            col(Export.batch_id) == export.batch_id,
            col(Export.test) == export.test,
            col(Export.revision) < revision,
            col(ExportUnit.unit_ref) == unit.unit_ref,
            exists().where(
                col(ExportPackage.export_id) == col(ExportUnit.export_id),
                col(ExportPackage.unit_no) == col(ExportUnit.unit_no),
            ),
        )
        .order_by(col(Export.revision).desc())
        .limit(1)
    ).first()
    if before is None:
        return {}
    issued = dict(
        session.execute(
            select(col(ExportPackage.package_ref), col(ExportPackage.sscc)).where(
                col(ExportPackage.export_id) == before.export_id,
                col(ExportPackage.unit_no) == before.unit_no,
                col(ExportPackage.sscc_issued).is_(True),
            )
        ).all()
    )
    if not issued:
        return {}
    same = same_packages(parse_unit(before), unit)
    reused = {
        package.package_ref: issued[package.package_ref]
        for package in unit.packages
        if package.sscc is None and package.package_ref in issued and package.package_ref in same
    }
    elsewhere = {each.sscc for each in find_carriers(session, export.account_id, reused.values(), export.batch_id)}
    return {ref: sscc for ref, sscc in reused.items() if sscc not in elsewhere}


class Carrier(NamedTuple):
    """An SSCC, and the export that has a package with it."""

    sscc: str
    id: str
    batch_id: str
    accepted_at: datetime
    outcome: str


def find_carriers(session: Session, account_id: str, numbers: Iterable[str], except_batch: str) -> Iterator[Carrier]:
    """Yield the given SSCCs that packages of the account carry now, each with its export; leave out `except_batch`."""
    asked = list(numbers)
    for first in range(0, len(asked), _IN_ONE_QUERY):
        query = (
            select(
                col(ExportPackage.sscc),
                col(Export.id),
                col(Export.batch_id),
                col(Export.accepted_at),
                col(Export.outcome),
            )
            .join(Export, col(Export.id) == col(ExportPackage.export_id))
            .where(
                col(ExportPackage.account_id) == account_id,
                col(ExportPackage.sscc).in_(asked[first : first + _IN_ONE_QUERY]),
                # Must equal the condition of the index on SSCCs, or the index is not used.
                text("NOT released"),
                col(Export.batch_id) != except_batch,
            )
        )
        yield from (Carrier(*row) for row in session.execute(query).all())


def check_reused(session: Session, replaced: Export, plan: Plan, pointers: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings for SSCCs of the plan that another of its packages keeps; `pointers` are their places in the plan."""
    issued = _units_with_issued(session, replaced, list(pointers))
    for unit in plan.units:
        if unit.unit_ref not in issued:
            continue
        reused = find_reused(session, replaced, replaced.revision + 1, unit)
        for ref, sscc in reused.items():
            if sscc in pointers:
                yield Finding.blocking(
                    "P11",
                    pointers[sscc],
                    f"SSCC {sscc} was issued to package {ref} of {unit.unit_ref}, which has not changed and keeps it.",
                    f"Give the package another SSCC, or give {ref} another one.",
                    "GS1 General Specifications, SSCC",
                )


def _units_with_issued(session: Session, replaced: Export, numbers: list[str]) -> set[str]:
    """Return the unitRefs of the units to which a revision of the batch issued any of these SSCCs."""
    found: set[str] = set()
    for first in range(0, len(numbers), _IN_ONE_QUERY):
        found.update(
            session.scalars(
                select(col(ExportUnit.unit_ref))
                .join(
                    ExportPackage,
                    (col(ExportPackage.export_id) == col(ExportUnit.export_id))
                    & (col(ExportPackage.unit_no) == col(ExportUnit.unit_no)),
                )
                .join(Export, col(Export.id) == col(ExportUnit.export_id))
                .where(
                    col(Export.account_id) == replaced.account_id,
                    col(Export.batch_id) == replaced.batch_id,
                    col(Export.test) == replaced.test,
                    col(ExportPackage.sscc).in_(numbers[first : first + _IN_ONE_QUERY]),
                    col(ExportPackage.sscc_issued).is_(True),
                )
            )
        )
    return found


def same_packages(before: Unit, now: Unit) -> set[str]:
    """Return the packageRefs of the packages of `now` that have exactly the same contents as in `before`."""
    held_before, held_now = _contents_by_package(before), _contents_by_package(now)
    alike = {ref for ref, held in held_now.items() if held_before.get(ref) == held}
    # All outer packages of a changed package have changed as well.
    parents = {package.package_ref: package.parent_ref for package in now.packages}
    for ref in held_now.keys() - alike:
        outer = parents[ref]
        while outer is not None and outer in alike:
            alike.discard(outer)
            outer = parents.get(outer)
    return alike


def _contents_by_package(unit: Unit) -> dict[str, _Contents]:
    skus = {line.line_ref: line.sku for line in unit.lines}
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for package in unit.packages:
        if package.parent_ref is not None:
            inside[package.parent_ref].add(package.package_ref)
    return {
        package.package_ref: (
            frozenset((c.line_ref, skus.get(c.line_ref, ""), c.quantity) for c in package.contents),
            frozenset(inside[package.package_ref]),
        )
        for package in unit.packages
    }


def sscc_check_digit(body: str) -> str:
    """Return the check digit for the first 17 digits of an SSCC: modulo 10, weights 3 and 1 from the right."""
    weighed = sum(int(digit) * (3 if position % 2 == 0 else 1) for position, digit in enumerate(reversed(body)))
    return str(-weighed % 10)


def is_sscc(text: str) -> bool:
    """Return whether `text` is 18 digits and the last is the check digit of the others."""
    return len(text) == 18 and text.isascii() and text.isdigit() and text[17] == sscc_check_digit(text[:17])


def issue_sscc(gs1_prefix: str, serial: int, extension: int = 0) -> str:
    """Return the SSCC for `serial`: extension digit, company prefix, serial reference, check digit.

    Raises ValueError if the prefix is not 4 to 12 digits, or leaves too few digits for the serial.
    """
    if not (len(gs1_prefix) in PREFIX_LENGTHS and gs1_prefix.isascii() and gs1_prefix.isdigit()):
        raise ValueError(f"a GS1 company prefix must have 4 to 12 digits, not {gs1_prefix!r}")
    digits = _serial_digits(gs1_prefix)
    if not 0 <= serial < 10**digits:
        raise ValueError(
            f"the GS1 company prefix {gs1_prefix} leaves {digits} digits for a serial, too few for {serial}"
        )
    body = f"{extension:d}{gs1_prefix}{serial:0{digits}d}"
    return body + sscc_check_digit(body)


def last_serial(gs1_prefix: str) -> int:
    """Return the last serial that the company prefix can issue; the first is 1."""
    return int(10 ** _serial_digits(gs1_prefix)) - 1


def _serial_digits(gs1_prefix: str) -> int:
    return 16 - len(gs1_prefix)
