"""Groups the lines of an invoice into entry lines: the one numbering that all documents and checks use."""

from __future__ import annotations

from typing import Final

from pipeline.core.money import ZERO
from pipeline.exports.consignees import list_recipients
from pipeline.exports.schemas.plan import Line, Treatment, Unit

#: The attribute of a line with the number that the account knows its order by. It says nothing about the goods.
ORDER_NUMBER: Final = "orderNumber"


def group_entry_lines(unit: Unit) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the invoice lines of each entry line; both count from 1, in the order of the invoice.

    Lines of one code, origin, manufacturer, preference, treatment and ultimate consignee are one entry line: only their
    quantities, values and weights differ, and these add up.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    recipients = list_recipients(unit)
    for number, (line, each) in enumerate(zip(unit.lines, recipients, strict=True), start=1):
        groups.setdefault((each.places, *_merge_key(line)), []).append(number)
    return tuple(map(tuple, groups.values()))


def _merge_key(line: Line) -> tuple[object, ...]:
    claim = line.chapter98
    return (
        line.hts_code,
        line.country_of_origin,
        line.country_of_export,
        line.manufacturer_ref,
        line.unit,
        tuple(each.unit for each in line.entry_quantities),
        claim and (claim.provision, claim.exported_on, claim.proof),
        line.spi,
        line.usmca_certificate_ref,
        tuple(sorted(each for each in line.attributes.items() if each[0] != ORDER_NUMBER)),
        _without_weights(line.treatment).model_dump_json(),
    )


def _without_weights(treatment: Treatment) -> Treatment:
    metals = [row.model_copy(update={"metal_weight_kg": ZERO}) for row in treatment.section232]
    return treatment.model_copy(update={"section232": metals})
