"""The layouts of the message-set records, and the formatting of one record, which reports every value that does not fit."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Member

from pipeline.core.money import EXACT, ZERO, format_plain, to_decimal
from pipeline.customs.reference.base import ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file

_FIELD = re.compile(r"^(?P<first>[0-9]+)-(?P<last>[0-9]+) (?P<kind>A|AN|X|N)(?P<decimals>[0-9]?) (?P<need>[MC])$")
_ALLOWED = {"A": re.compile(r"[A-Z ]*"), "AN": re.compile(r"[A-Z0-9 ]*"), "X": re.compile(r"[ -~]*")}

FieldFault = Literal["empty", "characters", "long", "class"]
_NO_FAULTS: tuple[FieldFault, ...] = ()
_EMPTY_FAULT: tuple[FieldFault, ...] = ("empty",)


@dataclass(frozen=True)
class RecordField:
    """One field of a record: its first and last column, counted from 1, and what it may contain."""

    name: str
    first: int
    last: int
    kind: str
    decimals: int
    mandatory: bool

    @property
    def width(self) -> int:
        """The number of columns of the field."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class FieldProblem:
    """A problem of a field: it is mandatory but has no value, or its value does not fit."""

    record: str
    field: str
    fault: FieldFault
    columns: str


@dataclass(frozen=True)
class FormattedRecord:
    """One record of 80 columns, and the problems of its fields."""

    text: str
    problems: tuple[FieldProblem, ...]


#: How the value of a datum becomes the text of its field.
Reading = Literal[
    "text", "party", "registrant", "amount", "quantities", "measure", "instant", "day", "month", "taxon", "codes",
]  # fmt: skip


class RecordPosition(ReferenceData):
    """The place of a datum in the records of some agencies (of all, if it names none), and how its value is read."""

    record: str
    field: str | None = None
    reading: Annotated[Reading, Member(alias="as")] = "text"
    others: Annotated[Mapping[str, str], Member(alias="with")] = Member(default_factory=dict)
    codes: Mapping[str, Mapping[str, str]] = Member(default_factory=dict)
    #: Other fields of the record by program.
    programs: Mapping[str, Mapping[str, str]] = Member(default_factory=dict)
    unless: frozenset[str] = frozenset()
    agencies: frozenset[str] = frozenset()
    role: str | None = None
    #: The roles of the parties that the values belong to, in order: their records stand after that of the party.
    each: tuple[str, ...] = ()
    #: The record stands before that of its party.
    before: bool = False
    #: The party is only a role.
    bare: bool = False
    contact: bool = False
    filer: str | None = None
    #: The datum does not share its record with a datum that fills the same field in passing.
    alone: bool = False

    def takes(self, agency: str) -> bool:
        """Return whether the place is for the agency."""
        return not self.agencies or agency in self.agencies


class KeyedByHand(ReferenceData):
    """A datum of some agencies (of all, if it names none) that has no known place in the records, and the reason."""

    reason: str
    agencies: frozenset[str] = frozenset()

    def takes(self, agency: str) -> bool:
        """Return whether the agency's datum has no place."""
        return not self.agencies or agency in self.agencies


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class EntityIdType(ReferenceData):
    """A type of identifier of a party."""

    type: str
    pattern: str


