"""`exports rules`: lists the dated rules, explains them for a line, and compares days."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, cast, get_args

import typer
from rich.markup import escape

from pipeline.core.clock import utc_now
from pipeline.core.errors import ValidationFailed
from pipeline.core.money import ZERO, format_plain, to_decimal
from pipeline.customs.chapter99.facts import LineFacts, MetalFacts
from pipeline.customs.checks.parties import country_finding
from pipeline.customs.decisions import check_facts, decide_line
from pipeline.customs.reference.base import CHAPTERS, Metal, ReferenceData, Status, join_words
from pipeline.customs.reference.bundle import load_rules, parse_rules
from pipeline.customs.reference.catalog import all_rows, chapter99_rows, format_markdown_list
from pipeline.customs.reference.content import ENDINGS
from pipeline.customs.reference.diff import diff_days, diff_reference_days, diff_references, diff_rulesets
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.ruleset import MANIFEST, Ruleset, ruleset
from pipeline.customs.schemas import LineDecision, OpenQuestion, ReasonedStep
from pipeline.interfaces.cli import rulesets
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_json,
    print_result,
    report_errors,
    stdout_console,
)
from pipeline.interfaces.cli.rulesets import Rules, add_known_rate, read_place, rules_of

app = typer.Typer(no_args_is_help=True, help="The dated customs rules that plans must follow.")

_STATUSES: Final = get_args(Status)
_METALS: Final = get_args(Metal)
_DAY: Final = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_HUNDRED: Final = to_decimal("100")
_UNKNOWN: Final = "OTH"
_ANSWERS: Final = "Give --metal, --net, --us-percent and --metal-country, or --claim HEADING."
_COLOURS: Final = {"yes": "green", "no": "dim", "needs_person": "cyan", "unknown": "yellow"}

On = Annotated[
    str | None, typer.Option("--on", metavar="DAY", help="Day of entry, such as 2026-11-24; by default today.")
]


@app.command("list")
@report_errors
def list_rows(
    status: Annotated[str | None, typer.Option("--status", help="Only confirmed, probable or check rows.")] = None,
    program: Annotated[str | None, typer.Option("--program", help="Only this program, such as S232_METALS.")] = None,
    on: Annotated[str | None, typer.Option("--on", metavar="DAY", help="Only rows in force on this day.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also rows of the entry and the agencies.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print as a list in Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """List the rows of chapter 99; with --all or --status also of the entry and the agencies."""
    programs = sorted(ruleset().programs_by_id)
    if status is not None and status not in _STATUSES:
        raise Failure(f"unknown status {status}", code=ExitCode.USAGE, remedy=f"Use one of {', '.join(_STATUSES)}.")
    program = program.upper() if program else None
    if program is not None and program not in programs:
        raise Failure(f"unknown program {program}", code=ExitCode.USAGE, remedy=f"Use one of {', '.join(programs)}.")
    rows = all_rows() if status or every else chapter99_rows()
    rows = tuple(row for row in rows if status is None or row.status == status)
    rows = tuple(row for row in rows if program is None or row.program == program)
    if on is not None:
        day = _parse_day(on)
        rows = tuple(row for row in rows if row.in_force(day))
    if markdown and not as_json:
        typer.echo(format_markdown_list(rows))
        return
    table = build_table(
        ("kind", "name", "from", "to", "status", "says", "source"),
        (
            (
                row.kind,
                row.name,
                str(row.effective_from or ""),
                str(row.effective_to or ""),
                row.status,
                row.says,
                row.source or "",
            )
            for row in rows
        ),
    )
    print_result([asdict(row) for row in rows], table, f"{len(rows)} rows of ruleset {ruleset().id}", as_json=as_json)


@app.command()
@report_errors
def show(heading: Annotated[str, typer.Argument(metavar="HEADING")], on: On = None, as_json: Json = False) -> None:
    """Show a heading of chapter 99: all its rows, conditions and sources."""
    rules = ruleset()
    heading = _parse_heading(heading)
    rows = rules.by_heading.get(heading, ())
    family = rules.find_family(heading)
    if not rows and family is None:
        near = get_close_matches(heading, rules.by_heading, n=3)
        raise Failure(
            f"these rules do not know {heading}",
            code=ExitCode.NOT_FOUND,
            remedy=f"Near it are {join_words(near)}." if near else "`exports rules list` shows every heading.",
        )
    day = _parse_day(on)
    if as_json:
        documents = [row.model_dump(mode="json") | {"in_force": row.in_force(day)} for row in rows]
        known = family.model_dump(mode="json") if family else None
        print_json({"heading": heading, "on": day.isoformat(), "rows": documents, "family": known})
        return
    for row in rows:
        state = "[green]in force[/]" if row.in_force(day) else "[dim]not in force[/]"
        rate = "-" if row.rate_percent is None else f"{format_plain(row.rate_percent)} %"
        stdout_console().print(f"[bold]{heading}[/] {escape(row.description)}  {rate} on {row.basis}  {state} on {day}")
        stdout_console().print(f"  {row.effective_from} to {row.effective_to or 'further notice'}, {row.program}")
        for condition in row.when.words():
            stdout_console().print(f"  - {escape(condition)}", soft_wrap=True)
        stdout_console().print(f"  [dim]{row.status}: {escape(row.source)}[/]", soft_wrap=True)
    if not rows and family is not None:
        until = family.effective_to or "further notice"
        stdout_console().print(
            f"[bold]{heading}[/] is one of {escape(family.name)}, {family.effective_from} to {until}."
        )
        stdout_console().print(f"  [dim]{family.status}: {escape(family.source)}[/]", soft_wrap=True)


@app.command(epilog="Example: exports rules why 7323.93.0045 --origin CA --metal steel=0.8 --net 1")
@report_errors
def why(
    hts: Annotated[str, typer.Argument(metavar="HTS", help="Ten digits, with or without dots.")],
    origin: Annotated[str, typer.Option("--origin", help="Country of origin, such as CA.")],
    on: On = None,
    spi: Annotated[str | None, typer.Option("--spi", help="Special program claimed, such as S.")] = None,
    metal: Annotated[
        list[str] | None, typer.Option("--metal", help="Weight of a metal, such as steel=0.8; repeat it.")
    ] = None,
    net: Annotated[str | None, typer.Option("--net", help="Net weight in kg.")] = None,
    us_percent: Annotated[str | None, typer.Option("--us-percent", help="Share of the metal that is US metal.")] = None,
    metal_country: Annotated[
        str | None, typer.Option("--metal-country", help="Where the metal was melted and poured, or smelted and cast.")
    ] = None,
    claim: Annotated[list[str] | None, typer.Option("--claim", help="A heading that the line carries.")] = None,
    rules: Rules = None,
    as_json: Json = False,
) -> None:
    """Show which headings a line takes and why, with the source of each rule.

    A heading that depends on a fact that was not given is not taken; the result of each value of the fact is shown.
    """
    code, origin = _parse_code(hts), _parse_country(origin)
    spi = spi.upper() if spi else None
    share = _parse_number(us_percent, _HUNDRED) if us_percent is not None else None
    country = metal_country and (_UNKNOWN if metal_country.upper() == _UNKNOWN else _parse_country(metal_country))
    facts = LineFacts(
        hts_code=code,
        origin=origin,
        on=_parse_day(on),
        spi=spi,
        net_kg=_parse_number(net) if net is not None else None,
        metals=tuple(_parse_metal(text, share, country) for text in metal or ()) or None,
        claimed=frozenset(_parse_heading(text) for text in claim or ()),
    )
    with rules_of(rules):
        try:
            check_facts(facts)
        except ValidationFailed as error:
            raise Failure(error.message, code=ExitCode.USAGE) from error
        decision = decide_line(add_known_rate(facts))
        order = ruleset().reporting.value_on
    if as_json:
        print_json(decision.model_dump(mode="json", by_alias=True))
        return
    _print_decision(decision, order)


def _print_decision(decision: LineDecision, order: str) -> None:
    for step in decision.steps:
        _format_step(step)
    for need in decision.data:
        _print_row(f"[bold]needs[/] {escape(', '.join(need.fields))} of its {need.metal}", need.status, need.source)
    for ban in decision.excluded:
        what = f"{ban.what}, unless {ban.unless}" if ban.unless else ban.what
        _print_row(f"[bold red]excluded[/] {escape(what)}, since {ban.effective_from}", ban.status, ban.source)
    for duty in decision.open_duties:
        _print_row(f"[bold yellow]heading open[/] {escape(duty.text)}", duty.status, duty.source)
    for asked in decision.questions:
        text = escape(f"{asked.unknown}; {asked.decides}")
        _print_row(f"[bold yellow]not known[/] {text}", asked.status, asked.source)
    for choice in decision.undecided:
        _format_question(choice)
    taken = " ".join(decision.headings)
    none = "no heading is decided" if decision.undecided else "no heading of chapter 99"
    stdout_console().print(f"[bold]{decision.hts_code} of {decision.origin} on {decision.on}:[/] {taken or none}")
    if decision.undecided:
        names = "; ".join(choice.name for choice in decision.undecided)
        stdout_console().print(f"[yellow]not decided:[/] {escape(names)}. {_ANSWERS}", soft_wrap=True)
    if taken:
        stdout_console().print(f"[dim]in the order of reporting; the value stands on {order}[/]")


def _print_row(text: str, status: str, source: str) -> None:
    stdout_console().print(text, soft_wrap=True)
    stdout_console().print(f"      [dim]{status}: {escape(source)}[/]", soft_wrap=True)


@app.command()
@report_errors
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A day, or a folder, bundle or ruleset.yaml.")],
    after: Annotated[str, typer.Argument(metavar="B", help="A later day, or another of these.")],
    rules: Rules = None,
    as_json: Json = False,
) -> None:
    """Show what changes between two days or two rulesets."""
    if _DAY.match(before) and _DAY.match(after):
        first, last = _parse_day(before), _parse_day(after)
        if last < first:
            raise Failure(f"{last} is before {first}", code=ExitCode.USAGE, remedy="Give the earlier day first.")
        with rules_of(rules):
            loaded, reference = load_rules()
        changes = (*diff_days(loaded, first, last), *diff_reference_days(reference, first, last))
    else:
        (older, rows_before), (newer, rows_after) = _load_rules(before), _load_rules(after)
        changes = (*diff_rulesets(older, newer), *diff_references(rows_before, rows_after))
    if as_json:
        print_json([asdict(change) for change in changes])
        return
    for change in changes:
        stdout_console().print(
            f"[bold]{escape(change.kind)} {escape(change.name)}[/] {change.what}: {escape(change.details)}",
            soft_wrap=True,
        )
    stdout_console().print("1 change" if len(changes) == 1 else f"{len(changes)} changes")


@app.command()
@report_errors
def check(
    file: Annotated[
        str | None, typer.Argument(metavar="PLACE", help="A folder, bundle or ruleset.yaml; default: this version's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load and summarize the rules, or list all errors (exit code 1)."""
    loaded = load_rules() if file is None else _load_rules(file)
    rules, rows = loaded[0], all_rows(loaded)
    counts = {status: sum(1 for row in rows if row.status == status) for status in _STATUSES}
    if as_json:
        print_json({"id": rules.id, "as_of": rules.as_of.isoformat(), "content_hash": rules.content_hash} | counts)
        return
    stdout_console().print(
        f"[green]ok[/] ruleset {escape(rules.id)} as of {rules.as_of}, {rules.content_hash}", soft_wrap=True
    )
    stdout_console().print(f"   {', '.join(f'{count} {status}' for status, count in counts.items())}")
    if rules.as_of > _parse_day(None):
        stdout_console().print("[yellow]as_of[/] is a day to come: until then these rules do not become older")


