"""What an invoice must say of goods of certain tariff numbers: fibres, wearer, soles, species, UN numbers (V23)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import lru_cache

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import Attribute, attribute_rules
from pipeline.exports.schemas.plan import Line


def check_attributes(line: Line, here: str, on: date) -> Iterator[Finding]:
    """Yield what neither the line's attributes nor its description say, by the rules of the day of entry."""
    asked = [row for row in _asked_of(line.hts_code) if row.holds(on)]
    if not asked:
        return
    described = line.description.lower()
    for row in asked:
        key = next((key for key in row.keys if key in line.attributes), None)
        if key is not None and row.form is not None and not row.form.search(line.attributes[key]):
            yield Finding(
                rule="V23",
                severity=row.severity,
                pointer=f"{here}/attributes/{key}",
                message=f"Line {line.line_ref}: its {row.name} is not written as one.",
                remedy=f"Say {row.asks}: the value must match {row.form.pattern} and nothing else.",
                source=row.source,
            )
        if key is None and not row.said.search(described):
            yield Finding(
                rule="V23",
                severity=row.severity,
                pointer=f"{here}/attributes",
                message=f"Line {line.line_ref}: the invoice must say {row.asks}, for goods of {line.hts_code[:4]}.",
                remedy=f"Give it as the attribute {row.keys[0]}, or in the description.",
                source=row.source,
            )


@lru_cache(maxsize=4096)
def _asked_of(hts_code: str) -> tuple[Attribute, ...]:
    return attribute_rules().asked_of(hts_code)