class RecordRules(ReferenceRow):
    """The layouts of all records, their order, and the place of each datum."""

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
    entity_ids: Mapping[str, EntityIdType]
    elements: Mapping[str, Annotated[tuple[RecordPosition, ...], BeforeValidator(_as_list)]]
    by_hand: Mapping[str, Annotated[tuple[KeyedByHand, ...], BeforeValidator(_as_list)]] = Member(default_factory=dict)
    without_postal_code: Mapping[str, str] = Member(default_factory=dict)
    #: The programs of an agency whose certifier has a PG19.
    certifier_parties: Mapping[str, frozenset[str]] = Member(default_factory=dict)
    #: The agencies whose answers have a PG02 even without a code of the product.
    product_records: frozenset[str] = frozenset()
    #: The number of ingredients from which a program of an agency has them as components, at the end.
    components: Mapping[str, Mapping[str, int]] = Member(default_factory=dict)
    #: Fields of an agency's records that stand in each record of the type if the answer gives one value.
    repeated: Mapping[str, Mapping[str, tuple[str, ...]]] = Member(default_factory=dict)
    #: The records of an agency that stand between PG50 and PG51 for each of several articles.
    grouped: Mapping[str, tuple[str, ...]] = Member(default_factory=dict)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for record in self.layouts:
            end = len(record)
            for field in self.fields_of(record):
                if not end < field.first <= field.last <= self.width:
                    raise ValueError(f"field {field.name} of {record} does not follow the one before it")
                end = field.last
        named = [
            (record, field) for record, fields in (*self.overflow.items(), *self.shortened.items()) for field in fields
        ]
        places = [place for some in self.elements.values() for place in some]
        others = [
            (
                place.record,
                {
                    *place.others,
                    *(key for some in (place.codes, place.programs) for more in some.values() for key in more),
                },
            )
            for place in places
        ]
        named += [(record, name) for record, names in others for name in sorted(names)]
        named += [(place.record, place.field) for place in places if place.field is not None]
        named += [
            (record, name) for records in self.repeated.values() for record, names in records.items() for name in names
        ]
        for one, other in (pair for records in self.together for pair in pairwise(records)):
            if (one, other) not in pairwise(self.order):
                raise ValueError(f"{one} and {other} belong together, so they must follow one another in the order")
        for record, name in [
            *named,
            *(
                (record, None)
                for record in (*self.order, *self.most, *(each for some in self.grouped.values() for each in some))
            ),
        ]:
            if record not in self.layouts or (name is not None and name not in self.layouts[record]):
                raise ValueError(f"{record} {name or ''} is named, but has no layout")
        ordered = {place.record for place in places if not place.each}
        if len({*self.order}) != len(self.order) or not ordered <= {*self.order}:
            raise ValueError("the order must name each record exactly once")
        return self

    def find_position(self, element: str, agency: str) -> RecordPosition | None:
        """Return the place of a datum in the records of the agency, or None if none is known."""
        return next((place for place in self.elements.get(element, ()) if place.takes(agency)), None)

    @cached_property
    def _fields(self) -> Mapping[str, tuple[RecordField, ...]]:
        return {record: tuple(map(_parse_field, fields, fields.values())) for record, fields in self.layouts.items()}

    def fields_of(self, record: str) -> tuple[RecordField, ...]:
        """Return the fields of a record in the order of their columns."""
        return self._fields[record]

    def find_field(self, record: str, name: str) -> RecordField:
        """Return one field of a record."""
        return next(field for field in self.fields_of(record) if field.name == name)

    @cached_property
    def _columns(self) -> Mapping[tuple[str, str], str]:
        spans = {
            (record, field.name): f"{field.first}" if field.width == 1 else f"{field.first}-{field.last}"
            for record in self.layouts
            for field in self.fields_of(record)
        }
        return {(record, name): f"{record} {span}" for (record, name), span in spans.items()}

    def describe_columns(self, record: str, name: str) -> str:
        """Return the columns of a field in words, such as `PG02 10-28`."""
        return self._columns[record, name]

    def spell(self, text: str) -> tuple[str, Sequence[str]]:
        """Return the text in the capitals that records carry, and the characters that cannot be spelled in them."""
        if text.isascii():
            return text.upper(), ()
        out, unknown = [], []
        for character in unicodedata.normalize("NFC", text):
            spelling = self.characters.get(character)
            if spelling is None:
                decomposed = unicodedata.normalize("NFKD", character)
                spelling = "".join(part for part in decomposed if not unicodedata.combining(part))
                spelling = " " if spelling.isspace() else spelling
            if not spelling.isascii() or not spelling.isprintable():
                unknown.append(character)
                spelling = self.unknown
            out.append(spelling)
        return "".join(out).upper(), unknown

    def format_record(self, record: str, values: Mapping[str, str]) -> FormattedRecord:
        """Return the record with the values by field name; a field without a value stays blank."""
        line = record
        problems = []
        for field in self.fields_of(record):
            value = values.get(field.name, "")
            if not value:
                text, faults = "", _EMPTY_FAULT if field.mandatory else _NO_FAULTS
            elif field.kind == "N":
                text, faults = _format_number(value, field)
            else:
                text, faults = self._format_letters(value, field)
            if text:
                line = line.ljust(field.first - 1) + text
            problems += [
                FieldProblem(record, field.name, fault, self.describe_columns(record, field.name)) for fault in faults
            ]
        return FormattedRecord(line.ljust(self.width), tuple(problems))

    def describe_problem(self, problem: FieldProblem, value: str, *, shortened: bool) -> str:
        """Return the note for the filer on a field's problem; `shortened` if the field has the start of the value."""
        field = self.find_field(problem.record, problem.field)
        if shortened:
            return f"shortened to the {field.width} columns of {problem.columns}"
        name = problem.field.replace("_", " ")
        texts: dict[FieldFault, str] = {
            "empty": f"{problem.columns} ({name}) is mandatory, but the plan does not give it",
            "characters": f"{problem.columns} cannot carry {_name_characters(self.spell(value)[1])}; use Latin letters",
            "long": f"longer than the {field.width} characters of {problem.columns}",
            "class": f"{problem.columns} cannot carry {value}; it takes {_accepted_characters(field)}",
        }
        return texts[problem.fault]

    def _format_letters(self, value: str, field: RecordField) -> tuple[str, tuple[FieldFault, ...]]:
        text, unknown = self.spell(value)
        faults: list[FieldFault] = ["characters"] if unknown else []
        if not _ALLOWED[field.kind].fullmatch(text):
            faults.append("class")
        if len(text) > field.width:
            faults.append("long")
        return text[: field.width], tuple(faults)


def _parse_field(name: str, layout: str) -> RecordField:
    match = _FIELD.match(layout)
    if match is None:
        raise ValueError(f"field {name} must be written as `first-last class need`, such as 10-28 AN M; it is {layout}")
    decimals = int(match["decimals"] or 0)
    return RecordField(name, int(match["first"]), int(match["last"]), match["kind"], decimals, match["need"] == "M")


def _format_number(value: str, field: RecordField) -> tuple[str, tuple[FieldFault, ...]]:
    # Excess decimals are not rounded: the field stays blank and the filer gets a note.
    try:
        scaled = EXACT.scaleb(to_decimal(value), field.decimals)
    except ValueError:
        return "", ("class",)
    whole = scaled.to_integral_value()
    if scaled < ZERO or whole != scaled:
        return "", ("class",)
    digits = format_plain(whole)
    return ("", ("long",)) if len(digits) > field.width else (digits.zfill(field.width), _NO_FAULTS)


def _name_characters(characters: Sequence[str]) -> str:
    return " ".join(one if one.isprintable() else f"U+{ord(one):04X}" for one in dict.fromkeys(characters))


def _accepted_characters(field: RecordField) -> str:
    if field.kind == "N":
        return f"a number with at most {field.decimals} decimals" if field.decimals else "a whole number"
    return {"A": "letters", "AN": "letters and digits"}.get(field.kind, "printable characters")


@load_once
def record_rules(content: RulesContent) -> RecordRules:
    """Return the layouts of the message-set records."""
    return parse_file(content, RecordRules, "pga_records.yaml")
