"""Checks of informal entries to one consignee on one day: in the plan, and in other exports of the account."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from sqlalchemy import select, text
from sqlmodel import Session, col

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain, sum_exact, to_decimal
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.entry import goods_in_usd
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.transport import transport_rules
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.states import ExportState

#: How many batches and units a message names, how many other units are added up, and the keys of one query.
_MAX_NAMED: Final = 5
_MAX_READ: Final = 1_000
_IN_ONE_QUERY: Final = 500


@dataclass(frozen=True)
class InformalUnit:
    """A unit with an informal entry: its day, the digest of its consignee's name and address, and its value in US dollars."""

    on: date
    consignee: str
    usd: Decimal

    @property
    def key(self) -> str:
        """The text that is equal for the entries of one day to one consignee."""
        return f"{self.on.isoformat()} {self.consignee}"


def informal_columns(unit: Unit) -> dict[str, str | None]:
    """Return the values of the unit's columns with which other plans are compared; None if its entry is not informal."""
    entry = read_informal(unit)
    if entry is None:
        return {"informal_key": None, "informal_usd": None}
    return {"informal_key": entry.key, "informal_usd": format_plain(entry.usd)}


def read_informal(unit: Unit) -> InformalUnit | None:
    """Return the unit's informal entry; None if its entry is of another type, or its value in US dollars is not known."""
    if unit.entry.type != entry_rules().informal.type:
        return None
    usd = goods_in_usd(unit)
    if usd is None:
        return None
    party = unit.parties.ship_to
    words = f"{party.name} {party.address.line1} {(party.address.postal_code or '')[:5]}"
    key = "".join(each for each in words.casefold() if each.isalnum())
    return InformalUnit(entry_date(unit), hashlib.sha256(key.encode()).hexdigest(), usd)


def check_one_entry(plan: Plan) -> Iterator[Finding]:
    """Yield where informal entries of the plan, to one consignee on one day, are together above their limit (V27-DAY)."""
    for whole in _group_units(plan):
        # V27 adds up the parts of one shipment.
        group = [(index, entry) for index, entry in whole if plan.units[index].entry.part is None]
        usd = sum_exact(entry.usd for _, entry in group)
        if len(group) > 1 and usd > entry_rules().informal.limit_usd:
            names = [plan.units[index].unit_ref for index, _ in group]
            more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
            shown = ", ".join(names[:_MAX_NAMED]) + more if more else join_words(names)
            yield _build_finding(
                group[-1][0], f"Units {shown} are informal entries to one consignee on {group[0][1].on}", usd
            )


def check_other_exports(session: Session, account_id: str, plan: Plan, *, test: bool) -> list[Finding]:
    """Return where other exports of the account have informal entries to the same consignee on the same day (V27-DAY).

    Cancelled and superseded exports do not count. `test` chooses between the exports of test keys and all others.
    """
    groups = list(_group_units(plan))
    others = _read_others(session, account_id, plan, [group[0][1].key for group in groups], test=test)
    found = []
    for group in groups:
        entry = group[0][1]
        same = others.get(entry.key, [])
        usd = sum_exact([*(each.usd for _, each in group), *(usd for _, usd in same)])
        if same and usd > entry_rules().informal.limit_usd:
            batches = list(dict.fromkeys(batch for batch, _ in same))
            more = f" and {len(batches) - _MAX_NAMED} more" if len(batches) > _MAX_NAMED else ""
            found.append(
                _build_finding(
                    group[0][0],
                    f"Batch {', '.join(batches[:_MAX_NAMED])}{more} also has an informal entry to the consignee of unit "
                    f"{plan.units[group[0][0]].unit_ref} on {entry.on}",
                    usd,
                )
            )
    return found


def _group_units(plan: Plan) -> Iterator[list[tuple[int, InformalUnit]]]:
    groups: dict[str, list[tuple[int, InformalUnit]]] = {}
    for index, unit in enumerate(plan.units):
        entry = read_informal(unit)
        if entry is not None:
            groups.setdefault(entry.key, []).append((index, entry))
    yield from groups.values()


def _read_others(
    session: Session, account_id: str, plan: Plan, keys: Sequence[str], *, test: bool
) -> dict[str, list[tuple[str, Decimal]]]:
    """Return batch id and value of the other exports' informal entries, by the key of their day and consignee."""
    found: dict[str, list[tuple[str, Decimal]]] = {}
    for first in range(0, len(keys), _IN_ONE_QUERY):
        query = (
            select(col(ExportUnit.informal_key), col(Export.batch_id), col(ExportUnit.informal_usd))
            .join(Export, col(Export.id) == col(ExportUnit.export_id))
            .where(
                col(ExportUnit.account_id) == account_id,
                # Must equal the condition of the index, or the index is not used.
                text("informal_key IS NOT NULL"),
                col(ExportUnit.informal_key).in_(keys[first : first + _IN_ONE_QUERY]),
                col(Export.batch_id) != plan.batch_id,
                col(Export.test).is_(test),
                col(Export.state).not_in((ExportState.CANCELLED.value, ExportState.SUPERSEDED.value)),
            )
            .limit(_MAX_READ)
        )
        for key, batch, usd in session.execute(query).all():
            found.setdefault(key, []).append((batch, to_decimal(usd)))
    return {key: sorted(rows) for key, rows in found.items()}


def _build_finding(index: int, problem: str, usd: Decimal) -> Finding:
    informal, one = entry_rules().informal, transport_rules().one_entry
    return Finding(
        rule="V27-DAY",
        severity="warn",
        pointer=f"/units/{index}/entry/type",
        message=f"{problem}, together worth about ${usd:,.2f}, above the ${informal.limit_usd:,} limit of informal entry.",
        remedy="Put the goods on one formal entry (01), or ask the broker whether separate entries are allowed, such as for"
        " separate bills of lading (19 CFR 141.52).",
        source=one.source,
    )