def _load_rules(file: str) -> tuple[Ruleset, Mapping[str, ReferenceData]]:
    path = _find_manifest(file)
    try:
        if path.suffix not in ENDINGS:
            return parse_rules(read_place(path).content)
        return load_rules(path)
    except RecursionError as error:
        raise Failure(f"{path}, or a file that it names, is nested too deep; reduce its depth") from error


def _find_manifest(file: str) -> Path:
    path = Path(file)
    try:
        path = path / MANIFEST if path.is_dir() else path
        exists = path.is_file()
    except OSError:  # the name is too long
        exists = False
    if not exists:
        raise Failure(
            f"there is no file {path}",
            code=ExitCode.NOT_FOUND,
            remedy=f"Give a {MANIFEST} or its folder; `diff` also takes two days such as 2026-11-24.",
        )
    return path


def _parse_heading(text: str) -> str:
    digits = re.sub(r"[.\s]", "", text)
    if not re.fullmatch(r"99\d{6}", digits):
        remedy = "For goods of chapters 1 to 97 use `exports rules why HTS --origin CA`."
        raise Failure(f"{text} is not a heading of chapter 99 such as 9903.82.09", code=ExitCode.USAGE, remedy=remedy)
    return f"{digits[:4]}.{digits[4:6]}.{digits[6:]}"


