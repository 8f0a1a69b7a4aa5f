"""`exports tariff`: imports editions of the tariff and its tables, shows numbers on a day, and compares editions."""

from dataclasses import asdict
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from pipeline.core.clock import utc_now
from pipeline.customs.models import TariffEdition
from pipeline.customs.schemas import DutyCaseView, NumberFlagView, RateView, TariffNumberView
from pipeline.customs.tariff import editions
from pipeline.customs.tariff.cases import format_case
from pipeline.customs.tariff.diff import compare_editions
from pipeline.customs.tariff.queries import format_number, parse_number, show_number
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_json,
    print_result,
    report_errors,
    show_progress,
    stdout_console,
)
from pipeline.interfaces.cli.session import open_current_runtime

app = typer.Typer(
    no_args_is_help=True, help="The tariff by day: editions of the HTSUS, of agency flags and of duty cases."
)

_FORMATS: Final = ["%Y-%m-%d"]
_NOUNS: Final = {"tariff": "numbers", "agency-flags": "numbers", "duty-cases": "cases"}


class EditionKindName(StrEnum):
    """The kind of an edition."""

    TARIFF = "tariff"
    AGENCY_FLAGS = "agency-flags"
    DUTY_CASES = "duty-cases"


Kind = Annotated[
    EditionKindName, typer.Option("--kind", help="The tariff, flags of agencies by number, or duty cases.")
]


