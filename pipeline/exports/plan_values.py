"""The values of a plan by JSON Pointer: read them and set them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.core.json_input import json_pointer


class _Missing:
    """The value of a place that a plan does not have."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()


class NoSuchPlace(Exception):
    """A JSON Pointer leads to no place of the plan that could hold a value."""


def read_value(plan: Any, pointer: str) -> Any:
    """Return the value at the JSON Pointer; MISSING if the plan has none there."""
    value = plan
    for part in split_pointer(pointer):
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def has_place(plan: Mapping[str, Any], pointer: str) -> bool:
    """Return whether a value could stand at the JSON Pointer: each unit, line or other entry on its way exists."""
    first, *rest = split_pointer(pointer) or [""]
    value = plan.get(first, MISSING)
    for part in rest:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif value is not None:  # what a member without a value would have below it is not known
            value = read_value(value, f"/{part}")
    return value is not MISSING


def set_value(plan: Any, pointer: str, value: Any) -> None:
    """Write the value at the JSON Pointer: replace what is there, add a member, or append an entry.

    Raises NoSuchPlace if the plan has no object or list there.
    """
    *parents, last = split_pointer(pointer) or [""]
    place = read_value(plan, json_pointer(parents))
    if isinstance(place, dict) and pointer:
        place[last] = value
    elif isinstance(place, list) and _is_index(last) and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, list) and (last == "-" or last == str(len(place))):
        place.append(value)
    else:
        raise NoSuchPlace(pointer)


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= 9


def split_pointer(pointer: str) -> list[str]:
    """Return the names and numbers of a JSON Pointer, without its escapes."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
