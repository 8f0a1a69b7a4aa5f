"""Writes a line's agency answers as message-set records: OI once, then each PG01 with its records in order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest

from pipeline.core.money import format_plain
from pipeline.customs.pga.answers import USE, USE_TEXT, FlagAnswer, RequestedDatum
from pipeline.customs.pga.parties import NamedParty, UnitParties
from pipeline.customs.pga.values import read_day, read_instant, read_level, read_measure, read_month, read_taxon
from pipeline.customs.reference.content import RulesContent, rules_in_use, use_rules
from pipeline.customs.reference.pga_layouts import (
    FormattedRecord,
    RecordPosition,
    RecordRules,
    record_rules,
)
from pipeline.exports.schemas.plan import Line

_HEAD = {USE: "intended_use", USE_TEXT: "intended_use_text"}
_READ_INTO = {"party": "name", "quantities": "level", "instant": "date"}
_ENTITY_RECORDS = ("PG19", "PG20", "PG21")
_BY_HAND = "no place in the records is known for it: key it by hand"


@dataclass(frozen=True)
class RecordNote:
    """A note for the filer about a datum and the records.

    `unfit`: the records cannot take it as the plan gives it. `by_hand`: no place in the records is known for it.
    """

    index: int | None
    key: str
    note: str
    unfit: bool
    by_hand: bool = False


@dataclass
class LineRecords:
    """The records of one line, the place of each datum in them, and the notes for the filer."""

    records: list[str] = field(default_factory=list)
    places: dict[tuple[int, str], str] = field(default_factory=dict)
    notes: list[RecordNote] = field(default_factory=list)


@dataclass
class _Draft:
    """A record being filled: its values by field, the key of its first datum, and the keys of its other fields."""

    record: str
    key: str
    values: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def can_take(self, position: RecordPosition, fixed: Mapping[str, str]) -> bool:
        """Return whether the datum of the position may stand here, with the fields that come with it."""
        taken = self.values if position.alone else self.keys
        return position.field not in taken and all(
            self.values.get(name, value) == value for name, value in fixed.items()
        )


def line_records(
    line: Line, answers: Iterable[FlagAnswer], parties: UnitParties, sent: Counter[str] | None = None
) -> LineRecords:
    """Return the records of the answers that have data or a disclaimer; empty without such an answer.

    The answers to one agency stand together, numbered from 001. Agencies follow the order of the plan. `sent` counts the
    PG01 of each agency in the entry line so far: they are numbered on, and counted there.
    """
    rules = record_rules()
    result = LineRecords()
    by_agency: dict[str, list[FlagAnswer]] = {}
    for answer in answers:
        result.notes += _note_unsent(answer)
        if answer.is_answered:
            by_agency.setdefault(answer.row.agency, []).append(answer)
    if not by_agency:
        return result
    _append_record(rules, result, None, _Draft("OI", "description", {"description": line.description}))
    sent = Counter() if sent is None else sent
    for agency, agency_answers in by_agency.items():
        for answer in agency_answers:
            sent[agency] += 1
            _Writer(rules, result, line, answer, parties).write_records(sent[agency])
    return result


def _note_unsent(answer: FlagAnswer) -> Iterator[RecordNote]:
    # A disclaimer is sent with only PG01; an answer with neither disclaimer nor data is not sent.
    row = answer.row
    if row.disclaimer is not None:
        for key in sorted(row.data):
            yield RecordNote(answer.index, key, "not sent: the flag is disclaimed", unfit=False)
    elif not row.data:
        given = {"program": row.program, "processing": row.processing, USE: row.intended_use}
        for key in (key for key, value in given.items() if value is not None):
            yield RecordNote(answer.index, key, "not sent: the answer has neither data nor a disclaimer", unfit=False)


def describe_nearest(asked: RequestedDatum, value: str) -> str:
    """Return the values nearest to this one that the agency accepts, with their meanings; empty without a table."""
    nearest = () if asked.table is None else asked.table.nearest_values(value)
    return ", ".join(each.described for each in nearest)


def describe_position(key: str, agency: str) -> str | None:
    """Return where a datum for an agency stands, such as `PG02 10-28`, or None if no place is known."""
    rules = record_rules()
    if key in _HEAD:
        return rules.describe_columns("PG01", _HEAD[key])
    place = rules.find_position(key, agency)
    return None if place is None else rules.describe_columns(place.record, place.field or _READ_INTO[place.reading])


class _Writer:
    """Writes the records of one answer."""

    def __init__(
        self, rules: RecordRules, out: LineRecords, line: Line, answer: FlagAnswer, parties: UnitParties
    ) -> None:
        self._rules, self._out, self._line, self._answer, self._parties = rules, out, line, answer, parties
        self._drafts: dict[str, list[_Draft]] = {}
        self._entities: list[tuple[str, list[_Draft]]] = []
        self._by_role: dict[str, list[_Draft]] = {}

    def write_records(self, number: int) -> None:
        row, answer = self._answer.row, self._answer
        head = _Draft("PG01", "program", {"line": str(number), "agency": row.agency})
        head.keys |= {"processing": "processing", "disclaimer": "disclaimer"}
        head.values |= {
            name: value
            for name, value in (
                ("program", answer.program_code),
                ("processing", row.processing),
                ("disclaimer", row.disclaimer),
                ("intended_use", row.intended_use),
            )
            if value
        }
        if row.disclaimer is None:
            for asked in answer.data:
                if asked.key in _HEAD and asked.values:
                    name = _HEAD[asked.key]
                    head.values[name] = asked.values[0]
                    head.keys[name] = asked.key
                    self._note_position(asked, "PG01", name)
                    self._note_surplus_values(asked)
                elif asked.values:
                    self._add_datum(asked)
        self._add_record(head)
        groups = {records[0]: records for records in self._rules.together}
        later = {record for records in self._rules.together for record in records[1:]}
        for record in self._rules.order:
            if record == "PG19":
                self._add_entities()
            elif record not in _ENTITY_RECORDS and record not in later:
                rows = zip_longest(*(self._sendable_drafts(each) for each in groups.get(record, (record,))))
                for draft in (draft for row in rows for draft in row if draft is not None):
                    self._add_record(draft)
            if record == "PG22":
                # The certifier has no address: PG22 or PG19 names the role, and PG21 follows it.
                for draft in self._sendable_drafts("PG21"):
                    if self._has_certifier_party and "name" in draft.values:
                        named = {key: draft.values[key] for key in ("role", "name")}
                        self._add_record(_Draft("PG19", draft.key, named))
                    self._add_record(draft)

    @property
    def _has_certifier_party(self) -> bool:
        programs = self._rules.certifier_parties.get(self._answer.row.agency, frozenset())
        return self._answer.program_code in programs

    def _sendable_drafts(self, record: str) -> list[_Draft]:
        drafts = self._drafts.get(record, [])
        may_repeat = self._answer.row.agency in self._rules.repeated.get(record, ())
        limit = len(drafts) if may_repeat else self._rules.most.get(record, len(drafts))
        if len(drafts) > limit:
            times = "once" if limit == 1 else f"{limit} times"
            note = f"{record} is sent {times} at most; the filer must key the other values"
            left = {key: None for draft in drafts[limit:] for key in (draft.key, *draft.keys.values())}
            for key in left:
                self._add_note(key, note, unfit=True)
        return drafts[:limit]

    def _add_datum(self, asked: RequestedDatum) -> None:
        position = self._rules.find_position(asked.key, self._answer.row.agency)
        if position is None:
            self._out.notes.append(RecordNote(self._answer.index, asked.key, _BY_HAND, unfit=False, by_hand=True))
            return
        self._note_position(asked, position.record, position.field or _READ_INTO[position.reading])
        if position.reading == "party":
            self._add_party(asked, position)
            return
        if position.reading == "registrant":
            own = {"role": position.role or ""} | dict(position.others)
            drafts = [_Draft("PG19", asked.key, own | {"id": text}) for text in asked.values]
            self._entities += [(own["role"], [draft]) for draft in drafts]
            return
        if position.reading == "instant":
            self._note_surplus_values(asked)
        if self._add_values(asked, position) and position.filer is not None:
            self._add_note(asked.key, position.filer)

    def _add_values(self, asked: RequestedDatum, position: RecordPosition) -> int:
        # Returns how many values are in the records.
        at = 0
        for level, value in enumerate(asked.values[:1] if position.reading == "instant" else asked.values, start=1):
            code = asked.code_of(value)
            if code is None:
                self._add_note(
                    asked.key, f"{value} is omitted; give one of {describe_nearest(asked, value)}", unfit=True
                )
                continue
            try:
                fields = self._read_fields(position, code, level)
            except ValueError as error:
                self._add_note(asked.key, str(error), unfit=True)
                continue
            draft = self._new_draft(asked, position, at if position.reading != "quantities" else level - 1)
            draft.values.update(fields)
            draft.keys |= dict.fromkeys((position.field,) if position.field else (), asked.key)
            draft.values |= position.codes.get(code, {})
            at += 1
        return at

    def _read_fields(self, position: RecordPosition, text: str, level: int) -> Mapping[str, str]:
        name = position.field or ""
        match position.reading:
            case "quantities":
                own_unit = self._line.unit if level == 1 else None
                own_quantity = format_plain(self._line.quantity)
                return {"level": str(level)} | dict(read_level(text, own_unit=own_unit, own_quantity=own_quantity))
            case "measure":
                return read_measure(text, name)
            case "instant":
                return read_instant(text)
            case "day":
                return read_day(text, name)
            case "month":
                return read_month(text, name)
            case "taxon":
                return read_taxon(text, name)
            case _:
                return {name: text}

    def _new_draft(self, asked: RequestedDatum, position: RecordPosition, at: int) -> _Draft:
        fixed = {} if self._answer.row.processing in position.unless else position.others
        if position.role is not None:
            drafts = self._by_role.setdefault(position.role, [])
            draft = _Draft(position.record, asked.key)
            drafts.append(draft)
        else:
            # Data for one record share it, value by value; a field that another datum has filled is not overwritten.
            drafts = self._drafts.setdefault(position.record, [])
            while at < len(drafts) and not drafts[at].can_take(position, fixed):
                at += 1
            while len(drafts) <= at:
                drafts.append(_Draft(position.record, asked.key))
            draft = drafts[at]
        for name, value in fixed.items():
            draft.values.setdefault(name, value)
        return draft

    def _note_surplus_values(self, asked: RequestedDatum) -> None:
        if len(asked.values) > 1:
            self._add_note(asked.key, "only one value is sent; the filer must key the other values", unfit=True)

    def _add_party(self, asked: RequestedDatum, position: RecordPosition) -> None:
        role = position.role or ""
        for text in asked.values:
            named = self._parties.find(text, self._line.manufacturer_ref if role == "MF" else None)
            if named is None:
                self._entities.append((role, [_Draft("PG19", asked.key, {"role": role, "name": text})]))
                note = (
                    f"no party of the unit is named {text}, so its address is not in the plan; name one of its parties"
                )
                self._add_note(asked.key, note, unfit=True)
                continue
            no_code = self._rules.without_postal_code.get(self._answer.row.agency)
            drafts = list(
                _entity_drafts(asked.key, role, named, self._rules, contact=position.contact, no_code=no_code)
            )
            if position.contact and len(drafts) < len(_ENTITY_RECORDS):
                self._add_note(asked.key, f"the plan has no contact of {named.name} for PG21", unfit=True)
            self._entities.append((role, drafts))

    def _add_entities(self) -> None:
        written = set()
        for role, drafts in self._entities:
            more = [] if role in written else self._by_role.get(role, [])
            written.add(role)
            # PG19, PG20 and PG21 stay together; the overflow records follow them.
            overflow = [text for draft in drafts for text in self._add_record(draft, overflow=False)]
            self._out.records.extend(overflow)
            for draft in more:
                self._add_record(draft)
        for role, drafts in self._by_role.items():
            if role not in written:
                for draft in drafts:
                    self._add_record(draft)
                    note = f"it belongs to a party in the role {role}, but the answer names none"
                    self._add_note(draft.key, note, unfit=True)

    def _add_record(self, draft: _Draft, *, overflow: bool = True) -> list[str]:
        return _append_record(self._rules, self._out, self._answer.index, draft, overflow=overflow)

    def _note_position(self, asked: RequestedDatum, record: str, name: str) -> None:
        self._out.places[self._answer.index, asked.key] = self._rules.describe_columns(record, name)

    def _add_note(self, key: str, note: str, *, unfit: bool = False) -> None:
        self._out.notes.append(RecordNote(self._answer.index, key, note, unfit))


def _entity_drafts(
    key: str, role: str, named: NamedParty, rules: RecordRules, *, contact: bool, no_code: str | None
) -> Iterator[_Draft]:
    address = named.address
    identity = next(
        (
            {"id_type": kind.type, "id": named.identifiers[name]}
            for name, kind in rules.entity_ids.items()
            if re.fullmatch(kind.pattern, named.identifiers.get(name, ""))
        ),
        {},
    )
    yield _Draft("PG19", key, {"role": role, "name": named.name, "address_1": address.line1} | identity)
    parts = {
        "address_2": address.line2,
        "city": address.city,
        "state": address.region,
        "country": address.country,
        "postal_code": address.postal_code or no_code,
    }
    yield _Draft("PG20", key, {name: value for name, value in parts.items() if value})
    if contact and named.contact is not None:
        answers = {"name": named.contact.name, "phone": named.contact.phone, "email": named.contact.email}
        yield _Draft("PG21", key, {"role": role} | {name: value for name, value in answers.items() if value})


def _append_record(
    rules: RecordRules, out: LineRecords, place: int | None, draft: _Draft, *, overflow: bool = True
) -> list[str]:
    """Add a record and return its overflow records, which are added too unless `overflow` is False."""
    formatted = _format_record(draft.record, tuple(draft.values.items()))
    out.records.append(formatted.text)
    more: list[str] = []
    for problem in formatted.problems:
        qualifier = rules.overflow.get(draft.record, {}).get(problem.field)
        if problem.fault == "long" and qualifier is not None:
            rest = rules.format_record("PG60", {"qualifier": qualifier, "text": draft.values[problem.field]})
            more.append(rest.text)
            if not any(each.fault == "long" for each in rest.problems):
                continue
        shortened = problem.field in rules.shortened.get(draft.record, ())
        cut = shortened and problem.fault == "long"
        note = rules.describe_problem(problem, draft.values.get(problem.field, ""), shortened=cut)
        unfit = problem.fault != "empty" and not cut
        out.notes.append(RecordNote(place, draft.keys.get(problem.field, draft.key), note, unfit))
    if overflow:
        out.records.extend(more)
    return more


def _format_record(record: str, values: tuple[tuple[str, str], ...]) -> FormattedRecord:
    return _format_record_once(rules_in_use(), record, values)


@lru_cache(maxsize=8192)
def _format_record_once(content: RulesContent, record: str, values: tuple[tuple[str, str], ...]) -> FormattedRecord:
    # Cached: most lines have the same parties and other values as the line before.
    with use_rules(content):
        return record_rules().format_record(record, dict(values))
