"""Checks of informal entries to one consignee on one day: in the plan, and in other exports of the account."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from sqlalchemy import select, text
from sqlmodel import Session, col

from pipeline.core.field_types import is_social_security_number
from pipeline.core.findings import Finding
from pipeline.core.money import format_plain, sum_exact, to_decimal
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.entry import in_usd
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.transport import transport_rules
from pipeline.exports.consignees import Recipients, list_recipients
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.schemas.parties import Party, UltimateConsignee
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.states import WITHOUT_GOODS

#: How many batches and units a message names, how many other units are added up, and the keys of one query.
_MAX_NAMED: Final = 5
_MAX_READ: Final = 1_000
_IN_ONE_QUERY: Final = 500

#: Stands in the key of an entry in the place of its consignee's digest.
_SEVERAL: Final = "several"


@dataclass(frozen=True)
class InformalGoods:
    """Goods of an informal entry for one consignee: their day, its name and the digest that names it, their US dollars."""

    on: date
    name: str
    consignee: str
    usd: Decimal

    @property
    def key(self) -> str:
        """The text that is equal for the entries of one day to one consignee."""
        return f"{self.on.isoformat()} {self.consignee}"


def informal_columns(unit: Unit) -> dict[str, str | None]:
    """Return the values of the unit's columns with which other plans are compared; None if its entry is not informal.

    An entry for several consignees is found by its day, and its values are a JSON object, by the digest of the consignee.
    """
    found = read_informal(unit)
    if not found:
        return {"informal_key": None, "informal_usd": None}
    if len(found) == 1:
        return {"informal_key": found[0].key, "informal_usd": format_plain(found[0].usd)}
    values = {each.consignee: format_plain(each.usd) for each in found}
    return {"informal_key": _find_key_of_several(found[0].on), "informal_usd": json.dumps(values)}


def read_informal(unit: Unit) -> list[InformalGoods]:
    """Return the goods of the unit's informal entry by consignee: the ultimate consignee, else the ship-to party.

    Empty if the entry is of another type, or if the invoice has no exchange rate. A line for several consignees does not
    count: F02 asks to divide it.
    """
    if unit.entry.type != entry_rules().informal.type:
        return []
    values: dict[str, list[Decimal]] = {}
    names: dict[str, str] = {}
    for line, recipients in zip(unit.lines, list_recipients(unit), strict=True):
        if len(recipients.places) > 1 or (recipients.places and not recipients.complete):
            continue
        name, key = _identify(unit, recipients)
        names.setdefault(key, name)
        values.setdefault(key, []).append(line.line_value)
    found = ((key, in_usd(sum_exact(each), unit.invoice)) for key, each in values.items())
    return [InformalGoods(entry_date(unit), names[key], key, usd) for key, usd in found if usd is not None]


def _identify(unit: Unit, recipients: Recipients) -> tuple[str, str]:
    """Return the name of who receives a line, and the digest of its number, or of its name and address."""
    parties = unit.parties
    party: Party | UltimateConsignee = parties.ship_to
    number = None
    if recipients.places:
        party = consignee = parties.ultimate_consignees[recipients.places[0]]
        number = parties.importer_of_record.importer_number if consignee.same_as_importer else consignee.number
    words = f"{party.name} {party.address.line1} {(party.address.postal_code or '')[:5]}"
    # Nine digits are found from their digest by trying all.
    if number is not None and not is_social_security_number(number):
        words = f"number {number}"
    key = "".join(each for each in words.casefold() if each.isalnum())
    return party.name, hashlib.sha256(key.encode()).hexdigest()


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
                group[-1][0],
                f"Units {shown} have informal entries for consignee {group[0][1].name} on {group[0][1].on}",
                usd,
            )


def check_other_exports(session: Session, account_id: str, plan: Plan, *, test: bool) -> list[Finding]:
    """Return where other exports of the account have informal entries to the same consignee on the same day (V27-DAY).

    Cancelled and superseded exports do not count. `test` chooses between the exports of test keys and all others.
    """
    groups = list(_group_units(plan))
    keys = dict.fromkeys(key for (_, entry), *_ in groups for key in (entry.key, _find_key_of_several(entry.on)))
    others = _read_others(session, account_id, plan, list(keys), test=test)
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
                    f"Batch {', '.join(batches[:_MAX_NAMED])}{more} also has an informal entry for consignee {entry.name} of "
                    f"unit {plan.units[group[0][0]].unit_ref} on {entry.on}",
                    usd,
                )
            )
    return found


def _find_key_of_several(on: date) -> str:
    return f"{on.isoformat()} {_SEVERAL}"


def _group_units(plan: Plan) -> Iterator[list[tuple[int, InformalGoods]]]:
    groups: dict[str, list[tuple[int, InformalGoods]]] = {}
    for index, unit in enumerate(plan.units):
        for entry in read_informal(unit):
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
                col(Export.outcome).not_in([each.value for each in WITHOUT_GOODS]),
            )
            .limit(_MAX_READ)
        )
        for key, batch, usd in session.execute(query).all():
            on, _, consignee = key.partition(" ")
            values = json.loads(usd) if consignee == _SEVERAL else {consignee: usd}
            for each, value in values.items():
                found.setdefault(f"{on} {each}", []).append((batch, to_decimal(value)))
    return {key: sorted(rows) for key, rows in found.items()}


def _build_finding(index: int, problem: str, usd: Decimal) -> Finding:
    informal, one = entry_rules().informal, transport_rules().one_entry
    return one.warning(
        "V27-DAY",
        f"/units/{index}/entry/type",
        f"{problem}, together worth about ${usd:,.2f}, above the ${informal.limit_usd:,} limit of informal entry.",
        "Put the goods on one formal entry (01), or ask the broker whether separate entries are allowed, such as for"
        " separate bills of lading (19 CFR 141.52).",
    )
