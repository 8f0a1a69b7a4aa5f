"""Checks whether another export of the account has the same goods, by shipment control number, SSCC and invoice number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, TextClause, bindparam, select, text, update
from sqlmodel import Session

from pipeline.core.clock import add_years
from pipeline.core.db import constants, table
from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports import sscc
from pipeline.exports.models import Export, ExportPackage, ExportUnit
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.states import WITHOUT_GOODS, Outcome

#: For so many years after an export, no other one has its control number or one of its SSCCs.
CONTROL_NUMBER_YEARS: Final = 3
SSCC_YEARS: Final = 1

_CONTROL_NUMBER: Final = (
    "CBP's truck manifest (ACE): a carrier's shipment control number is used once in three years; at second hand"
)
_GS1: Final = "GS1 General Specifications, SSCC: no SSCC is used again within a year"

#: How many other exports with one of several invoice numbers are read.
_MAX_READ: Final = 1_000

_units, _exports, _packages = table(ExportUnit).c, table(Export).c, table(ExportPackage).c


@dataclass
class OutdatedNumbers:
    """Numbers that a new export takes over from others: from cancelled or withdrawn ones, and from those of years ago."""

    keys: list[str] = field(default_factory=list)
    ssccs: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)


def same_goods_columns(units: Sequence[Unit], *, test: bool) -> Iterator[dict[str, str | None]]:
    """Yield the values of each unit's columns by which the same goods are found.

    A test export has no key of a control number, because it must not stop a live export. Units of one plan may share a
    number (C02 warns): only the first has the key, which is unique.
    """
    given: set[str | None] = set()
    for unit in units:
        key = None if test else _control_number_key(unit)
        yield {"control_number_key": None if key in given else key, "invoice_key": _invoice_key(unit, test=test)}
        given.add(key)


def _control_number_key(unit: Unit) -> str | None:
    # Written with and without the carrier's SCAC, it is one number. The parts of a shipment have one, too.
    scac, number, part = unit.entry.carrier_scac, unit.entry.shipment_control_number, unit.entry.part
    if scac is None or number is None:
        return None
    return f"{scac} {number.removeprefix(scac).upper()}" + ("" if part is None else f" {part.number}")


def _invoice_key(unit: Unit, *, test: bool) -> str:
    key = f"{'test' if test else 'live'} {unit.invoice.number} of {unit.parties.seller.name}"
    # Only ASCII, as the databases can do it: a migration wrote the keys of earlier exports.
    return key.encode().lower().decode()


# They must equal the conditions of the indexes, or the indexes are not used.
_KEY_IN_USE: Final = text("control_number_key IS NOT NULL AND NOT released")
_HAS_INVOICE: Final = text("invoice_key IS NOT NULL")
_SSCC_IN_USE: Final = text("NOT released")


def _find_users(key: Any, condition: TextClause, of: str) -> Select[Any]:
    return (
        select(key.label("key"), _exports.id, _exports.batch_id, _exports.outcome, _exports.accepted_at)
        .join(table(Export), _exports.id == _units.export_id)
        .where(
            _units.account_id == bindparam("of_account"),
            condition,
            key.in_(bindparam(of, expanding=True)),
            _exports.batch_id != bindparam("of_batch"),
        )
    )


_same_invoice = (
    _find_users(_units.invoice_key, _HAS_INVOICE, "invoices")
    .where(_exports.outcome.not_in(constants(WITHOUT_GOODS)))
    .limit(bindparam("most"))
    .subquery()
)
_FIND_USERS: Final = _find_users(_units.control_number_key, _KEY_IN_USE, "numbers").union_all(
    select(*(_same_invoice.c[name] for name in ("key", "id", "batch_id", "outcome", "accepted_at")))
)


def _select_outdated(of: Any, number: Any, condition: TextClause) -> tuple[Any, ...]:
    outdated = of.export_id.in_(bindparam("of_exports", expanding=True))
    numbers = number.in_(bindparam("numbers", expanding=True))
    return of.account_id == bindparam("of_account"), condition, numbers, outdated


_FREE_KEYS: Final = (
    update(table(ExportUnit))
    .where(*_select_outdated(_units, _units.control_number_key, _KEY_IN_USE))
    .values(control_number_key=None)
)
_FREE_SSCCS: Final = (
    update(table(ExportPackage)).where(*_select_outdated(_packages, _packages.sscc, _SSCC_IN_USE)).values(released=True)
)


def check_same_goods(
    session: Session, account_id: str, plan: Plan, *, now: datetime, test: bool, replaced: Export | None = None
) -> tuple[list[Finding], OutdatedNumbers]:
    """Return findings for numbers of the plan that other exports of the account have, and the numbers that it may take.

    C06 is a control number, P11 an SSCC and V24-OTHER an invoice number of the same seller. Other revisions of the plan's
    batch do not count, and the plan takes over the SSCCs of the `replaced` export. Test exports are compared with test
    exports, and only by invoice number.
    """
    outdated = OutdatedNumbers()
    found = list(_check_units(session, account_id, plan, outdated, now=now, test=test))
    if not test:
        found += _check_ssccs(session, account_id, plan, outdated, now=now)
    if replaced is not None:
        found += sscc.check_reused(session, replaced, plan, _list_ssccs(plan))
    return found, outdated


def _check_units(
    session: Session, account_id: str, plan: Plan, outdated: OutdatedNumbers, *, now: datetime, test: bool
) -> Iterator[Finding]:
    keys = list(same_goods_columns(plan.units, test=test))
    asked = {
        "of_account": account_id,
        "of_batch": plan.batch_id,
        "numbers": [each["control_number_key"] for each in keys if each["control_number_key"] is not None],
        "invoices": (invoices := list(dict.fromkeys(each["invoice_key"] for each in keys))),
        # Very many exports may have one invoice number.
        "most": 1 if len(invoices) == 1 else _MAX_READ,
    }
    others = {row.key: row for row in session.execute(_FIND_USERS, asked)}
    for index, (unit, key) in enumerate(zip(plan.units, keys, strict=True)):
        number, invoice = others.get(key["control_number_key"]), others.get(key["invoice_key"])
        if number is not None and (number.outcome in WITHOUT_GOODS or _is_over(number, now, CONTROL_NUMBER_YEARS)):
            outdated.keys.append(number.key)
            outdated.exports.append(number.id)
        elif number is not None:
            yield Finding.blocking(
                "C06",
                f"/units/{index}/entry/shipmentControlNumber",
                f"Shipment control number {unit.entry.shipment_control_number} of carrier {unit.entry.carrier_scac} is in "
                f"export {number.id} of batch {number.batch_id}.",
                "Ask the carrier for the number of this shipment. If the goods are the same, amend or cancel the other export.",
                _CONTROL_NUMBER,
            )
        if invoice is not None:
            yield entry_rules().invoice_number.warning(
                "V24-OTHER",
                f"/units/{index}/invoice/number",
                f"Invoice {unit.invoice.number} of {unit.parties.seller.name} is also in export {invoice.id} of batch "
                f"{invoice.batch_id}.",
                "If the goods are the same, amend or cancel the other export. Else give this invoice its own number.",
            )


def _check_ssccs(
    session: Session, account_id: str, plan: Plan, outdated: OutdatedNumbers, *, now: datetime
) -> Iterator[Finding]:
    pointers = _list_ssccs(plan)
    for carrier in sscc.find_carriers(session, account_id, pointers, plan.batch_id):
        if carrier.outcome == Outcome.WITHDRAWN or _is_over(carrier, now, SSCC_YEARS):
            outdated.ssccs.append(carrier.sscc)
            outdated.exports.append(carrier.id)
            continue
        yield Finding.blocking(
            "P11",
            pointers[carrier.sscc],
            f"SSCC {carrier.sscc} is on a package of export {carrier.id} of batch {carrier.batch_id}.",
            "Give the package another SSCC, or cancel the other export.",
            _GS1,
        )


def _list_ssccs(plan: Plan) -> dict[str, str]:
    return {
        package.sscc: f"/units/{index}/packages/{position}/sscc"
        for index, unit in enumerate(plan.units)
        for position, package in enumerate(unit.packages)
        if package.sscc is not None
    }


def _is_over(export: Any, now: datetime, years: int) -> bool:
    over: bool = add_years(export.accepted_at, years) <= now
    return over


def take_numbers(session: Session, account_id: str, outdated: OutdatedNumbers) -> None:
    """Take the numbers from the other exports; only one of several new exports can write them afterwards."""
    of = {"of_account": account_id, "of_exports": outdated.exports}
    for statement, numbers in ((_FREE_KEYS, outdated.keys), (_FREE_SSCCS, outdated.ssccs)):
        if numbers:
            session.execute(statement, of | {"numbers": numbers})
