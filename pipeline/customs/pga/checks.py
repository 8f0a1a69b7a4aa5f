"""Partner government agencies: whether each flag of a line is answered by data or by a disclaimer that it allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from pipeline.core.findings import Finding, Severity
from pipeline.customs.pga.answers import USE, USE_TEXT, Answer, answers
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.records import LineRecords, line_records
from pipeline.customs.reference.base import ReferenceRow, join_words
from pipeline.customs.reference.pga import AgencyFlag, PgaRules, pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.schemas.plan import Line, Unit

#: What of a row stands beside its data.
_CODES = frozenset({"program", "processing", "disclaimer", USE})


def check_line(unit: Unit, line: Line, parties: UnitParties, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the agency answers of a line that is entered on the day (V14 and its kin).

    V14-RECORD tells what of them the message-set records cannot take as it stands, V14-HAND what has no known place there.
    """
    if not line.treatment.pga:
        return
    told = list(answers(unit, line, on))
    for answer in told:
        about = _About(pga_rules(), line, answer, f"{pointer}/treatment/pga/{answer.place}")
        yield from _checked(about, unit.entry.type, on)
    yield from _unfit(line, told, parties, pointer)


def _checked(about: _About, entry_type: str, on: date) -> Iterator[Finding]:
    row, rules = about.answer.row, about.rules
    rows = rules.flag_rows(row.flag)
    if not rows:
        yield about.finding(
            "V14-FLAG",
            "note",
            "/flag",
            f"it answers flag {row.flag}, which the rules of {rules.as_of} do not know",
            "Nothing, if the broker's tariff shows the flag; else correct it.",
            source=rules.sources["tariff_codes"].text,
        )
    elif all(known.agency != row.agency for known in rows):
        yield about.finding(
            "V14-AGENCY",
            rows[0].severity,
            "/agency",
            f"flag {row.flag} belongs to {rows[0].agency}, not to {row.agency}",
            f"Set the agency to {rows[0].agency}, or correct the flag.",
            rows[0],
        )
    elif about.answer.flag is None:
        yield from _out_of_time(about, rows, on)
    elif about.answer.flag.is_asked_for(on, entry_type):
        yield from _answered(about, about.answer.flag, entry_type, on)


def _unfit(line: Line, told: list[Answer], parties: UnitParties, pointer: str) -> Iterator[Finding]:
    # A datum of another shape than it should have has its finding already.
    misshapen = {(answer.place, asked.key) for answer in told for asked in answer.data if asked.shape is not None}
    made = line_records(line, told, parties)
    yield from _by_hand(line, told, made, pointer)
    for one in made.told:
        if not one.unfit or (one.place, one.key) in misshapen:
            continue
        here, named = f"{pointer}/treatment/pga/{one.place}", "agency records"
        if one.place is None:
            here = f"{pointer}/description"
        elif one.key in line.treatment.pga[one.place].data:
            here += f"/data/{one.key}"
            named = f"{line.treatment.pga[one.place].agency} records, {one.key}"
        elif one.key in _CODES:
            here += f"/{one.key}"
        elif one.key == "arrivalDatetime":
            here = f"{pointer.rpartition('/lines/')[0]}/entry/estimatedArrivalAt"
        yield Finding(
            rule="V14-RECORD",
            severity="warn",
            pointer=here,
            message=f"Line {line.line_ref}, {named}: {one.note}.",
            remedy="Write it so that the message set can carry it, or have the filer key it.",
            source=record_rules().source,
        )


def _by_hand(line: Line, told: list[Answer], made: LineRecords, pointer: str) -> Iterator[Finding]:
    for answer in told:
        keys = {one.key for one in made.told if one.by_hand and one.place == answer.place}
        labels = [asked.label for asked in answer.data if asked.key in keys]
        if labels:
            yield Finding(
                rule="V14-HAND",
                severity="note",
                pointer=f"{pointer}/treatment/pga/{answer.place}",
                message=f"Line {line.line_ref}, {answer.row.agency} {answer.row.flag}: the agency records leave out "
                f"{join_words(labels)}, for which no place in them is known.",
                remedy="Have the filer key it; pga_records.txt and pga_worksheet.pdf name it with its value.",
                source=record_rules().source,
            )


@dataclass(frozen=True)
class _About:
    """What a finding is about: an answer of a line, and where it stands in the plan."""

    rules: PgaRules
    line: Line
    answer: Answer
    here: str

    def finding(
        self,
        rule: str,
        severity: Severity,
        at: str,
        said: str,
        remedy: str,
        by: ReferenceRow | None = None,
        source: str | None = None,
    ) -> Finding:
        row = by or self.answer.flag
        return Finding(
            rule=rule,
            severity=severity,
            pointer=f"{self.here}{at}",
            message=f"Line {self.line.line_ref}: {said}.",
            remedy=remedy,
            source=source if row is None else row.source,
        )


