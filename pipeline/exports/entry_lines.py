"""Groups the lines of an invoice into entry lines: the one numbering that all documents and checks use."""

from typing import Final

from pipeline.core.money import ZERO
from pipeline.exports.consignees import list_recipients
from pipeline.exports.schemas.plan import Line, Treatment, Unit

#: The attribute of a line with the number that the account knows its order by. It says nothing about the goods.
ORDER_NUMBER: Final = "orderNumber"

#: What the lines of an entry line may differ in, and what only a part of must be equal. All other fields must be equal.
_DIFFERENT: Final = frozenset(
    "line_ref order_id sku description quantity unit_price line_value net_weight_kg gross_weight_kg".split()
)
_COMPARED_IN_PART: Final = frozenset({"entry_quantities", "chapter98", "attributes", "treatment"})
_EQUAL: Final = tuple(name for name in Line.model_fields if name not in _DIFFERENT | _COMPARED_IN_PART)


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
        *(getattr(line, name) for name in _EQUAL),
        tuple(each.unit for each in line.entry_quantities),
        claim and (claim.provision, claim.exported_on, claim.proof),
        tuple(sorted(each for each in line.attributes.items() if each[0] != ORDER_NUMBER)),
        _without_weights(line.treatment).model_dump_json(),
    )


def _without_weights(treatment: Treatment) -> Treatment:
    metals = [row.model_copy(update={"metal_weight_kg": ZERO}) for row in treatment.section232]
    return treatment.model_copy(update={"section232": metals})
