"""The layouts of the agencies' message-set records, and one record written by its layout: never cut without a word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field as Member
from pydantic import model_validator

from pipeline.core.money import EXACT, ZERO, format_plain, to_decimal
from pipeline.customs.reference.base import ReferenceData, ReferenceRow, load_once, load_rules_file

_FIELD = re.compile(r"^(?P<first>[0-9]+)-(?P<last>[0-9]+) (?P<kind>A|AN|X|N)(?P<decimals>[0-9]?) (?P<need>[MC])$")
_ALLOWED = {"A": re.compile(r"[A-Z ]*"), "AN": re.compile(r"[A-Z0-9 ]*"), "X": re.compile(r"[ -~]*")}

Fault = Literal["empty", "characters", "long", "class"]
_NONE: tuple[Fault, ...] = ()
_EMPTY: tuple[Fault, ...] = ("empty",)


@dataclass(frozen=True)
class Field:
    """One field of a record: its columns, both inclusive and counted from 1, and what may stand in them."""

    name: str
    first: int
    last: int
    kind: str
    decimals: int
    mandatory: bool

    @property
    def width(self) -> int:
        """How many columns the field has."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Trouble:
    """What a field could not take as it came: nothing where it is mandatory, or a value that does not fit."""

    record: str
    field: str
    fault: Fault
    columns: str


@dataclass(frozen=True)
class Written:
    """One record of 80 columns, and what it could not say."""

    text: str
    troubles: tuple[Trouble, ...]


class Place(ReferenceData):
    """Where a datum stands in the records, and how its value is read."""

    record: str
    field: str | None = None
    reading: Annotated[Literal["text", "party", "amount", "quantities", "instant"], Member(alias="as")] = "text"
    others: Annotated[Mapping[str, str], Member(alias="with")] = Member(default_factory=dict)
    unless: frozenset[str] = frozenset()
    agencies: frozenset[str] = frozenset()
    role: str | None = None
    contact: bool = False
    codes: Mapping[str, str] = Member(default_factory=dict)
    filer: str | None = None

    def coded(self, value: str) -> str | None:
        """Return what the record carries for the value; None where it has codes, and none for this."""
        if not self.codes:
            return value
        return {word.casefold(): code for word, code in self.codes.items()}.get(value.strip().casefold())


class EntityId(ReferenceData):
    """A kind of number that a party is known by."""

    type: str
    pattern: str


