"""Records of the message set while they are filled, and the notes of those that do not fit."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.customs.pga.parties import NamedParty
from pipeline.customs.reference.content import RulesContent, rules_in_use, use_rules
from pipeline.customs.reference.pga_layouts import FormattedRecord, RecordPosition, RecordRules, record_rules


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
class RecordDraft:
    """A record being filled: its values by field, the key of its first datum, and the keys of its other fields."""

    record: str
    key: str
    values: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    #: The article that the record is of, counted from 0.
    at: int = 0

    def can_take(self, position: RecordPosition, fixed: Mapping[str, str]) -> bool:
        """Return whether the datum of the position may stand here, with the fields that come with it."""
        taken = self.values if position.alone else self.keys
        return position.field not in taken and all(
            self.values.get(name, value) == value for name, value in fixed.items()
        )


@dataclass
class PartyDrafts:
    """The records of one party, and the records of the data that belong to it."""

    role: str
    drafts: list[RecordDraft]
    before: list[RecordDraft] = field(default_factory=list)
    after: list[RecordDraft] = field(default_factory=list)


def entity_drafts(
    key: str, role: str, named: NamedParty, rules: RecordRules, *, contact: bool, no_code: str | None
) -> Iterator[RecordDraft]:
    """Yield the records of a party: PG19, PG20, and PG21 if it has a contact that is asked for."""
    address = named.address
    identity = next(
        (
            {"id_type": kind.type, "id": named.identifiers[name]}
            for name, kind in rules.entity_ids.items()
            if re.fullmatch(kind.pattern, named.identifiers.get(name, ""))
        ),
        {},
    )
    yield RecordDraft("PG19", key, {"role": role, "name": named.name, "address_1": address.line1} | identity)
    parts = {
        "address_2": address.line2,
        "city": address.city,
        "state": address.region,
        "country": address.country,
        "postal_code": address.postal_code or no_code,
    }
    yield RecordDraft("PG20", key, {name: value for name, value in parts.items() if value})
    if contact and named.contact is not None:
        answers = {"name": named.contact.name, "phone": named.contact.phone, "email": named.contact.email}
        yield RecordDraft("PG21", key, {"role": role} | {name: value for name, value in answers.items() if value})


def append_record(
    rules: RecordRules, out: LineRecords, place: int | None, draft: RecordDraft, *, overflow: bool = True
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
