"""The fields of a plan in words: those that a customs broker may name, and any other place by its JSON Pointer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.exports.plan_values import read_value

#: Field of a unit -> its JSON Pointer below the unit.
UNIT_FIELDS: Final = {
    "invoice number": "/invoice/number",
    "invoice date": "/invoice/date",
    "currency": "/invoice/currency",
    "terms of delivery": "/invoice/incoterm",
    "invoice total": "/invoice/total",
    "charges": "/invoice/charges",
    "seller": "/parties/seller",
    "buyer": "/parties/buyer",
    "ship to": "/parties/shipTo",
    "importer of record": "/parties/importerOfRecord",
    "manufacturers": "/parties/manufacturers",
    "entry type": "/entry/type",
    "port of entry": "/entry/portOfEntry",
    "carrier": "/entry/carrierScac",
    "shipment control number": "/entry/shipmentControlNumber",
    "arrival": "/entry/estimatedArrivalAt",
    "packages": "/packages",
    "certificates of origin": "/usmcaCertificates",
}
#: Field of a line -> its JSON Pointer below the line.
LINE_FIELDS: Final = {
    "description": "/description",
    "HTS code": "/htsCode",
    "country of origin": "/countryOfOrigin",
    "manufacturer": "/manufacturerRef",
    "quantity": "/quantity",
    "value": "/lineValue",
    "weight": "/netWeightKg",
    "preference": "/spi",
    "chapter 99": "/treatment/chapter99",
    "metals (section 232)": "/treatment/section232",
    "agencies (PGA)": "/treatment/pga",
}
#: Place of a list -> one entry of it: its noun, the member that names it, and its fields.
_ENTRIES: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "/units": ("unit", "unitRef", UNIT_FIELDS),
    "/units/lines": ("line", "lineRef", LINE_FIELDS),
    "/units/packages": ("package", "packageRef", {}),
}
#: Words of other members that their names do not say well.
_MEMBERS: Final = {"sku": "SKU", "sscc": "SSCC", "spi": "preference", "hsCode": "HS code", "htsCode": "HTS code"}
_MEMBER: Final = re.compile(r"[a-z][A-Za-z0-9]*")
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_ANY: Final = "*"


@dataclass(frozen=True)
class NamedField:
    """A place of a plan: its JSON Pointer and its words."""

    pointer: str
    words: str


def name_field(pointer: str, plan: Mapping[str, Any] | None = None) -> NamedField:
    """Return the place that a JSON Pointer names, with its words as `describe_field` returns them."""
    return NamedField(pointer, describe_field(pointer, plan))


def describe_field(pointer: str, plan: Mapping[str, Any] | None = None) -> str:
    """Return the place that a JSON Pointer names, in words, such as `unit 1, line 2, HTS code`.

    With the plan, units, lines and packages have their own names. `*` stands for any entry: `HTS code of a line`. What is
    not a JSON Pointer is returned as it is.
    """
    if not pointer.startswith("/"):
        return pointer or "the whole plan"
    rest, path, at, names, last = pointer.split("/")[1:], "", "", [], ""
    fields: Mapping[str, str] = {}
    while len(rest) > 1 and (entry := _ENTRIES.get(f"{path}/{rest[0]}")) and _is_entry(rest[1]):
        noun, reference, fields = entry
        path, at, last = f"{path}/{rest[0]}", f"{at}/{rest[0]}/{rest[1]}", f"a {noun}"
        if rest[1] != _ANY:
            names.append(f"{noun} {_read_name(plan, at, reference) or int(rest[1]) + 1}")
            last = ""
        rest = rest[2:]
    words = ", ".join(_describe_members(rest, fields))
    if last:
        names.append(f"{words} of {last}" if words else last)
    elif words:
        names.append(words)
    return ", ".join(names) or pointer


def describe_members(members: Sequence[str], fields: Mapping[str, str]) -> str:
    """Return a place below a unit or line in words, such as `chapter 99, 9903.01.26, rate`; `fields` are those of its kind."""
    return ", ".join(_describe_members(members, fields))


def _is_entry(part: str) -> bool:
    return part == _ANY or _INDEX.fullmatch(part) is not None


def _read_name(plan: Mapping[str, Any] | None, pointer: str, reference: str) -> str:
    entry = None if plan is None else read_value(plan, pointer)
    name = entry.get(reference) if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else ""


def _describe_members(parts: Sequence[str], fields: Mapping[str, str]) -> list[str]:
    """Return the words of the field that these parts begin with, and of each part below it."""
    known = {pointer: words for words, pointer in fields.items()}
    for end in range(len(parts), 0, -1):
        if (words := known.get("/" + "/".join(parts[:end]))) is not None:
            return [words, *_describe_below(parts[end:])]
    return _describe_below(parts)


def _describe_below(parts: Sequence[str]) -> list[str]:
    return [_describe_member(part) for part in parts if part != _ANY]


def _describe_member(part: str) -> str:
    if _INDEX.fullmatch(part):
        return f"no. {int(part) + 1}"
    name = part.replace("~1", "/").replace("~0", "~")
    if name in _MEMBERS or not _MEMBER.fullmatch(name):
        return _MEMBERS.get(name, name)
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: f" {found[0].lower()}", name)