def _parse_code(text: str) -> str:
    code = re.sub(r"[.\s]", "", text)
    if not re.fullmatch(r"\d{10}", code):
        remedy = "Give all ten: some lists name provisions by their last digits."
        raise Failure(f"{text} is not a tariff number of ten digits", code=ExitCode.USAGE, remedy=remedy)
    if code[:2] not in CHAPTERS:
        remedy = "Give the number of the goods themselves; `exports rules show HEADING` shows headings of chapter 99."
        raise Failure(f"chapter {code[:2]} has no goods", code=ExitCode.USAGE, remedy=remedy)
    return code


def _parse_country(text: str) -> str:
    country = text.upper()
    if not re.fullmatch(r"[A-Z]{2}", country):
        remedy = "Write two letters, such as CA for Canada; for metal of unknown origin, give --metal-country OTH."
        raise Failure(f"{text} is not a country code", code=ExitCode.USAGE, remedy=remedy)
    if country not in entry_rules().countries.codes:
        remedy = country_finding("", country).remedy
        raise Failure(f"{text} is not the code of a country", code=ExitCode.USAGE, remedy=remedy)
    return country


def _parse_day(text: str | None) -> date:
    if text is None:
        return utc_now().date()
    try:
        return date.fromisoformat(text if _DAY.match(text) else "")
    except ValueError:
        raise Failure(f"{text} is not a day such as 2026-11-24", code=ExitCode.USAGE) from None


