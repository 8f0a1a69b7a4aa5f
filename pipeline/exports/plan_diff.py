"""The values of a plan by JSON Pointer: read them, set them, and find those that differ between two plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

#: The members that name an entry of a list, so that an entry is compared with the same one in the other plan.
_NAMES: Final = ("unitRef", "lineRef", "packageRef", "ref")


class _Missing:
    """The value of a place that a plan does not have."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()


class NoSuchPlace(Exception):
    """A JSON Pointer leads to no place of the plan that could hold a value."""


@dataclass(frozen=True)
class PlanChange:
    """A value that differs, at its place in the new plan; in the old plan if it was removed there."""

    pointer: str
    old: Any
    new: Any


def read_value(plan: Any, pointer: str) -> Any:
    """Return the value at the JSON Pointer; MISSING if the plan has none there."""
    value = plan
    for part in _split(pointer):
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def set_value(plan: Any, pointer: str, value: Any) -> None:
    """Write the value at the JSON Pointer: replace what is there, add a member, or append an entry.

    Raises NoSuchPlace if the plan has no object or list there.
    """
    *parents, last = _split(pointer) or [""]
    place = read_value(plan, "".join(f"/{_escape(each)}" for each in parents))
    if isinstance(place, dict) and pointer:
        place[last] = value
    elif isinstance(place, list) and _is_index(last) and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, list) and (last == "-" or last == str(len(place))):
        place.append(value)
    else:
        raise NoSuchPlace(pointer)


def diff_plans(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[PlanChange]:
    """Yield the values that differ, in the order of the new plan; entries of lists are compared by their names."""
    yield from _diff("", old, new)


def _diff(pointer: str, old: Any, new: Any) -> Iterator[PlanChange]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*new, *old]):
            yield from _diff(f"{pointer}/{_escape(name)}", old.get(name, MISSING), new.get(name, MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _diff_lists(pointer, old, new)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield PlanChange(pointer, old, new)


def _diff_lists(pointer: str, old: list[Any], new: list[Any]) -> Iterator[PlanChange]:
    named = _index_by_name(old)
    if named is None or _index_by_name(new) is None:
        for place, (was, now) in enumerate(zip_longest(old, new, fillvalue=MISSING)):
            yield from _diff(f"{pointer}/{place}", was, now)
        return
    for place, now in enumerate(new):
        _, was = named.pop(_name(now), (0, MISSING))
        yield from _diff(f"{pointer}/{place}", was, now)
    for place, was in named.values():
        yield PlanChange(f"{pointer}/{place}", was, MISSING)


def _index_by_name(entries: list[Any]) -> dict[Any, tuple[int, Any]] | None:
    """Return the entries and their places by name; None if they have no names, or not all different ones."""
    named = {_name(each): (place, each) for place, each in enumerate(entries)}
    return None if None in named or len(named) != len(entries) else named


def _name(entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, Mapping):
        return None
    return next(((name, entry[name]) for name in _NAMES if isinstance(entry.get(name), str)), None)


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= 9


def _split(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
