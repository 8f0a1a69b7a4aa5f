"""Partner government agencies: whether each flag of a line is answered by data or by a disclaimer that it allows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from pipeline.customs.pga_rules import Flag, PgaRules, Program, pga_rules
from pipeline.customs.rules import spoken
from pipeline.schemas.plan import Line, Pga
from pipeline.schemas.problems import Finding, Severity


def check_line(line: Line, pointer: str, on: date, entry_type: str) -> Iterator[Finding]:
    """Yield what is wrong with the agency answers (V14) of a line entered on the day under the entry type."""
    rules = pga_rules()
    for place, row in enumerate(line.treatment.pga):
        here = f"{pointer}/treatment/pga/{place}"
        flag = rules.flags.get(row.flag)
        if flag is None:
            yield _finding(
                rules,
                "note",
                f"{here}/flag",
                f"Line {line.line_ref} answers flag {row.flag}, which the rules of {rules.as_of} do not know.",
                "Nothing, if the broker's tariff shows the flag; else correct it.",
            )
        elif flag.effective_from is None or flag.effective_from <= on:
            yield from _answer(rules, flag, row, line, here, entry_type)


def _answer(rules: PgaRules, flag: Flag, row: Pga, line: Line, here: str, entry_type: str) -> Iterator[Finding]:
    if flag.agency != row.agency:
        yield _finding(
            rules,
            flag.severity,
            f"{here}/agency",
            f"Line {line.line_ref}: flag {row.flag} belongs to {flag.agency}, not to {row.agency}.",
            f"Set the agency to {flag.agency}, or correct the flag.",
        )
        return
    name = row.program or flag.program
    program = rules.agencies.get(flag.agency, {}).get(name or "")
    if row.disclaimer is not None:
        yield from _disclaimed(rules, flag, program, row, line, here, entry_type)
    elif row.data:
        yield from _answered(rules, program, row, line, here)
    elif not flag.silent:
        yield _finding(
            rules,
            flag.severity,
            here,
            f"Line {line.line_ref}: HTS flag {row.flag} needs {flag.agency} data{_or_disclaimer(flag.disclaimers)}.",
            f"Give the data that {flag.agency} asks for{_or_disclaimer(flag.disclaimers)}.",
        )


def _disclaimed(
    rules: PgaRules, flag: Flag, program: Program | None, row: Pga, line: Line, here: str, entry_type: str
) -> Iterator[Finding]:
    allowed = flag.disclaimers
    if program is not None and program.disclaimers is not None and not flag.required:
        allowed = program.disclaimers
    disclaimer = rules.disclaimers[row.disclaimer or ""]
    wrong = None
    if row.disclaimer not in allowed:
        wrong = f"flag {row.flag} does not allow disclaimer {row.disclaimer}"
    elif disclaimer.entry_types and entry_type not in disclaimer.entry_types:
        wrong = f"disclaimer {row.disclaimer} is for entry type {spoken(sorted(disclaimer.entry_types))} alone"
    if wrong is not None:
        yield _finding(
            rules,
            flag.severity,
            f"{here}/disclaimer",
            f"Line {line.line_ref}: {wrong}.",
            f"Give the data that {flag.agency} asks for{_or_disclaimer(allowed)}.",
        )
    if row.data:
        yield _finding(
            rules,
            "warn",
            f"{here}/data",
            f"Line {line.line_ref} disclaims flag {row.flag} and gives {row.agency} data all the same.",
            "Keep the one that is meant: data is not sent with a disclaimer.",
        )


def _answered(rules: PgaRules, program: Program | None, row: Pga, line: Line, here: str) -> Iterator[Finding]:
    # What an agency's programs ask for is known from guides and samples: it is pointed out, and refuses no plan.
    if program is None:
        yield _finding(
            rules,
            "warn",
            f"{here}/program",
            f"Line {line.line_ref}: {row.program or 'no program'} is not a program of {row.agency} that the rules know.",
            f"Use one of {spoken(rules.agencies.get(row.agency) or ('the programs in its guide',))}.",
        )
        return
    if program.processing and row.processing not in program.processing:
        yield _finding(
            rules,
            "warn",
            f"{here}/processing",
            f"Line {line.line_ref}: {row.processing or 'no processing code'} is not a processing code of "
            f"{row.agency} {row.program}.",
            f"Use one of {spoken(program.processing)}.",
        )
    needed = program.modes.get(row.processing or "", program.data)
    missing = [key for key in needed if key not in row.data]
    if program.intended_use and row.intended_use is None:
        missing.append("intendedUse")
    if missing:
        yield _finding(
            rules,
            "warn",
            f"{here}/data",
            f"Line {line.line_ref}: the {row.agency} data for flag {row.flag} lacks {spoken(missing)}.",
            "Add what is missing; the agency may hold the goods without it.",
        )


def _or_disclaimer(codes: tuple[str, ...]) -> str:
    return f", or disclaimer {' or '.join(codes)}" if codes else "; it cannot be disclaimed"


def _finding(rules: PgaRules, severity: Severity, pointer: str, message: str, remedy: str) -> Finding:
    return Finding(rule="V14", severity=severity, pointer=pointer, message=message, remedy=remedy, source=rules.source)