class RecordRules(ReferenceRow):
    """The layouts of all records, their order, and where each datum stands."""

    schema_version: Annotated[Literal[1], Member(alias="schema")]
    as_of: date
    width: int
    characters: Mapping[str, str]
    unknown: Annotated[str, Member(pattern=r"^[ -~]$")]
    layouts: Mapping[str, Mapping[str, Annotated[str, Member(pattern=_FIELD)]]]
    order: tuple[str, ...]
    together: tuple[tuple[str, ...], ...]
    overflow: Mapping[str, Mapping[str, str]]
    shortened: Mapping[str, tuple[str, ...]]
    most: Mapping[str, int]
    entity_ids: Mapping[str, EntityId]
    elements: Mapping[str, Place]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for record in self.layouts:
            end = len(record)
            for field in self.fields(record):
                if not end < field.first <= field.last <= self.width:
                    raise ValueError(f"field {field.name} of {record} does not follow the one before it")
                end = field.last
        named = [
            (record, field) for record, fields in (*self.overflow.items(), *self.shortened.items()) for field in fields
        ]
        named += [(place.record, name) for place in self.elements.values() for name in place.others]
        named += [(place.record, place.field) for place in self.elements.values() if place.field is not None]
        for one, other in (pair for records in self.together for pair in pairwise(records)):
            if (one, other) not in pairwise(self.order):
                raise ValueError(f"{one} and {other} go together, but do not follow one another in the order")
        for record, name in [*named, *((record, None) for record in (*self.order, *self.most))]:
            if record not in self.layouts or (name is not None and name not in self.layouts[record]):
                raise ValueError(f"{record} {name or ''} is named, but has no layout")
        if len({*self.order}) != len(self.order) or any(
            place.record not in self.order for place in self.elements.values()
        ):
            raise ValueError("the order of the records does not name each of them once")
        return self

    @cached_property
    def _fields(self) -> Mapping[str, tuple[Field, ...]]:
        return {record: tuple(map(_field, fields, fields.values())) for record, fields in self.layouts.items()}

    def fields(self, record: str) -> tuple[Field, ...]:
        """Return the fields of a record in the order of their columns."""
        return self._fields[record]

    def field(self, record: str, name: str) -> Field:
        """Return one field of a record."""
        return next(field for field in self.fields(record) if field.name == name)

    @cached_property
    def _columns(self) -> Mapping[tuple[str, str], str]:
        spans = {
            (record, field.name): f"{field.first}" if field.width == 1 else f"{field.first}-{field.last}"
            for record in self.layouts
            for field in self.fields(record)
        }
        return {(record, name): f"{record} {span}" for (record, name), span in spans.items()}

    def columns(self, record: str, name: str) -> str:
        """Return where a field stands, as a person says it: `PG02 10-28`."""
        return self._columns[record, name]

    def spelt(self, text: str) -> tuple[str, Sequence[str]]:
        """Return `text` in the capitals that records carry, and the characters that have no spelling in them."""
        if text.isascii():
            return text.upper(), ()
        out, unknown = [], []
        for character in unicodedata.normalize("NFC", text):
            spelt = self.characters.get(character)
            if spelt is None:
                apart = unicodedata.normalize("NFKD", character)
                spelt = "".join(part for part in apart if not unicodedata.combining(part))
                spelt = " " if spelt.isspace() else spelt
            if not spelt.isascii() or not spelt.isprintable():
                unknown.append(character)
                spelt = self.unknown
            out.append(spelt)
        return "".join(out).upper(), unknown

    def write(self, record: str, values: Mapping[str, str]) -> Written:
        """Return the record with `values` by the names of its fields; a field that is not named is left blank."""
        line = record
        troubles = []
        for field in self.fields(record):
            value = values.get(field.name, "")
            if not value:
                put, faults = "", _EMPTY if field.mandatory else _NONE
            elif field.kind == "N":
                put, faults = _number(value, field)
            else:
                put, faults = self._letters(value, field)
            if put:
                line = line.ljust(field.first - 1) + put
            troubles += [Trouble(record, field.name, fault, self.columns(record, field.name)) for fault in faults]
        return Written(line.ljust(self.width), tuple(troubles))

    def _letters(self, value: str, field: Field) -> tuple[str, tuple[Fault, ...]]:
        put, unknown = self.spelt(value)
        faults: list[Fault] = ["characters"] if unknown else []
        if not _ALLOWED[field.kind].fullmatch(put):
            faults.append("class")
        if len(put) > field.width:
            faults.append("long")
        return put[: field.width], tuple(faults)


def _field(name: str, said: str) -> Field:
    found = _FIELD.match(said)
    if found is None:
        raise ValueError(f"field {name} is not written as first-last class need: {said}")
    decimals = int(found["decimals"] or 0)
    return Field(name, int(found["first"]), int(found["last"]), found["kind"], decimals, found["need"] == "M")


def _number(value: str, field: Field) -> tuple[str, tuple[Fault, ...]]:
    # Digits finer than the field's are not rounded away: the filer is told, and the field stays blank.
    try:
        scaled = EXACT.scaleb(to_decimal(value), field.decimals)
    except ValueError:
        return "", ("class",)
    whole = scaled.to_integral_value()
    if scaled < ZERO or whole != scaled:
        return "", ("class",)
    digits = format_plain(whole)
    return ("", ("long",)) if len(digits) > field.width else (digits.zfill(field.width), _NONE)


@load_once
def record_rules() -> RecordRules:
    """Return the layouts of the message-set records."""
    return load_rules_file(RecordRules, "pga_records.yaml")
