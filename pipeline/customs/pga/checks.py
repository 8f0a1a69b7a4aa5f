"""Checks that a line answers each flag of a partner government agency with data or with an allowed disclaimer."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.core.findings import Finding, Severity
from pipeline.customs.pga.answers import USE, USE_TEXT, FlagAnswer, flag_answers
from pipeline.customs.pga.forms import find_uneven_lists
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.record_fields import LineRecords
from pipeline.customs.pga.records import describe_nearest, line_records
from pipeline.customs.reference.base import ReferenceRow, join_words
from pipeline.customs.reference.pga import AgencyFlag, PgaRules, pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.schemas.plan import Entry, Line, Unit

#: The fields of a PGA row that are not in its data.
_CODES = frozenset({"program", "processing", "disclaimer", USE})


def check_agencies(unit: Unit, line: Line, parties: UnitParties, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the agency answers of a line that is entered on the day `on` (V14 and its variants).

    V14-RECORD reports what the message-set records cannot take unchanged, V14-HAND what has no known place in them.
    """
    if not line.treatment.pga:
        return
    answers = list(flag_answers(unit, line, on))
    for answer in answers:
        context = _FindingContext(pga_rules(), line, answer, f"{pointer}/treatment/pga/{answer.index}")
        yield from _check_answer(context, unit.entry.type, on)
        yield from _check_values(context)
        yield from _check_lists(context, on)
        yield from _check_arrival(context, unit.entry)
    yield from _check_records(line, answers, parties, pointer)


def _check_answer(context: "_FindingContext", entry_type: str, on: date) -> Iterator[Finding]:
    row, rules = context.answer.row, context.rules
    rows = rules.flag_rows(row.flag)
    if not rows:
        yield context.finding(
            "V14-FLAG",
            "note",
            "/flag",
            f"it answers flag {row.flag}, which the rules of {rules.as_of} do not know",
            "Correct the flag, unless the broker's tariff shows it.",
            source=rules.sources["tariff_codes"].text,
        )
    elif all(known.agency != row.agency for known in rows):
        yield context.finding(
            "V14-AGENCY",
            rows[0].severity,
            "/agency",
            f"flag {row.flag} belongs to {rows[0].agency}, not to {row.agency}",
            f"Set the agency to {rows[0].agency}, or correct the flag.",
            rows[0],
        )
    elif context.answer.flag is None:
        yield from _check_ended_flag(context, rows, on)
    elif context.answer.flag.is_asked_for(on, entry_type):
        yield from _check_response(context, context.answer.flag, entry_type, on)


def _check_records(line: Line, answers: list[FlagAnswer], parties: UnitParties, pointer: str) -> Iterator[Finding]:
    # A datum in the wrong form, or with a value that the agency does not accept, already has a finding.
    misshapen = {
        (answer.index, asked.key)
        for answer in answers
        for asked in answer.data
        if asked.shape is not None or asked.unknown
    }
    records = line_records(line, answers, parties)
    yield from _check_keyed_by_hand(line, answers, records, pointer)
    for one in records.notes:
        if not one.unfit or (one.index, one.key) in misshapen:
            continue
        here, named = f"{pointer}/treatment/pga/{one.index}", "agency records"
        if one.index is None:
            here = f"{pointer}/description"
        elif one.key in line.treatment.pga[one.index].data:
            here += f"/data/{one.key}"
            named = f"{line.treatment.pga[one.index].agency} records, {one.key}"
        elif one.key in _CODES:
            here += f"/{one.key}"
        elif one.key == "arrivalDatetime":
            here = f"{pointer.rpartition('/lines/')[0]}/entry/estimatedArrivalAt"
        yield record_rules().warning(
            "V14-RECORD",
            here,
            f"Line {line.line_ref}, {named}: {one.note}.",
            "Write it in a form that the message set can carry, or have the filer key it.",
        )


def _check_keyed_by_hand(
    line: Line, answers: list[FlagAnswer], records: LineRecords, pointer: str
) -> Iterator[Finding]:
    for answer in answers:
        keys = {one.key for one in records.notes if one.by_hand and one.index == answer.index}
        labels = [asked.label for asked in answer.data if asked.key in keys]
        if labels:
            yield Finding.note(
                "V14-HAND",
                f"{pointer}/treatment/pga/{answer.index}",
                f"Line {line.line_ref}, {answer.row.agency} {answer.row.flag}: the agency records omit "
                f"{join_words(labels)}, because no place for it in them is known.",
                "Have the filer key it; pga_records.txt and pga_worksheet.pdf name it with its value.",
                record_rules().source,
            )