def _out_of_time(about: _About, rows: tuple[AgencyFlag, ...], on: date) -> Iterator[Finding]:
    # A flag that is to come later asks for nothing yet; one that has gone should not be answered any more.
    ended = [row.effective_to for row in rows if row.effective_to is not None and row.effective_to < on]
    if len(ended) == len(rows):
        yield about.finding(
            "V14-FLAG",
            "warn",
            "/flag",
            f"flag {about.answer.row.flag} ended on {max(ended)}",
            "Drop it, or answer the flag that took its place.",
            rows[-1],
        )


def _answered(about: _About, flag: AgencyFlag, entry_type: str, on: date) -> Iterator[Finding]:
    row = about.answer.row
    if row.disclaimer is not None:
        yield from _program(about, flag, on)
        yield from _disclaimed(about, flag, entry_type)
    elif row.data:
        yield from _program(about, flag, on)
        yield from _with_data(about, flag)
    elif not flag.silent:
        choice = _or_disclaimer(flag.disclaimers)
        yield about.finding(
            "V14",
            flag.severity,
            "",
            f"HTS flag {row.flag} needs {flag.agency} data{choice}",
            f"Give the data that {flag.agency} asks for{choice}.",
        )


def _disclaimed(about: _About, flag: AgencyFlag, entry_type: str) -> Iterator[Finding]:
    row, rules = about.answer.row, about.rules
    disclaimer = rules.find_disclaimer(row.disclaimer or "")
    allowed = rules.allowed_disclaimers(flag, about.answer.program, entry_type)
    wrong = None
    if disclaimer.entry_types and entry_type not in disclaimer.entry_types:
        wrong = f"disclaimer {row.disclaimer} is for entry type {join_words(sorted(disclaimer.entry_types))} alone"
    elif disclaimer.code not in allowed:
        wrong = f"flag {row.flag} does not allow disclaimer {row.disclaimer}"
    if wrong is not None:
        yield about.finding(
            "V14-DISCLAIMER",
            flag.severity,
            "/disclaimer",
            wrong,
            f"Give the data that {flag.agency} asks for{_or_disclaimer(allowed)}.",
        )
    if row.data:
        yield about.finding(
            "V14-BOTH",
            "warn",
            "/data",
            f"it disclaims flag {row.flag} and gives {row.agency} data all the same",
            "Keep the one that is meant: data is not sent with a disclaimer.",
        )


def _program(about: _About, flag: AgencyFlag, on: date) -> Iterator[Finding]:
    # PG01 has a program with a disclaimer, too: without one the filer would have to ask of which it is.
    row, code = about.answer.row, about.answer.program_code
    known = flag.programs or about.rules.find_programs(flag.agency, on)
    if code is None:
        said = f"flag {row.flag} is {'disclaimed' if row.disclaimer else 'answered'} for no program of {flag.agency}"
    elif about.answer.program is None or code not in known:
        said = f"{code} is not a program of {flag.agency} that flag {row.flag} is known to ask for"
    else:
        return
    yield about.finding("V14-PROGRAM", "warn", "/program", said, f"Use one of {join_words(known)}.")


def _with_data(about: _About, flag: AgencyFlag) -> Iterator[Finding]:
    row, program, code = about.answer.row, about.answer.program, about.answer.program_code
    if program is None:
        return
    if program.processing and row.processing not in program.processing:
        yield about.finding(
            "V14-PROCESSING",
            "warn",
            "/processing",
            f"{row.processing or 'no processing code'} is not a processing code of {flag.agency} {code}",
            f"Use one of {join_words(program.processing)}.",
            program,
        )
    # Only what both the flag and the program are known for refuses a plan.
    severity: Severity = "block" if flag.severity == program.severity == "block" else "warn"
    for asked in about.answer.data:
        at = f"/{USE}" if asked.key == USE else f"/data/{asked.key}"
        rule = "V14-USE" if asked.key in {USE, USE_TEXT} else "V14-DATA"
        if asked.required and not asked.values:
            use = about.rules.find_intended_use(row.intended_use)
            by = use if asked.key == USE_TEXT and use is not None else program
            yield about.finding(
                rule,
                "warn" if by.status == "check" else severity,
                at,
                f"the {flag.agency} data for flag {row.flag} lacks: {asked.label}",
                f"Add {' or '.join(asked.keys)}.",
                by,
            )
        elif asked.shape is not None:
            yield about.finding(
                rule,
                "warn",
                at,
                f"the {flag.agency} data for flag {row.flag} has a {asked.key} that is not {asked.shape}",
                "Correct it, or have it confirmed by whoever gave it.",
                program,
            )


def _or_disclaimer(codes: tuple[str, ...]) -> str:
    return f", or disclaimer {' or '.join(codes)}" if codes else "; it cannot be disclaimed"
