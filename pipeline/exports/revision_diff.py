"""The differences of two plans: entries of lists are compared by their id, so that a new line does not shift all others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pipeline.core.json_input import json_pointer
from pipeline.exports.field_text import LINE_FIELDS, UNIT_FIELDS, describe_members
from pipeline.exports.schemas.transport import PERSONAL

#: The field that identifies the entries of a list, by the list's name.
_IDS: Final[Mapping[str, str]] = {
    "units": "unitRef",
    "lines": "lineRef",
    "packages": "packageRef",
    "usmcaCertificates": "ref",
    "manufacturers": "ref",
    "ultimateConsignees": "name",
    "contents": "lineRef",
    "chapter99": "heading",
    "section232": "metal",
    "pga": "flag",
    "charges": "code",
    "discounts": "name",
}

#: What stands for personal data of a truck's crew.
HIDDEN: Final = "[hidden]"

#: Fields that differ in every revision and say nothing about the goods.
_LEFT_OUT: Final = frozenset({"planHash", "approval"})


class PlanPart(StrEnum):
    """The part of a plan that a difference belongs to."""

    HEADER = "header"
    ENTRY = "entry"
    PARTIES = "parties"
    INVOICE = "invoice"
    LINES = "lines"
    PACKAGES = "packages"
    CERTIFICATES = "certificates"


_PARTS: Final[Mapping[str, PlanPart]] = {
    "entry": PlanPart.ENTRY,
    "parties": PlanPart.PARTIES,
    "invoice": PlanPart.INVOICE,
    "lines": PlanPart.LINES,
    "packages": PlanPart.PACKAGES,
    "usmcaCertificates": PlanPart.CERTIFICATES,
}


@dataclass(frozen=True)
class FieldChange:
    """One difference: its unit, entry and field by their ids, and both values, None if there is none.

    `field` is in words, and empty if a whole entry or unit differs. `pointer` is the JSON Pointer into the older plan, None if that has
    no such field. `in_treatment` says that it changes what customs must know of a line.
    """

    part: PlanPart
    unit_ref: str
    entry_ref: str
    field: str
    old: Any
    new: Any
    pointer: str | None
    in_treatment: bool


@dataclass(frozen=True)
class _Place:
    """Where two values stand: the steps by id, and the pointer into the older plan."""

    steps: tuple[str, ...] = ()
    pointer: str | None = ""

    def enter(self, step: str, place: str | int | None) -> "_Place":
        inner = None if self.pointer is None or place is None else self.pointer + json_pointer([place])
        return _Place((*self.steps, step), inner)


def compare_plans(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    """Yield what differs, in the order of the older plan; an entry that was added or removed is one difference."""
    kept = [{name: value for name, value in plan.items() if name not in _LEFT_OUT} for plan in (old, new)]
    for place, before, after in _compare(kept[0], kept[1], _Place()):
        yield _build_change(place, before, after)


def _compare(old: Any, new: Any, place: _Place) -> Iterator[tuple[_Place, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _compare(old.get(name), new.get(name), place.enter(name, name if name in old else None))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _compare_lists(old, new, place)
    elif old != new and not (_is_empty(old) and _is_empty(new)):
        yield place, old, new


def _compare_lists(old: Sequence[Any], new: Sequence[Any], place: _Place) -> Iterator[tuple[_Place, Any, Any]]:
    key = _IDS.get(place.steps[-1] if place.steps else "")
    before, after = _index(old, key), _index(new, key)
    if before is None or after is None:
        if old != new:
            yield place, list(old), list(new)
        return
    for ref in dict.fromkeys([*before, *after]):
        position, value = before.get(ref, (None, None))
        yield from _compare(value, after.get(ref, (None, None))[1], place.enter(ref, position))


def _index(entries: Sequence[Any], key: str | None) -> dict[str, tuple[int | None, Any]] | None:
    """Return the entries and their positions by id; None if they are single values, or if an id is missing or repeated."""
    if not all(isinstance(each, dict) for each in entries):
        return None
    refs = [str(position if key is None else each.get(key)) for position, each in enumerate(entries)]
    if len(set(refs)) < len(refs):
        return None
    return {ref: (position, each) for position, (ref, each) in enumerate(zip(refs, entries, strict=True))}


def _build_change(place: _Place, old: Any, new: Any) -> FieldChange:
    steps = place.steps
    part, unit_ref, entry_ref, fields = PlanPart.HEADER, "", "", UNIT_FIELDS
    if steps[0] == "units" and len(steps) > 1:
        unit_ref, steps = steps[1], steps[2:]
        part = _PARTS.get(steps[0], PlanPart.HEADER) if steps else PlanPart.HEADER
        if part in (PlanPart.LINES, PlanPart.PACKAGES, PlanPart.CERTIFICATES):
            fields = LINE_FIELDS if part is PlanPart.LINES else {}
            entry_ref, steps = "".join(steps[1:2]), steps[2:]
    in_treatment = part is PlanPart.LINES and steps[:1] in ((), ("treatment",), ("htsCode",), ("countryOfOrigin",))
    old, new = (_hide_people(each, place.steps) for each in (old, new))
    return FieldChange(
        part, unit_ref, entry_ref, describe_members(steps, fields), old, new, place.pointer, in_treatment
    )


def _hide_people(value: Any, steps: Sequence[str]) -> Any:
    """Return the value of a place without what identifies a person of a truck's crew beyond the name."""
    inside = "crew" in steps
    if inside and value is not None and PERSONAL & {*steps}:
        return HIDDEN
    if isinstance(value, dict):
        return {name: _hide_people(inner, (*steps, name)) for name, inner in value.items()}
    return [_hide_people(inner, steps) for inner in value] if isinstance(value, list) else value


def _is_empty(value: Any) -> bool:
    return value is None or value in ({}, [], "")
