"""Views of two revisions of a batch side by side."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from pipeline.core.field_types import mask_numbers
from pipeline.core.money import sum_exact, to_decimal
from pipeline.exports.field_text import LINE_FIELDS, NamedField, describe_members, name_field
from pipeline.exports.models import Export
from pipeline.exports.revision_diff import FieldChange, PlanPart
from pipeline.interfaces.console.exports.line_views import is_below

#: The fields whose values are amounts in the currency of the unit's invoice.
_AMOUNTS: Final = frozenset({"invoice total", "value", "unit price"})

#: The most differences on the page, and the most characters of a value.
MAX_CHANGES: Final = 500
_MAX_VALUE: Final = 400

_TITLES: Final = {
    PlanPart.HEADER: "Header and units",
    PlanPart.ENTRY: "Entry",
    PlanPart.PARTIES: "Parties",
    PlanPart.INVOICE: "Invoice",
    PlanPart.LINES: "Lines",
    PlanPart.PACKAGES: "Packages",
    PlanPart.CERTIFICATES: "Certificates",
}


@dataclass(frozen=True)
class DocumentHash:
    """A document of a revision."""

    sha256: str
    artifact_id: str


@dataclass(frozen=True)
class RevisionFacts:
    """A revision, its plan, and its documents by unit and type."""

    export: Export
    plan: Mapping[str, Any]
    documents: Mapping[tuple[str, str], DocumentHash]


@dataclass(frozen=True)
class ChangeRow:
    """One difference as a row; `remark` is what the broker asked for at this field."""

    where: str
    field: str
    old: str
    new: str
    mark: str
    what: str
    remark: str
    in_treatment: bool


@dataclass(frozen=True)
class ChangedDocument:
    """A document that differs: its unit, its type, and its id in both, None if a revision lacks it."""

    unit_ref: str
    kind: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class ShownComparison:
    """Two revisions side by side; `left` are the broker's remarks whose fields did not change."""

    older: Export
    newer: Export
    groups: list[tuple[str, list[ChangeRow]]]
    more: int
    corrected: list[tuple[NamedField, str]]
    left: list[tuple[NamedField, str]]
    totals: list[tuple[str, str, str]]
    documents: list[ChangedDocument]
    same_documents: int


def show_comparison(
    older: RevisionFacts, newer: RevisionFacts, changes: Iterable[FieldChange], remarks: Mapping[str, str]
) -> ShownComparison:
    """Return the revisions side by side; `remarks` are the broker's by pointer into the older plan."""
    currencies = _read_currencies(older.plan), _read_currencies(newer.plan)
    found = iter(changes)
    shown = [*islice(found, MAX_CHANGES)]
    more = sum(1 for _ in found)
    touched = {
        pointer: remark
        for pointer, remark in remarks.items()
        if any(each.pointer is not None and _touches(each.pointer, pointer) for each in shown)
    }
    return ShownComparison(
        older.export,
        newer.export,
        [
            (_TITLES[part], rows)
            for part in PlanPart
            if (rows := [_show_change(each, remarks, *currencies) for each in shown if each.part is part])
        ],
        more,
        [(name_field(pointer, older.plan), remark) for pointer, remark in touched.items()],
        [(name_field(pointer, older.plan), remark) for pointer, remark in remarks.items() if pointer not in touched],
        [*_show_totals(older, newer)],
        [*islice(_changed_documents(older, newer), MAX_CHANGES)],
        sum(1 for key, each in older.documents.items() if _is_same(newer.documents.get(key), each)),
    )


def _is_same(one: DocumentHash | None, other: DocumentHash) -> bool:
    return one is not None and one.sha256 == other.sha256


def _touches(changed: str, wanted: str) -> bool:
    return is_below(changed, wanted) or is_below(wanted, changed)


def _read_currencies(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the currency of each unit's invoice, by the unit's id."""
    return {str(unit.get("unitRef")): str(unit["invoice"]["currency"]) for unit in plan.get("units", [])}


def _show_change(
    each: FieldChange, remarks: Mapping[str, str], before: Mapping[str, str], after: Mapping[str, str]
) -> ChangeRow:
    found = (
        remark for pointer, remark in remarks.items() if each.pointer is not None and _touches(each.pointer, pointer)
    )
    what = "added" if each.old is None else "removed" if each.new is None else "changed"
    return ChangeRow(
        " ".join(filter(None, (each.unit_ref, each.entry_ref))),
        each.field or "whole entry",
        _format_value(each.old, before.get(each.unit_ref, "") if each.field in _AMOUNTS else ""),
        _format_value(each.new, after.get(each.unit_ref, "") if each.field in _AMOUNTS else ""),
        {"added": "good", "removed": "bad", "changed": "busy"}[what],
        what,
        next(found, ""),
        each.in_treatment,
    )


def _format_value(value: Any, currency: str) -> str:
    if value is None:
        return ""
    text = mask_numbers("; ".join(_describe_value(value, ())) or "empty")
    text = f"{text} {currency}" if currency else text
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _describe_value(value: Any, members: Sequence[str]) -> Iterator[str]:
    """Yield a value, or each member of an entry that has one, such as `HTS code: 7323930045`."""
    if isinstance(value, Mapping):
        # What the entry itself says comes before its lists, which may be cut.
        for name, each in sorted(value.items(), key=lambda item: isinstance(item[1], Mapping | list)):
            yield from _describe_value(each, (*members, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _describe_value(each, (*members, str(index)))
    elif value is not None and value != "":
        text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        yield f"{describe_members(members, LINE_FIELDS)}: {text}" if members else text


def _show_totals(older: RevisionFacts, newer: RevisionFacts) -> Iterator[tuple[str, str, str]]:
    before, after = _sum_plan(older.plan), _sum_plan(newer.plan)
    before["Treatment digest"], after["Treatment digest"] = (
        older.export.treatment_digest,
        newer.export.treatment_digest,
    )
    before["Ruleset"], after["Ruleset"] = older.export.ruleset_id, newer.export.ruleset_id
    for name in dict.fromkeys([*before, *after]):
        yield name, before.get(name, ""), after.get(name, "")


def _sum_plan(plan: Mapping[str, Any]) -> dict[str, str]:
    units = plan.get("units", [])
    lines = [line for unit in units for line in unit.get("lines", [])]
    packages = [package for unit in units for package in unit.get("packages", [])]
    sums = {"Units": str(len(units)), "Lines": str(len(lines)), "Packages": str(len(packages))}
    sums["Net weight in kg"] = str(_sum(line.get("netWeightKg") for line in lines))
    for currency in dict.fromkeys(str(unit["invoice"]["currency"]) for unit in units):
        values = [unit["invoice"]["total"] for unit in units if unit["invoice"]["currency"] == currency]
        sums[f"Invoice totals in {currency}"] = str(_sum(values))
    sums["Chapter 99 headings"] = str(sum(len(line["treatment"].get("chapter99", [])) for line in lines))
    return sums


def _sum(values: Iterable[Any]) -> Decimal:
    return sum_exact(to_decimal(str(value)) for value in values if value is not None)


def _changed_documents(older: RevisionFacts, newer: RevisionFacts) -> Iterator[ChangedDocument]:
    for unit_ref, kind in dict.fromkeys([*older.documents, *newer.documents]):
        old, new = older.documents.get((unit_ref, kind)), newer.documents.get((unit_ref, kind))
        if old is None or not _is_same(new, old):
            yield ChangedDocument(
                unit_ref, kind, None if old is None else old.artifact_id, None if new is None else new.artifact_id
            )
