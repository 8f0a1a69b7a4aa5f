"""Checks of the limits of an entry: its lines, its fields, and the parts of a shipment with several entries."""

from collections.abc import Iterator, Sequence
from datetime import date

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain, round_dollars, sum_exact
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.entry import goods_in_usd, in_usd
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas.plan import Line, Unit


def check_limits(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield where the unit exceeds what one entry of the day `on` holds (E01, E02, E03), and a wrong part (E04)."""
    yield from _check_line_count(unit, pointer, on)
    yield from _check_tariff_numbers(unit, pointer, on)
    yield from _check_values(unit, pointer, on)
    part = unit.entry.part
    if part is not None and int(part.number) > int(part.of):
        yield Finding.blocking(
            "E04",
            f"{pointer}/entry/part/number",
            f"The entry of unit {unit.unit_ref} is part {part.number} of {part.of}.",
            "Number the parts from 1 to the number of parts.",
            _one_entry_source(),
        )


def _check_line_count(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    limit = entry_rules().find_limit("entry lines", on)
    # Merging can only lower the number, so most units need no merge to be judged.
    if limit is None or len(unit.lines) <= limit.most:
        return
    count = len(group_entry_lines(unit))
    if count <= limit.most:
        return
    parts = -(-count // limit.most)
    yield limit.finding(
        "E01",
        f"{pointer}/lines",
        f"Unit {unit.unit_ref} has {count:,} entry lines, after lines with equal customs facts are merged. "
        f"One entry has at most {limit.most:,}.",
        f"Make at least {parts} units of it, each with its own invoice and with entry.part from 1 of {parts} to "
        f"{parts} of {parts}. Ask the broker which reason of 19 CFR 141.52 allows several entries.",
    )


def _check_tariff_numbers(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    limit = entry_rules().find_limit("tariff numbers", on)
    if limit is None:
        return
    for place, line in enumerate(unit.lines):
        count = 1 + (line.chapter98 is not None) + len(line.treatment.chapter99)
        if count > limit.most:
            yield limit.finding(
                "E02",
                f"{pointer}/lines/{place}/treatment/chapter99",
                f"Line {line.line_ref} has {count} tariff numbers with those of chapters 98 and 99. An entry line "
                f"has at most {limit.most}.",
                "Remove headings that do not apply. Otherwise ask the broker how to divide the line.",
            )


def _check_values(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    limit = entry_rules().find_limit("value digits", on)
    if limit is None or not _exceeds(unit, unit.lines, limit.most):
        return
    for number, group in enumerate(group_entry_lines(unit), start=1):
        lines = [unit.lines[each - 1] for each in group]
        if _exceeds(unit, lines, limit.most):
            yield limit.finding(
                "E03",
                f"{pointer}/lines/{group[0] - 1}/lineValue",
                f"Entry line {number} of unit {unit.unit_ref}, from line {lines[0].line_ref}, is worth more US "
                f"dollars than the {limit.most} digits of its field hold.",
                "Correct the values, the currency or the exchange rate. Otherwise divide the goods among several "
                "units, and number them in entry.part.",
            )


def _exceeds(unit: Unit, lines: Sequence[Line], digits: int) -> bool:
    usd = in_usd(sum_exact(line.line_value for line in lines), unit.invoice)
    return usd is not None and len(format_plain(round_dollars(usd))) > digits


def check_parts(units: Sequence[Unit]) -> Iterator[Finding]:
    """Yield each shipment whose parts are not all there once (E04), or are too dear for informal entry (V27).

    The parts of one shipment have the same control number, port, importer and number of parts.
    """
    shipments: dict[tuple[str | None, str, str, int], list[int]] = {}
    for index, unit in enumerate(units):
        entry, part = unit.entry, unit.entry.part
        if part is not None:
            importer = unit.parties.importer_of_record.importer_number
            key = (entry.shipment_control_number, entry.port_of_entry, importer, int(part.of))
            shipments.setdefault(key, []).append(index)
    for (*_, of), places in shipments.items():
        parts = [units[place] for place in places]
        numbers = sorted(int(each.entry.part.number) for each in parts if each.entry.part is not None)
        if numbers != list(range(1, of + 1)):
            yield Finding.warning(
                "E04",
                f"/units/{places[0]}/entry/part",
                f"The shipment of unit {parts[0].unit_ref} has {of} entries, but the plan has the parts "
                f"{', '.join(map(str, numbers))}.",
                "Give each part once, with the same shipment control number, port, importer and number of parts. If "
                "another plan has the other parts, tell the broker.",
                _one_entry_source(),
            )
        yield from _check_informal_parts(parts, places)


def _check_informal_parts(parts: Sequence[Unit], places: Sequence[int]) -> Iterator[Finding]:
    informal = entry_rules().informal
    values = [
        goods_in_usd(unit) for unit in parts if unit.entry.type == informal.type and informal.in_force(entry_date(unit))
    ]
    usd = sum_exact(value for value in values if value is not None)
    if len(values) > 1 and usd > informal.limit_usd:
        yield Finding.warning(
            "V27",
            f"/units/{places[0]}/entry/part",
            f"The informal entries of one shipment, from unit {parts[0].unit_ref}, are worth about ${usd:,.2f} "
            f"together, above the ${informal.limit_usd:,} limit.",
            "Use one formal entry (01). Several informal entries need a reason of 19 CFR 141.52, such as separate "
            "bills of lading: ask the broker.",
            _one_entry_source(),
        )


def _one_entry_source() -> str:
    rule = entry_rules().one_entry
    return "19 CFR 141.51" if rule is None else rule.source
