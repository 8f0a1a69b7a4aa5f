"""Builds the PGA worksheet of a unit: per line and agency what the filer must key, and whether the plan has it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from pipeline.customs.pga.answers import USE, FlagAnswer, RequestedDatum, flag_answers
from pipeline.customs.pga.forms import build_forms
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.record_fields import LineRecords, RecordNote
from pipeline.customs.pga.records import describe_position, line_records
from pipeline.customs.reference.pga import PgaRules, pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas.pga_worksheet import (
    AgencyAnswer,
    AgencyTotal,
    Datum,
    DatumState,
    PgaWorksheet,
    WorksheetLine,
)
from pipeline.exports.schemas.plan import Unit


def build_worksheet(unit: Unit, on: date, digests: Mapping[str, str]) -> PgaWorksheet:
    """Return the worksheet of the unit's lines with an agency flag, which are entered on the day `on`.

    `digests` holds the treatment digests by `lineRef`.
    """
    rules = pga_rules()
    parties = UnitParties(unit)
    answers = [list(flag_answers(unit, line, on)) for line in unit.lines]
    groups = group_entry_lines(unit)
    entry_lines = {number: place for place, group in enumerate(groups, start=1) for number in group}
    sent: dict[int, Counter[str]] = defaultdict(Counter)
    lines = tuple(
        _worksheet_line(
            rules,
            unit,
            number,
            on,
            digests,
            some,
            line_records(line, some, parties, sent[entry_lines[number]]),
            entry_lines[number],
        )
        for number, (line, some) in enumerate(zip(unit.lines, answers, strict=True), start=1)
        if line.treatment.pga
    )
    counts = Counter(datum.state for line in lines for answer in line.answers for datum in answer.data)
    return PgaWorksheet(
        entered_on=on,
        rules_as_of=rules.as_of,
        rules_source=record_rules().source,
        line_count=len(unit.lines),
        lines_seen=len(lines),
        lines=lines,
        agencies=tuple(_agency_totals(lines)),
        present=counts["present"],
        missing=counts["missing"],
        person=counts["person"],
        forms=tuple(build_forms(unit, answers, on)),
    )


def _worksheet_line(
    rules: PgaRules,
    unit: Unit,
    number: int,
    on: date,
    digests: Mapping[str, str],
    answers: list[FlagAnswer],
    records: LineRecords,
    entry_line: int,
) -> WorksheetLine:
    line = unit.lines[number - 1]
    return WorksheetLine(
        number=number,
        entry_line=entry_line,
        line_ref=line.line_ref,
        sku=line.sku,
        description=line.description,
        hts_code=f"{line.hts_code[:4]}.{line.hts_code[4:6]}.{line.hts_code[6:]}",
        country_of_origin=line.country_of_origin,
        treatment_digest=digests[line.line_ref],
        answers=tuple(_agency_answer(rules, unit, answer, records, on) for answer in answers),
        notes=tuple(f"OI: {one.note}" for one in records.notes if one.index is None),
        records=tuple(records.records),
    )


def _agency_answer(rules: PgaRules, unit: Unit, answer: FlagAnswer, records: LineRecords, on: date) -> AgencyAnswer:
    row, flag, program = answer.row, answer.flag, answer.program
    notes = [one for one in records.notes if one.index == answer.index]
    is_asked_for = flag is not None and flag.is_asked_for(on, unit.entry.type)
    if row.disclaimer is not None:
        outcome: str | None = f"Disclaimed {row.disclaimer}"
        uses = (_requested_datum(answer, asked, records, notes) for asked in answer.data)
        data = (*_disclaimer_data(rules, answer, notes, unit.entry.type), *uses, *_unsent_data(rules, answer, notes))
    elif row.data:
        outcome = None if flag is not None else "flag not known for this agency"
        data = (*_code_data(answer, notes), *(_requested_datum(answer, asked, records, notes) for asked in answer.data))
    elif flag is None or (is_asked_for and flag.needs_answer):
        outcome = "Not answered"
        data = (_unanswered_datum(answer), *_unsent_data(rules, answer, notes))
    else:
        outcome = "No answer needed" if is_asked_for else "Not asked for on the day of entry"
        data = tuple(_unsent_data(rules, answer, notes))
    states = {datum.state for datum in data}
    by = program or flag
    return AgencyAnswer(
        flag=row.flag,
        agency=row.agency,
        agency_name=rules.agencies.get(row.agency, row.agency),
        program=answer.program_code,
        program_name=None if program is None else program.name,
        processing=row.processing,
        processing_name=None if program is None else program.processing.get(row.processing or ""),
        disclaimer=row.disclaimer,
        outcome=outcome,
        advisory=flag is not None and flag.advisory,
        state="missing" if "missing" in states else "person" if "person" in states else "present",
        data=data,
        source=None if by is None else by.source,
        confirmed=by is not None and by.status != "check",
    )


def _unanswered_datum(answer: FlagAnswer) -> Datum:
    flag = answer.flag
    choices = "" if flag is None else " or ".join(flag.disclaimers)
    is_certain = flag is not None and flag.status != "check"
    note = "data"
    if flag is None:
        note = "the rules do not know this flag of the agency on the day of entry"
    elif choices:
        note = f"data, or disclaimer {choices}"
    return _make_datum("answer", "Answer to the flag", "missing" if is_certain else "person", (), None, note)


def _unsent_data(rules: PgaRules, answer: FlagAnswer, notes: list[RecordNote]) -> Iterator[Datum]:
    # Values that the plan gives but that are not sent: with a disclaimer, or in an answer without data.
    row = answer.row
    codes = {"program": ("Program", row.program), "processing": ("Processing code", row.processing)}
    codes[USE] = ("Intended use", row.intended_use)
    for one in notes:
        label, value = codes.get(one.key, (None, None))
        if one.key in row.data and all(asked.key != one.key for asked in answer.data):
            given = row.data[one.key]
            known = rules.elements.get(one.key)
            label = one.key if known is None else known.label
            yield _make_datum(
                one.key, label, "person", (given,) if isinstance(given, str) else tuple(given), None, one.note
            )
        elif label is not None and value is not None and not answer.is_answered:
            yield _make_datum(one.key, label, "person", (value,), None, one.note)


def _disclaimer_data(
    rules: PgaRules, answer: FlagAnswer, record_notes: list[RecordNote], entry_type: str
) -> Iterator[Datum]:
    code, flag = answer.row.disclaimer or "", answer.flag
    allowed = flag is not None and code in rules.allowed_disclaimers(flag, answer.program, entry_type)
    columns = record_rules().describe_columns("PG01", "disclaimer")
    yield _make_datum(
        "disclaimer",
        "Disclaimer",
        "present" if allowed else "person",
        (f"{code}: {rules.find_disclaimer(code).text}",),
        columns,
        None if allowed else "the rules do not list it as allowed here",
    )
    yield from _code_data(answer, record_notes)


def _code_data(answer: FlagAnswer, record_notes: list[RecordNote]) -> Iterator[Datum]:
    program, processing = answer.program, answer.row.processing
    columns = record_rules().describe_columns
    code, flag = answer.program_code, answer.flag
    notes = [one.note for one in record_notes if one.key == "program"]
    if code is not None and (program is None or (flag is not None and flag.programs and code not in flag.programs)):
        notes.append("the rules do not know it for this flag")
    state: DatumState = "person" if notes else "present"
    name = f" {program.name}" if program is not None and program.name else ""
    yield _make_datum(
        "program", "Program", state, () if code is None else (f"{code}{name}",), columns("PG01", "program"), *notes
    )
    if answer.row.disclaimer is not None or (program is None and processing is None):
        return
    known = {} if program is None else program.processing
    if processing is None and not known:
        return
    name = f" {known[processing]}" if processing is not None and known.get(processing) else ""
    yield _make_datum(
        "processing",
        "Processing code",
        "present" if processing in known else "person",
        () if processing is None else (f"{processing}{name}",),
        columns("PG01", "processing"),
        None if processing in known else f"one of {', '.join(known)}" if known else "the rules do not know it",
    )


def _requested_datum(
    answer: FlagAnswer, requested: RequestedDatum, records: LineRecords, record_notes: list[RecordNote]
) -> Datum:
    notes = [one.note for one in record_notes if one.key == requested.key]
    is_certain = all(row is not None and row.status != "check" for row in (answer.flag, answer.program))
    state: DatumState = "present"
    if not requested.values:
        state = "missing" if is_certain else "person"
        notes = notes or ["" if is_certain else "only a secondary source says that it is asked for"]
    elif notes or requested.shape is not None or requested.unknown:
        state = "person"
    if requested.shape is not None:
        notes.insert(0, f"not {requested.shape}")
    place = records.places.get((answer.index, requested.key)) or describe_position(requested.key, answer.row.agency)
    values = tuple(map(requested.describe_value, requested.values))
    return _make_datum(requested.key, requested.label, state, values, place, *notes)


def _make_datum(
    key: str, label: str, state: DatumState, values: tuple[str, ...] = (), place: str | None = None, *notes: str | None
) -> Datum:
    note = "; ".join(each for each in notes if each)
    return Datum(key=key, label=label, state=state, values=values, place=place, note=note or None)


def _agency_totals(lines: Iterable[WorksheetLine]) -> Iterator[AgencyTotal]:
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    states: Counter[tuple[str, str]] = Counter()
    for line in lines:
        seen.update({answer.agency for answer in line.answers})
        for answer in line.answers:
            names.setdefault(answer.agency, answer.agency_name)
            states.update((answer.agency, datum.state) for datum in answer.data)
    for agency, name in names.items():
        yield AgencyTotal(
            agency=agency,
            name=name,
            lines=seen[agency],
            present=states[agency, "present"],
            missing=states[agency, "missing"],
            person=states[agency, "person"],
        )