def _check_values(context: "_FindingContext") -> Iterator[Finding]:
    agency, flag = context.answer.row.agency, context.answer.row.flag
    for asked in context.answer.data:
        if asked.shape is not None:
            yield context.finding(
                "V14-DATA",
                "warn",
                f"/data/{asked.key}",
                f"{asked.key} of the {agency} data for flag {flag} is not {asked.shape}",
                "Correct it, or ask its source to confirm it.",
                context.answer.program,
            )
        if asked.table is None:
            continue
        for value in asked.unknown:
            yield context.finding(
                "V14-VALUE",
                "warn",
                f"/data/{asked.key}",
                f"{asked.key} of the {agency} data for flag {flag} is {value}, which is none of the {asked.table.name}",
                f"Give one of {describe_nearest(asked, value)}.",
                asked.table,
            )


def _check_lists(context: "_FindingContext", on: date) -> Iterator[Finding]:
    uneven = find_uneven_lists(context.answer, on)
    if uneven is None:
        return
    form, counts = uneven
    row, most = context.answer.row, max(counts.values())
    short = [key for key, count in counts.items() if count != most]
    numbers = join_words(f"{count} of {key}" for key, count in counts.items())
    yield context.finding(
        "V14-LIST",
        "warn",
        f"/data/{short[0]}",
        f"the {row.agency} data for flag {row.flag} have {numbers}, so the rows of {form} are not clear",
        f"Give {join_words(short)} {most} values too, the first for the first row.",
        context.answer.program,
    )


def _check_arrival(context: "_FindingContext", entry: Entry) -> Iterator[Finding]:
    # The agency and CBP must hear of one arrival.
    own = context.answer.row.data  # what the answer does not give is the entry's
    given = {asked.key: asked.values for asked in context.answer.data if asked.key in own}
    port, arrival = given.get("arrivalPort", ())[:1], given.get("arrivalDatetime", ())[:1]
    if port and port[0] != entry.port_of_entry:
        yield _arrival_finding(context, "arrivalPort", f"port {port[0]}", f"the entry's is {entry.port_of_entry}")
    if arrival and entry.estimated_arrival_at is not None and _differs(arrival[0], entry.estimated_arrival_at):
        expected = entry.estimated_arrival_at.isoformat(timespec="minutes")
        yield _arrival_finding(context, "arrivalDatetime", f"arrival {arrival[0]}", f"the entry's is {expected}")


