"""The answer of a line to each agency flag, compared with what the flag's program asks for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from pipeline.core.money import format_plain
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.pga import AgencyFlag, AgencyProgram, PgaRules, PlanFact, pga_rules
from pipeline.customs.reference.pga_values import ValueTable
from pipeline.exports.schemas.plan import Line, Pga, Unit

USE, USE_TEXT = "intendedUse", "intendedUseText"


@dataclass(frozen=True)
class RequestedDatum:
    """One datum of an answer: its alternative `keys`, and the values that the plan has for it.

    `shape` is the required form if a value has another one; `table` has the values that the agency accepts.
    """

    keys: tuple[str, ...]
    label: str
    values: tuple[str, ...]
    required: bool
    shape: str | None = None
    table: ValueTable | None = None

    @property
    def key(self) -> str:
        """The key that identifies the datum."""
        return self.keys[0]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The values that a complete table does not have."""
        return tuple(value for value in self.values if self.code_of(value) is None)

    def describe_value(self, value: str) -> str:
        """Return the value in words: a code of a table with its meaning, any other value unchanged."""
        known = None if self.table is None else self.table.find_value(value)
        return value if known is None else f"{known.code}: {known.text}"

    def code_of(self, value: str) -> str | None:
        """Return the text of the value in the records; None if the agency does not accept it."""
        known = None if self.table is None else self.table.find_value(value)
        if known is not None:
            return known.code
        return None if self.table is not None and self.table.complete else value


@dataclass(frozen=True)
class FlagAnswer:
    """The row at `index` of a line's PGA rows, with its flag and program; each is None if the rules do not know it."""

    index: int
    row: Pga
    flag: AgencyFlag | None
    program: AgencyProgram | None
    program_code: str | None
    data: tuple[RequestedDatum, ...]

    @property
    def is_answered(self) -> bool:
        """Return whether the answer has data or a disclaimer."""
        return self.row.disclaimer is not None or bool(self.row.data)


def flag_answers(unit: Unit, line: Line, on: date) -> Iterator[FlagAnswer]:
    """Yield the line's answers in the order of the plan; `on` is the day of entry."""
    rules = pga_rules()
    for place, row in enumerate(line.treatment.pga):
        flag = rules.find_flag(row.flag, on)
        if flag is not None and flag.agency != row.agency:
            flag = None
        code = row.program or (flag.programs[0] if flag is not None and len(flag.programs) == 1 else None)
        program = rules.find_program(row.agency, code, on)
        if row.disclaimer is None:
            requested = tuple(_requested_data(rules, unit, line, row, flag, program, on))
        else:
            asks = program is not None and row.disclaimer in program.disclaimed_uses
            requested = tuple(_requested_use(rules, row, asks=asks))
        yield FlagAnswer(place, row, flag, program, code, requested)


def _requested_use(rules: PgaRules, row: Pga, *, asks: bool) -> Iterator[RequestedDatum]:
    use = rules.find_intended_use(row.intended_use)
    if row.intended_use is not None or asks:
        yield RequestedDatum(
            (USE,), "Intended use", () if row.intended_use is None else (row.intended_use,), required=True
        )
    if USE_TEXT in row.data or (use is not None and use.needs_text):
        label = rules.elements[USE_TEXT].label
        yield RequestedDatum((USE_TEXT,), label, _as_tuple(row.data.get(USE_TEXT, ())), required=True)


def _requested_data(
    rules: PgaRules, unit: Unit, line: Line, row: Pga, flag: AgencyFlag | None, program: AgencyProgram | None, on: date
) -> Iterator[RequestedDatum]:
    given = dict(row.data)
    countries = entry_rules().countries.codes
    yield from _requested_use(rules, row, asks=program is not None and program.intended_use)
    given.pop(USE_TEXT, None)
    notice = flag is not None and flag.prior_notice and (program is None or program.prior_notice_filed not in given)
    needed: tuple[str, ...] = ()
    if program is not None:
        needed = program.required_keys(row.processing, _deciding_codes(rules, program, row, on), prior_notice=notice)
    done: set[str] = set()
    for some in needed:
        keys = tuple(some.split("|"))
        if not done.isdisjoint(keys):
            continue
        key = next((key for key in keys if key in given), keys[0])
        done.add(key)
        element = rules.elements[key]
        values = _as_tuple(given.pop(key, ())) or _plan_values(element.carried, unit, line)
        label = " or ".join(rules.elements[each].label for each in keys) if not values else element.label
        ordered = (key, *(each for each in keys if each != key))
        table = rules.find_values(key, row.agency, on)
        shape = element.find_fault(values, countries)
        yield RequestedDatum(ordered, label, values, required=True, shape=shape, table=table)
    for key, value in sorted(given.items()):
        known, values = rules.elements.get(key), _as_tuple(value)
        if known is None:
            yield RequestedDatum((key,), _separate_words(key), values, required=False)
            continue
        shape, table = known.find_fault(values, countries), rules.find_values(key, row.agency, on)
        yield RequestedDatum((key,), known.label, values, required=False, shape=shape, table=table)


def _deciding_codes(rules: PgaRules, program: AgencyProgram, row: Pga, on: date) -> dict[str, tuple[str, ...]]:
    # The intended use, and the codes of the data that decide what else the program requires.
    codes: dict[str, tuple[str, ...]] = {} if row.intended_use is None else {USE: (row.intended_use,)}
    for key in {case.of for case in program.cases} & row.data.keys():
        table = rules.find_values(key, row.agency, on)
        values = _as_tuple(row.data[key])
        known = [None if table is None else table.find_value(each) for each in values]
        codes[key] = tuple(
            each.strip().upper() if code is None else code.code for each, code in zip(values, known, strict=True)
        )
    return codes


def _as_tuple(value: str | list[str] | tuple[()]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _plan_values(carried: PlanFact | None, unit: Unit, line: Line) -> tuple[str, ...]:
    match carried:
        case "arrival":
            arrival = unit.entry.estimated_arrival_at
            return () if arrival is None else (arrival.isoformat(timespec="minutes").replace("+00:00", "Z"),)
        case "port_of_entry":
            return (unit.entry.port_of_entry,)
        case "country_of_origin":
            return (line.country_of_origin,)
        case "quantity":
            return (f"{format_plain(line.quantity)} {line.unit}",)
        case "importer":
            return (unit.parties.importer_of_record.name or unit.parties.buyer.name,)
        case "consignee":
            return (unit.parties.ship_to.name,)
        case None:
            return ()


def _separate_words(key: str) -> str:
    # The label of a key that the rules do not know: the key itself, split into words.
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return words[:1].upper() + words[1:].lower()