@app.command("import")
@report_errors
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A table as JSON or CSV, such as the tariff of hts.usitc.gov.")
    ],
    first_day: Annotated[
        datetime, typer.Option("--from", formats=_FORMATS, metavar="DAY", help="The first day of the edition.")
    ],
    last_day: Annotated[
        datetime | None,
        typer.Option("--to", formats=_FORMATS, metavar="DAY", help="Its last day; by default until the next edition."),
    ] = None,
    kind: Kind = EditionKindName.TARIFF,
    name: Annotated[str | None, typer.Option("--name", help="By default the name of the file.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Where the file comes from, such as its address.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import an edition of the tariff, of agency flags or of duty cases; a file with a mistake is refused whole, and the same file changes nothing."""
    try:
        readable = file.is_file()
    except OSError:  # the name is too long
        readable = False
    if not readable:
        raise Failure(f"there is no file {file}", code=ExitCode.NOT_FOUND, remedy="Give the file of the edition.")
    with open_current_runtime() as runtime, show_progress("reading the file") as show:
        try:
            imported = editions.import_edition(
                runtime,
                file,
                kind=kind.value,
                name=name if name is not None else file.stem,
                effective_from=first_day.date(),
                effective_to=last_day.date() if last_day else None,
                source=source or file.name,
                progress=show,
            )
        except OSError as error:
            raise Failure(f"{file} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error
    edition = imported.edition
    verb = "imported" if imported.created else "was imported before; nothing changed"
    print_result(
        _to_json(edition) | {"created": imported.created},
        f"[green]✓[/] {escape(edition.name)} {verb}: {edition.numbers:,} {_NOUNS[edition.kind]} in "
        f"{edition.rows:,} rows{_count_chapters(edition)}, in force from {edition.effective_from}",
        as_json=as_json,
        hint="Recheck the open plans: exports rules recheck" if imported.created else None,
    )


@app.command("list")
@report_errors
def list_editions(as_json: Json = False) -> None:
    """List the editions, newest first, with the days on which they are in force."""
    with open_current_runtime(must_exist=True) as runtime, runtime.db.read() as session:
        periods = editions.list_editions(session)
    table = build_table(
        ("edition", "kind", "from", "to", "numbers", "chapters", "imported", "source"),
        (
            (
                each.edition.name,
                each.edition.kind,
                str(each.edition.effective_from),
                str(each.last_day or "further notice"),
                f"{each.edition.numbers:,}",
                str(len(each.edition.chapters)),
                f"{each.edition.imported_at:%Y-%m-%d}",
                each.edition.source,
            )
            for each in periods
        ),
    )
    value = [_to_json(each.edition) | {"last_day": each.last_day} for each in periods]
    hint = None if periods else "Import one: exports tariff import FILE --from DAY"
    print_result(value, *([table] if periods else []), f"{len(periods)} editions", as_json=as_json, hint=hint)


@app.command()
@report_errors
def show(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="4 to 10 digits, with or without points.")],
    on: Annotated[
        datetime | None, typer.Option("--on", formats=_FORMATS, metavar="DAY", help="Day of entry; by default today.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a number of the tariff on a day: description, units, rates, footnotes, agency flags, duty cases."""
    digits, day = parse_number(number), _day_or_today(on)
    with open_current_runtime(must_exist=True) as runtime, runtime.db.read() as session:
        found = show_number(session, digits, day)
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        _print_number(found)


@app.command()
@report_errors
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="An edition, or a day on which it is in force.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another edition or day.")],
    kind: Kind = EditionKindName.TARIFF,
    as_json: Json = False,
) -> None:
    """Show what changes between two editions: numbers added, removed, and changed in units, rates or texts."""
    with open_current_runtime(must_exist=True) as runtime, runtime.db.read() as session:
        older, newer = (editions.get_edition(session, each, kind.value) for each in (before, after))
        changes = list(compare_editions(session, older, newer))
    if as_json:
        print_json([asdict(change) for change in changes])
        return
    for change in changes:
        number = f"[bold]{_format_key(change.number)}[/]"
        if change.column is None:
            stdout_console().print(
                f"{number} {change.what}: {escape(change.after or change.before or '')}", soft_wrap=True
            )
        else:
            values = f"{escape(change.before or 'none')} [dim]->[/] {escape(change.after or 'none')}"
            stdout_console().print(f"{number} {change.column}: {values}", soft_wrap=True)
    stdout_console().print("1 change" if len(changes) == 1 else f"{len(changes):,} changes")


@app.command()
@report_errors
def remove(
    edition: Annotated[str, typer.Argument(metavar="EDITION", help="The name of the edition.")], as_json: Json = False
) -> None:
    """Remove an edition; exports keep the findings that they were accepted with."""
    with open_current_runtime(must_exist=True) as runtime:
        removed = editions.remove_edition(runtime, edition)
    print_result(_to_json(removed), f"[green]✓[/] {escape(removed.name)} removed", as_json=as_json)


def _count_chapters(edition: TariffEdition) -> str:
    return f" of {len(edition.chapters)} chapters" if edition.chapters else ""


def _format_key(key: str) -> str:
    return format_number(key) if key.isdecimal() else format_case(key)


def _day_or_today(given: datetime | None) -> date:
    return utc_now().date() if given is None else given.date()


def _to_json(edition: TariffEdition) -> dict[str, object]:
    return {
        "name": edition.name,
        "kind": edition.kind,
        "effective_from": edition.effective_from,
        "effective_to": edition.effective_to,
        "content_hash": edition.content_hash,
        "source": edition.source,
        "rows": edition.rows,
        "numbers": edition.numbers,
        "chapters": edition.chapters,
    }


def _print_number(found: TariffNumberView) -> None:
    console = stdout_console()
    for depth, text in enumerate(found.descriptions):
        console.print(f"{'  ' * depth}{escape(text)}", soft_wrap=True)
    console.print(f"[bold]{format_number(found.number)}[/] on {found.on}", soft_wrap=True)
    rows = [
        ("units of quantity", ", ".join(found.units)),
        ("general", _describe_rate(found.general)),
        *(("special", f"{_describe_rate(each.rate)} for {', '.join(each.programs) or '-'}") for each in found.special),
        ("column 2", _describe_rate(found.other)),
        ("rates of", format_number(found.rates_from) if found.rates_from not in (None, found.number) else ""),
        ("quota quantity", found.quota_quantity or ""),
        ("additional duties", found.additional_duties or ""),
        *(("footnote", text) for text in found.footnotes),
        *(("agency flag", _describe_flag(each)) for each in found.agency_flags),
        *(("duty case", _describe_case(each)) for each in found.duty_cases),
        ("suffixes", ", ".join(format_number(each) for each in found.suffixes)),
    ]
    for name, text in rows:
        if text:
            console.print(f"  {name:<18} {escape(text)}", soft_wrap=True)
    console.print(
        f"  [dim]{escape(found.edition.name)} from {found.edition.effective_from}: {escape(found.edition.source)}[/]"
    )


def _describe_flag(flag: NumberFlagView) -> str:
    asks = {"must": "data required", "may": "data may be required", None: ""}[flag.requirement]
    return f"{flag.flag} {flag.agency}: " + ", ".join(each for each in (asks, flag.meaning, flag.edition) if each)


def _describe_case(case: DutyCaseView) -> str:
    rate = f"deposit {case.rate}" if case.rate else ""
    state = f"{case.status} since {case.effective_from}"
    facts = (f"goods of {case.country}", state, rate, case.source, case.edition)
    return f"{case.case_number} {case.name}: " + ", ".join(each for each in facts if each)


def _describe_rate(rate: RateView | None) -> str:
    if rate is None:
        return ""
    return f"{rate.text} (check: a person must read this rate)" if rate.kind == "text" else rate.text