def _parse_number(text: str, maximum: Decimal | None = None) -> Decimal:
    try:
        figure = to_decimal(text)
    except ValueError as error:
        raise Failure(str(error), code=ExitCode.USAGE, remedy="Write a number such as 0.8.") from None
    if figure < ZERO or (maximum is not None and figure > maximum):
        limits = f"from 0 to {format_plain(maximum)}" if maximum is not None else "of 0 or more"
        raise Failure(f"{text} is not a number {limits}", code=ExitCode.USAGE)
    return figure


def _parse_metal(text: str, us_percent: Decimal | None, country: str | None) -> MetalFacts:
    name, _, weight = text.partition("=")
    if name not in _METALS or not weight:
        raise Failure(
            f"{text} is not a weight such as steel=0.8", code=ExitCode.USAGE, remedy=f"Metals: {', '.join(_METALS)}."
        )
    steel = name == "steel"
    return MetalFacts(
        metal=cast("Metal", name),
        weight_kg=_parse_number(weight),
        melt_and_pour=country if steel else None,
        smelts=(country,) if country and not steel else (),
        cast=None if steel else country,
        us_percent=us_percent,
    )


def _format_step(step: ReasonedStep) -> None:
    colour = _COLOURS[step.verdict]
    mark = "[bold green]takes[/]" if step.applies else f"[{colour}]{step.verdict}[/]"
    stdout_console().print(f"{mark} {step.heading} {escape(step.description)} [dim]({step.program})[/]", soft_wrap=True)
    for reason in step.reasons:
        stdout_console().print(f"      {escape(reason)}", soft_wrap=True)
    if step.source and step.verdict != "no":
        stdout_console().print(f"      [dim]{step.status}: {escape(step.source)}[/]", soft_wrap=True)


def _format_question(choice: OpenQuestion) -> None:
    stdout_console().print(f"[yellow]depends[/] {escape(choice.name)}", soft_wrap=True)
    for each in choice.outcomes:
        rate = "" if each.rate_percent is None else f" ({each.rate_percent} %)"
        condition = "otherwise" if each.applies_if is None else f"if {each.applies_if}"
        stdout_console().print(f"      {each.heading}{rate} {escape(condition)}", soft_wrap=True)


for each_command in rulesets.COMMANDS:
    app.command()(each_command)
