"""Merges lines with the same customs data into one line; values, weights and quantities add up exactly."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pipeline.core import money
from pipeline.documents.invoice import wording
from pipeline.documents.schemas import declarations
from pipeline.documents.schemas import invoice as out
from pipeline.documents.schemas.invoice import Printed
from pipeline.exports.schemas.plan import Treatment


def consolidate_lines(
    merged: tuple[declarations.MergedLine, ...], line_count: int
) -> declarations.Consolidation | None:
    """Return the merged lines of an invoice with `line_count` lines; None if no two could be merged."""
    if len(merged) == line_count:
        return None
    return declarations.Consolidation(
        line_count=line_count, merged_line_count=len(merged), lines_saved=line_count - len(merged), lines=merged
    )


def merge_lines(
    lines: Sequence[out.InvoiceLine], groups: Sequence[Sequence[int]], currency: str
) -> tuple[declarations.MergedLine, ...]:
    """Return the entry lines; `groups` holds the numbers of the invoice lines of each, which count from 1.

    Metal weights add up like the net weights. All other customs data of merged lines is equal.
    """
    return tuple(
        _merge_group(number, [lines[place - 1] for place in group], currency)
        for number, group in enumerate(groups, start=1)
    )


def _merge_group(number: int, group: Sequence[out.InvoiceLine], currency: str) -> declarations.MergedLine:
    first = group[0]
    prices = {line.unit_price.exact for line in group}
    return declarations.MergedLine(
        number=number,
        line_numbers=tuple(line.number for line in group),
        line_refs=tuple(line.line_ref for line in group),
        lines_shown=wording.format_line_numbers([line.number for line in group]),
        descriptions=tuple(dict.fromkeys(line.description for line in group)),
        hts_code=first.hts_code,
        country_of_origin=first.country_of_origin,
        country_of_export=first.country_of_export,
        manufacturer_ref=first.manufacturer_ref,
        manufacturer_name=first.manufacturer_name,
        mid=first.mid,
        spi=first.spi,
        usmca_certificate_ref=first.usmca_certificate_ref,
        quantity=wording.format_number(_sum(line.quantity for line in group)),
        unit=first.unit,
        unit_price=first.unit_price if len(prices) == 1 else None,
        line_value=wording.format_amount(_sum(line.line_value for line in group), currency),
        net_weight_kg=wording.format_number(_sum(line.net_weight_kg for line in group)),
        gross_weight_kg=wording.format_number(_sum(line.gross_weight_kg for line in group)),
        entry_quantities=tuple(
            declarations.UnitTotal(
                unit=each.unit,
                quantity=wording.format_number(_sum(line.entry_quantities[at].quantity for line in group)),
            )
            for at, each in enumerate(first.entry_quantities)
        ),
        chapter98=_merge_claims([line.chapter98 for line in group if line.chapter98], currency),
        treatment=_merge_treatment(group),
        treatment_digests=tuple(line.treatment_digest for line in group),
    )


def _merge_claims(claims: Sequence[out.Chapter98Claim], currency: str) -> out.Chapter98Claim | None:
    # The claims of merged lines are equal except for their values, which add up.
    if not claims:
        return None
    return claims[0].model_copy(
        update={
            "exempt_value": wording.format_amount(_sum(each.exempt_value for each in claims), currency),
            "dutiable_value": wording.format_amount(_sum(each.dutiable_value for each in claims), currency),
        }
    )


def _merge_treatment(group: Sequence[out.InvoiceLine]) -> Treatment:
    # The treatments are equal except for the metal weights, which add up by position.
    first = group[0].treatment
    metals = [
        row.model_copy(
            update={"metal_weight_kg": money.sum_exact(line.treatment.section232[at].metal_weight_kg for line in group)}
        )
        for at, row in enumerate(first.section232)
    ]
    return first.model_copy(update={"section232": metals})


def _sum(values: Iterable[Printed]) -> Decimal:
    return money.sum_exact(
        value.exact if isinstance(value.exact, Decimal) else money.to_decimal(value.exact) for value in values
    )