def _differs(text: str, expected: datetime) -> bool:
    """Return whether the instant is another one; without an offset only its day counts. Another form is not compared."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return False
    return instant.date() != expected.date() if instant.tzinfo is None else instant != expected


def _arrival_finding(context: "_FindingContext", key: str, given: str, expected: str) -> Finding:
    agency = context.answer.row.agency
    return context.finding(
        "V14-ARRIVAL",
        "warn",
        f"/data/{key}",
        f"the {agency} data for flag {context.answer.row.flag} have {given}, but {expected}",
        "Correct one of them, or leave it out: the agency then gets the entry's.",
    )


@dataclass(frozen=True)
class _FindingContext:
    """The subject of a finding: an answer of a line, and its place in the plan."""

    rules: PgaRules
    line: Line
    answer: FlagAnswer
    here: str

    def finding(
        self,
        rule: str,
        severity: Severity,
        suffix: str,
        text: str,
        remedy: str,
        basis: ReferenceRow | None = None,
        source: str | None = None,
    ) -> Finding:
        row = basis or self.answer.flag
        return Finding(
            rule=rule,
            severity=severity,
            pointer=f"{self.here}{suffix}",
            message=f"Line {self.line.line_ref}: {text}.",
            remedy=remedy,
            source=source if row is None else row.source,
        )


def _check_ended_flag(context: _FindingContext, rows: tuple[AgencyFlag, ...], on: date) -> Iterator[Finding]:
    # A future flag asks for nothing yet; a flag that has ended should no longer be answered.
    ended = [row.effective_to for row in rows if row.effective_to is not None and row.effective_to < on]
    if len(ended) == len(rows):
        yield context.finding(
            "V14-FLAG",
            "warn",
            "/flag",
            f"flag {context.answer.row.flag} ended on {max(ended)}",
            "Remove it, or answer the flag that replaced it.",
            rows[-1],
        )


def _check_response(context: _FindingContext, flag: AgencyFlag, entry_type: str, on: date) -> Iterator[Finding]:
    row = context.answer.row
    if row.disclaimer is not None:
        yield from _check_program(context, flag, on)
        yield from _check_disclaimer(context, flag, entry_type)
    elif row.data:
        yield from _check_program(context, flag, on)
        yield from _check_data(context, flag)
    elif flag.needs_answer:
        choice = _or_disclaimer(flag.disclaimers)
        yield context.finding(
            "V14",
            flag.severity,
            "",
            f"HTS flag {row.flag} needs {flag.agency} data{choice}",
            f"Give the data that {flag.agency} asks for{choice}.",
        )


def _check_disclaimer(context: _FindingContext, flag: AgencyFlag, entry_type: str) -> Iterator[Finding]:
    row, rules = context.answer.row, context.rules
    disclaimer = rules.find_disclaimer(row.disclaimer or "")
    allowed = rules.allowed_disclaimers(flag, context.answer.program, entry_type)
    problem = None
    if disclaimer.entry_types and entry_type not in disclaimer.entry_types:
        problem = f"disclaimer {row.disclaimer} is only for entry type {join_words(sorted(disclaimer.entry_types))}"
    elif disclaimer.code not in allowed:
        problem = f"flag {row.flag} does not allow disclaimer {row.disclaimer}"
    if problem is not None:
        choice = (
            _or_disclaimer(allowed) if flag.needs_answer else "; goods that need none take no disclaimer: remove it"
        )
        yield context.finding(
            "V14-DISCLAIMER",
            flag.severity if flag.needs_answer else "warn",
            "/disclaimer",
            problem,
            f"Give the data that {flag.agency} asks for{choice}.",
        )
    yield from _check_disclaimed_use(context)
    if row.data.keys() - {USE_TEXT}:
        yield context.finding(
            "V14-BOTH",
            "warn",
            "/data",
            f"it disclaims flag {row.flag} but also gives {row.agency} data",
            "Keep only the disclaimer or the data; data is not sent with a disclaimer.",
        )


def _check_disclaimed_use(context: _FindingContext) -> Iterator[Finding]:
    row, program = context.answer.row, context.answer.program
    uses = None if program is None else program.disclaimed_uses.get(row.disclaimer or "")
    if uses is not None and (row.intended_use is None or (uses and row.intended_use not in uses)):
        named = join_words(sorted(uses))
        yield context.finding(
            "V14-USE",
            "warn",
            f"/{USE}",
            f"disclaimer {row.disclaimer} of flag {row.flag} needs {f'intended use {named}' if uses else 'an intended use'}",
            f"Set intendedUse{f' to {named}' if uses else ''}, or give the data.",
            program,
        )
    if any(datum.key == USE_TEXT and not datum.values for datum in context.answer.data):
        yield context.finding(
            "V14-USE",
            "warn",
            f"/data/{USE_TEXT}",
            f"intended use {row.intended_use} of flag {row.flag} lacks its words",
            f"Add {USE_TEXT}.",
            context.rules.find_intended_use(row.intended_use),
        )


def _check_program(context: _FindingContext, flag: AgencyFlag, on: date) -> Iterator[Finding]:
    # PG01 needs a program with a disclaimer too: without it the filer would have to ask for the program.
    row, code = context.answer.row, context.answer.program_code
    known = flag.programs or context.rules.find_programs(flag.agency, on)
    if code is None:
        text = f"flag {row.flag} is {'disclaimed' if row.disclaimer else 'answered'} without a program of {flag.agency}"
    elif context.answer.program is None or code not in known:
        text = f"flag {row.flag} is not known to ask for {flag.agency} program {code}"
    else:
        return
    yield context.finding("V14-PROGRAM", "warn", "/program", text, f"Set program to one of {join_words(known)}.")


def _check_data(context: _FindingContext, flag: AgencyFlag) -> Iterator[Finding]:
    row, program, code = context.answer.row, context.answer.program, context.answer.program_code
    if program is None:
        return
    if program.processing and row.processing not in program.processing:
        yield context.finding(
            "V14-PROCESSING",
            "warn",
            "/processing",
            f"{row.processing} is not a processing code of {flag.agency} program {code}"
            if row.processing
            else f"it has no processing code for {flag.agency} program {code}",
            f"Set processing to one of {join_words(program.processing)}.",
            program,
        )
    # A finding blocks only if the rules of both the flag and the program are confirmed.
    severity: Severity = "block" if flag.severity == program.severity == "block" else "warn"
    for datum in context.answer.data:
        at = f"/{USE}" if datum.key == USE else f"/data/{datum.key}"
        rule = "V14-USE" if datum.key in {USE, USE_TEXT} else "V14-DATA"
        if datum.required and not datum.values:
            use = context.rules.find_intended_use(row.intended_use)
            by = use if datum.key == USE_TEXT and use is not None else program
            yield context.finding(
                rule,
                "warn" if by.status == "check" else severity,
                at,
                f"the {flag.agency} data for flag {row.flag} lacks {datum.label}",
                f"Add {' or '.join(datum.keys)}.",
                by,
            )


def _or_disclaimer(codes: tuple[str, ...]) -> str:
    return f", or disclaimer {' or '.join(codes)}" if codes else "; it cannot be disclaimed"
