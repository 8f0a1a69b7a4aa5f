"""Writes a line's agency answers as message-set records: OI once, then each PG01 with its records in order."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

from pipeline.core.money import format_plain
from pipeline.customs.pga.answers import USE, USE_TEXT, FlagAnswer, RequestedDatum
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.record_fields import (
    LineRecords,
    PartyDrafts,
    RecordDraft,
    RecordNote,
    append_record,
    entity_drafts,
)
from pipeline.customs.pga.values import read_day, read_instant, read_level, read_measure, read_month, read_taxon
from pipeline.customs.reference.pga_layouts import RecordPosition, RecordRules, record_rules
from pipeline.exports.schemas.plan import Line

_HEAD = {USE: "intended_use", USE_TEXT: "intended_use_text"}
_READ_INTO = {"party": "name", "quantities": "level", "instant": "date"}
_ENTITY_RECORDS = ("PG19", "PG20", "PG21")
_BY_HAND = "no place in the records is known for it: key it by hand"


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
    append_record(rules, result, None, RecordDraft("OI", "description", {"description": line.description}))
    sent = Counter() if sent is None else sent
    for agency, agency_answers in by_agency.items():
        for answer in agency_answers:
            sent[agency] += 1
            _Writer(rules, result, line, answer, parties).write_records(sent[agency])
    return result


def _note_unsent(answer: FlagAnswer) -> Iterator[RecordNote]:
    # A disclaimer is sent with only PG01, which has the intended use; an answer with neither disclaimer nor data is not sent.
    row = answer.row
    if row.disclaimer is not None:
        for key in sorted(row.data.keys() - {USE_TEXT}):
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
        self._drafts: dict[str, list[RecordDraft]] = {}
        self._entities: list[PartyDrafts] = []
        self._party_ids: list[RecordDraft] = []
        self._of_parties: list[tuple[str, RecordPosition, list[list[RecordDraft]]]] = []
        self._by_role: dict[str, list[RecordDraft]] = {}

    def write_records(self, number: int) -> None:
        self._add_record(self._read_answer(number))
        if self._answer.row.disclaimer is not None:
            return
        self._place_party_ids()
        self._share_among_parties()
        components = self._take_components()
        self._complete_records()
        articles = self._rules.grouped.get(self._answer.row.agency, ())
        for record in self._rules.order:
            if record == "PG19":
                self._add_entities()
            elif record in articles:
                if record == articles[0]:
                    self._add_articles(articles)
            elif record not in _ENTITY_RECORDS:
                self._add_together(record)
            if record == "PG22":
                self._add_certifier()
        for draft in components:
            self._add_record(draft)

    def _read_answer(self, number: int) -> RecordDraft:
        # The PG01 of the answer; the other records are drafted.
        row, answer = self._answer.row, self._answer
        head = RecordDraft("PG01", "program", {"line": str(number), "agency": row.agency})
        head.keys |= {"processing": "processing", "disclaimer": "disclaimer"}
        given = {"program": answer.program_code, "processing": row.processing, "disclaimer": row.disclaimer}
        given["intended_use"] = row.intended_use
        head.values |= {name: value for name, value in given.items() if value}
        for asked in answer.data:
            if asked.key in _HEAD and asked.values:
                name = _HEAD[asked.key]
                head.values[name] = asked.values[0]
                head.keys[name] = asked.key
                self._note_position(asked, "PG01", name)
                self._note_surplus_values(asked)
            elif asked.values:
                self._add_datum(asked)
        return head

    def _add_together(self, record: str) -> None:
        # Records that are combined stand with the first of them.
        if any(record in records[1:] for records in self._rules.together):
            return
        combined = next((records for records in self._rules.together if records[0] == record), (record,))
        for some in zip_longest(*(self._sendable_drafts(each) for each in combined)):
            for draft in (draft for draft in some if draft is not None):
                self._add_record(draft)

    def _add_certifier(self) -> None:
        # The certifier has no address: PG22 or PG19 names the role, and PG21 follows it.
        for draft in self._sendable_drafts("PG21"):
            if self._has_certifier_party and "name" in draft.values:
                named = {key: draft.values[key] for key in ("role", "name")}
                self._add_record(RecordDraft("PG19", draft.key, named))
            self._add_record(draft)

    def _place_party_ids(self) -> None:
        # An identification completes the record of the party in its role, or is a record of its own.
        for draft in self._party_ids:
            role = draft.values["role"]
            for party in self._entities:
                if party.role == role and "id" not in party.drafts[0].values:
                    party.drafts[0].values |= draft.values
                    party.drafts[0].keys |= draft.keys
                    break
            else:
                self._entities.append(PartyDrafts(role, [draft]))

    def _share_among_parties(self) -> None:
        for key, position, values in self._of_parties:
            parties = [party for party in self._entities if party.role in position.each]
            if not parties and position.bare:
                (role,) = position.each
                parties = [PartyDrafts(role, [RecordDraft("PG19", key, {"role": role})])]
                self._entities += parties
            roles = " or ".join(position.each)
            if not parties:
                self._add_note(key, f"it belongs to a party in the role {roles}, but the answer names none", unfit=True)
            elif len(parties) == 1 and not position.before:
                parties[0].after += [draft for drafts in values for draft in drafts]
            elif len(parties) != len(values):
                note = f"the answer names {len(parties)} parties in the role {roles}; give a value for each"
                self._add_note(key, note, unfit=True)
            else:
                for party, drafts in zip(parties, values, strict=True):
                    (party.before if position.before else party.after).extend(drafts)

    def _take_components(self) -> list[RecordDraft]:
        # The records of several ingredients: a component each, after all other records.
        least = self._rules.components.get(self._answer.row.agency, {}).get(self._answer.program_code or "")
        codes, parts = self._drafts.get("PG02", []), self._drafts.get("PG04", [])
        if least is None or max(len(codes), len(parts)) < least:
            return []
        self._drafts |= {"PG02": [], "PG04": []}
        found = []
        for code, part in zip_longest(codes, parts):
            component = RecordDraft("PG02", part.key) if code is None else code
            component.values["item_type"] = "C"
            found += [component] if part is None else [component, part]
        return found

    def _complete_records(self) -> None:
        agency = self._answer.row.agency
        if agency in self._rules.product_records and not self._drafts.get("PG02"):
            self._drafts["PG02"] = [RecordDraft("PG02", "program", {"item_type": "P"})]
        for record, names in self._rules.repeated.get(agency, {}).items():
            drafts = self._drafts.get(record, [])
            for name in names:
                given = {draft.values[name] for draft in drafts if name in draft.values}
                if len(given) == 1:
                    for draft in drafts:
                        draft.values.setdefault(name, *given)

    def _add_articles(self, records: Iterable[str]) -> None:
        # What the answer gives once is of each article.
        drafts = {record: self._sendable_drafts(record) for record in records}
        count = 1 + max((draft.at for some in drafts.values() for draft in some), default=0)
        for at in range(count):
            own = [
                draft for some in drafts.values() for draft in some if draft.at == at or not any(one.at for one in some)
            ]
            if count > 1:
                self._add_record(RecordDraft("PG50", "program"))
            for draft in own:
                self._add_record(draft)
            if count > 1:
                self._add_record(RecordDraft("PG51", "program"))

    @property
    def _has_certifier_party(self) -> bool:
        programs = self._rules.certifier_parties.get(self._answer.row.agency, frozenset())
        return self._answer.program_code in programs

    def _sendable_drafts(self, record: str) -> list[RecordDraft]:
        drafts = self._drafts.get(record, [])
        limit = self._rules.most.get(record, len(drafts))
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
            drafts = [RecordDraft("PG19", asked.key, own | {"id": text}) for text in asked.values]
            self._entities += [PartyDrafts(own["role"], [draft]) for draft in drafts]
            return
        if position.reading == "instant":
            self._note_surplus_values(asked)
        if self._add_values(asked, position) and position.filer is not None:
            self._add_note(asked.key, position.filer)

    def _add_values(self, asked: RequestedDatum, position: RecordPosition) -> int:
        # Returns how many values are in the records.
        at = 0
        if position.each:
            drafts = [self._read_drafts(asked.key, position, value) for value in asked.values]
            self._of_parties.append((asked.key, position, drafts))
            return len(drafts)
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
            if position.record == "PG19":
                values = {"role": position.role or "", **position.others, **fields}
                self._party_ids.append(RecordDraft("PG19", asked.key, values, dict.fromkeys(fields, asked.key)))
                at += 1
                continue
            draft = self._new_draft(asked, position, at if position.reading != "quantities" else level - 1)
            draft.values.update(fields)
            draft.keys |= dict.fromkeys((position.field,) if position.field else (), asked.key)
            draft.values |= position.codes.get(code, {})
            at += 1
        return at

    def _read_drafts(self, key: str, position: RecordPosition, value: str) -> list[RecordDraft]:
        # The records of one value: one for each code of a list.
        drafts = []
        for text in value.split(",") if position.reading == "codes" else (value,):
            try:
                fields = self._read_fields(position, text.strip(), 1)
            except ValueError as error:
                self._add_note(key, str(error), unfit=True)
                continue
            drafts.append(RecordDraft(position.record, key, {**position.others, **fields}, dict.fromkeys(fields, key)))
        return drafts

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

    def _new_draft(self, asked: RequestedDatum, position: RecordPosition, at: int) -> RecordDraft:
        fixed = {} if self._answer.row.processing in position.unless else position.others
        fixed = {**fixed, **position.programs.get(self._answer.program_code or "", {})}
        if position.role is not None:
            drafts = self._by_role.setdefault(position.role, [])
            draft = RecordDraft(position.record, asked.key)
            drafts.append(draft)
        else:
            # Data for one record share it, value by value; a field that another datum has filled is not overwritten.
            drafts = self._drafts.setdefault(position.record, [])
            if position.record in self._rules.grouped.get(self._answer.row.agency, ()):
                found = [draft for draft in drafts if draft.at == at and draft.can_take(position, fixed)]
                if not found:
                    found = [RecordDraft(position.record, asked.key, at=at)]
                    drafts += found
                draft = found[0]
            else:
                while at < len(drafts) and not drafts[at].can_take(position, fixed):
                    at += 1
                while len(drafts) <= at:
                    drafts.append(RecordDraft(position.record, asked.key))
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
                self._entities.append(PartyDrafts(role, [RecordDraft("PG19", asked.key, {"role": role, "name": text})]))
                note = (
                    f"no party of the unit is named {text}, so its address is not in the plan; name one of its parties"
                )
                self._add_note(asked.key, note, unfit=True)
                continue
            no_code = self._rules.without_postal_code.get(self._answer.row.agency)
            drafts = list(entity_drafts(asked.key, role, named, self._rules, contact=position.contact, no_code=no_code))
            if position.contact and len(drafts) < len(_ENTITY_RECORDS):
                self._add_note(asked.key, f"the plan has no contact of {named.name} for PG21", unfit=True)
            self._entities.append(PartyDrafts(role, drafts))

    def _add_entities(self) -> None:
        written = set()
        for party in self._entities:
            more = [] if party.role in written else self._by_role.get(party.role, [])
            written.add(party.role)
            for draft in party.before:
                self._add_record(draft)
            # PG19, PG20 and PG21 stay together; the overflow records follow them.
            overflow = [text for draft in party.drafts for text in self._add_record(draft, overflow=False)]
            self._out.records.extend(overflow)
            for draft in (*more, *party.after):
                self._add_record(draft)
        for role, drafts in self._by_role.items():
            if role not in written:
                for draft in drafts:
                    self._add_record(draft)
                    note = f"it belongs to a party in the role {role}, but the answer names none"
                    self._add_note(draft.key, note, unfit=True)

    def _add_record(self, draft: RecordDraft, *, overflow: bool = True) -> list[str]:
        return append_record(self._rules, self._out, self._answer.index, draft, overflow=overflow)

    def _note_position(self, asked: RequestedDatum, record: str, name: str) -> None:
        self._out.places[self._answer.index, asked.key] = self._rules.describe_columns(record, name)

    def _add_note(self, key: str, note: str, *, unfit: bool = False) -> None:
        self._out.notes.append(RecordNote(self._answer.index, key, note, unfit))
