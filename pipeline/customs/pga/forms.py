"""Fills in the agencies' forms of a unit, so that a filer can copy them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import zip_longest

from pipeline.customs.pga.answers import FlagAnswer
from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.pga_forms import FormBlock, FormFact, FormLayout
from pipeline.exports.schemas.pga_worksheet import AgencyForm, FormLine, FormValue
from pipeline.exports.schemas.plan import Address, Line, Unit


def build_forms(unit: Unit, answers: Sequence[Sequence[FlagAnswer]], on: date) -> Iterator[AgencyForm]:
    """Yield each form of the day `on` that a line of the unit needs; `answers` are those of each line, in their order."""
    shipment = _shipment_facts(unit, on)
    for layout in (layout for layout in pga_rules().forms if layout.in_force(on)):
        lines = tuple(
            _form_line(layout, number, shipment | _line_facts(unit, line), answer)
            for number, (line, some) in enumerate(zip(unit.lines, answers, strict=True), start=1)
            for answer in some
            if layout.takes(answer.row.agency, answer.program_code)
            and answer.row.disclaimer is None
            and answer.row.data
        )
        if lines:
            yield AgencyForm(
                form=layout.name,
                title=layout.title,
                source=layout.source,
                boxes=tuple(_form_value(block, shipment, {}) for block in layout.boxes),
                columns=tuple(map(_name_block, layout.columns)),
                lines=lines,
            )


def find_uneven_lists(answer: FlagAnswer, on: date) -> tuple[str, Mapping[str, int]] | None:
    """Return the form and the number of values by key if the rows of a form are not clear, or None.

    Two data with several values must have equally many, and then each datum needs as many. One datum alone may have several,
    such as the countries of one species.
    """
    for layout in (each for each in pga_rules().forms if each.in_force(on)):
        if not layout.takes(answer.row.agency, answer.program_code):
            continue
        keys = {key for block in layout.columns if not block.repeats for key in block.elements}
        counts = {asked.key: len(asked.values) for asked in answer.data if asked.key in keys and asked.values}
        if sum(count > 1 for count in counts.values()) > 1 and len({*counts.values()}) > 1:
            return layout.name, counts
    return None


def _form_line(layout: FormLayout, number: int, facts: Mapping[FormFact, str | None], answer: FlagAnswer) -> FormLine:
    given = {asked.key: tuple(map(asked.describe_value, asked.values)) for asked in answer.data}
    codes = {asked.key: tuple(asked.code_of(value) or value for value in asked.values) for asked in answer.data}
    columns = [next((codes[key] for key in block.elements if codes.get(key)), ()) for block in layout.columns]
    count = max(map(len, columns), default=0)
    columns = [
        values * count if block.repeats and len(values) == 1 else values
        for block, values in zip(layout.columns, columns, strict=True)
    ]
    return FormLine(
        number=number,
        boxes=tuple(_form_value(block, facts, given) for block in layout.line_boxes),
        rows=tuple(zip_longest(*columns, fillvalue="")),
    )


def _form_value(
    block: FormBlock, facts: Mapping[FormFact, str | None], given: Mapping[str, tuple[str, ...]]
) -> FormValue:
    values = next((given[key] for key in block.elements if given.get(key)), ())
    value = ", ".join(values) if block.fact is None else facts.get(block.fact)
    from_filer = block.fact is None and block.element is None
    return FormValue(box=_name_block(block), value=value or None, from_filer=from_filer)


def _name_block(block: FormBlock) -> str:
    return block.label if block.box is None else f"{block.box} {block.label}"


def _shipment_facts(unit: Unit, on: date) -> dict[FormFact, str | None]:
    parties, entry = unit.parties, unit.entry
    importer = parties.importer_of_record
    return {
        # The day of entry is that of the arrival, in the time of the entry.
        "arrival_day": None if entry.estimated_arrival_at is None else f"{on:%m/%d/%Y}",
        "entry_day": f"{on:%m/%d/%Y}",
        "port_of_entry": entry.port_of_entry,
        "shipment_control_number": entry.shipment_control_number,
        "importer": importer.name or parties.buyer.name,
        "importer_address": _join_address(importer.address or parties.buyer.address),
        "consignee": parties.ship_to.name,
        "consignee_address": _join_address(parties.ship_to.address),
    }


def _line_facts(unit: Unit, line: Line) -> dict[FormFact, str | None]:
    makers = unit.parties.manufacturers
    return {
        "mid": next((maker.mid for maker in makers if maker.ref == line.manufacturer_ref), None),
        "description": line.description,
        "hts_code": line.hts_code,
    }


def _join_address(address: Address) -> str:
    place = " ".join(part for part in (address.city, address.region, address.postal_code) if part)
    return ", ".join(part for part in (address.line1, address.line2, place, address.country) if part)
