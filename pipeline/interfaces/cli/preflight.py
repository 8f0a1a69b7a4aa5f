"""`exports preflight`: checks whether a plan can be executed, as a table by line and agency."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from config.settings import get_settings
from pipeline.core.clock import utc_now
from pipeline.core.findings import Finding
from pipeline.core.json_input import parse_json
from pipeline.customs.overview import AgencyStatus, plan_overview
from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports import plans as export_plans
from pipeline.exports.schemas.export import PreflightReport
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    FittedTable,
    Json,
    build_table,
    format_finding,
    print_json,
    report_errors,
    stdout_console,
)
from pipeline.interfaces.cli.plans import read_plan
from pipeline.interfaces.cli.rulesets import rules_of
from pipeline.interfaces.event_text import count_noun
from pipeline.workflow import preflight as workflow_preflight

app = typer.Typer()

#: Up to this many rows all are shown; if there are more, only the incomplete ones.
_MAX_ROWS: Final = 80
_MAX_FINDINGS: Final = 40


@app.command(epilog="Example: exports preflight plan.json --offline")
@report_errors
def preflight(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.json", help="The plan; `-` reads standard input.")],
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Check without the service; leaves out partners, labels in use, the tariff and waivers."
        ),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also show complete rows, however many.")] = False,
    on: Annotated[
        datetime | None,
        typer.Option(
            "--on", formats=["%Y-%m-%d"], help="With --offline: check as of this day (UTC), by default today."
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="PLACE", help="With --offline: check by this folder or bundle of rules."),
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Check a plan without executing it: what is present, missing, or needs a person."""
    if on is not None and not offline:
        raise Failure("--on needs --offline: the service checks as of today", code=ExitCode.USAGE)
    if rules is not None and not offline:
        raise Failure("--rules needs --offline: the service checks by its active rules", code=ExitCode.USAGE)
    body = read_plan(plan)
    if offline:
        # The end of the day, so that an approval of that day counts.
        now = utc_now() if on is None else on.replace(hour=23, minute=59, second=59, tzinfo=UTC)
        parsed = parse_json(json.dumps(body).encode(), Plan, max_depth=get_settings().max_json_depth)
        hashed = export_plans.hash_plan(parsed.model, parsed.raw)
        with rules_of(rules):
            found = workflow_preflight.check_plan_alone(hashed.plan, on=now.date())
            used = ruleset()
        report = workflow_preflight.build_report(
            hashed, [*workflow_preflight.approval_findings(hashed.plan, now), *found], used, now.date()
        )
    else:
        hashed = None
        with connect(api_url, api_key) as api:
            report = api.preflight(body)
    # A plan that the service has accepted fits the schema.
    rows = plan_overview(hashed.plan if hashed else Plan.model_validate(body), report.findings)
    if as_json:
        print_json(report.model_dump(by_alias=True) | {"standings": [_row_to_json(row) for row in rows]})
    else:
        _print_result(stdout_console(), rows, report, everything=everything)
        if offline:
            stdout_console().print(
                "[dim]Not checked: partners, labels in use, the tariff and waivers; only the service knows them.[/]"
            )
    if not report.executable:
        raise typer.Exit(int(ExitCode.REFUSED))


def _row_to_json(row: AgencyStatus) -> dict[str, object]:
    named = {"unitRef": row.unit_ref, "lineRef": row.line_ref, "agency": row.agency}
    return named | {"present": row.present, "missing": row.missing, "person": row.person, "waived": row.waived}


def _print_result(console: Console, rows: Sequence[AgencyStatus], report: PreflightReport, *, everything: bool) -> None:
    verdict = "[green]✓[/] executable" if report.executable else "[bold red]✗[/] not executable"
    number = sum(each.findings for each in report.rules)
    waived = sum(each.waived for each in report.rules)
    verdict_text = f"{number} finding{'' if number == 1 else 's'}{f', {waived} waived' if waived else ''}"
    console.print(f"{verdict}, {verdict_text}  [dim]{report.plan_hash}[/]", soft_wrap=True)
    shown = rows
    if not everything and len(rows) > _MAX_ROWS:
        shown = [row for row in rows if not row.complete][:_MAX_ROWS]
    if shown:
        console.print(_build_table(shown))
    _print_summary(console, rows, len(shown), report.findings_left_out)
    _print_findings(console, report)
    if report.checked_by is not None:
        used = report.checked_by
        console.print(f"[dim]Checked by ruleset {escape(used.id)} as of {used.as_of}, {used.days_old} days old.[/]")
        if used.days_late:
            late = count_noun(used.days_late, "day")
            console.print(f"[yellow]Their review is {late} late: they may lack later changes of the law.[/]")


def _build_table(rows: Sequence[AgencyStatus]) -> FittedTable:
    return build_table(
        ("unit", "line", "agency", "present", "missing", "needs a person"),
        (
            (
                row.unit_ref,
                row.line_ref,
                row.agency,
                ", ".join(row.present),
                Text(", ".join(row.missing), "red"),
                Text.assemble(
                    ", ".join(row.person), *((f" ({label} waived)", "dim") for label in row.waived), style="yellow"
                ),
            )
            for row in rows
        ),
    )


def _print_summary(console: Console, rows: Sequence[AgencyStatus], shown: int, omitted: int) -> None:
    if omitted:
        # Some findings are only counted, so a row without one may still be incomplete.
        console.print(
            f"[dim]{shown} of {len(rows)} rows are shown; {omitted} findings are counted without their row[/]"
        )
        return
    complete = sum(1 for row in rows if row.complete)
    hidden = "; --all shows them" if shown < len(rows) else ""
    console.print(f"[dim]{complete} of {len(rows)} rows are complete{hidden}[/]")


def _print_findings(console: Console, report: PreflightReport) -> None:
    open_findings: list[Finding] = [finding for finding in report.findings if finding.waived_by is None]
    for finding in open_findings[:_MAX_FINDINGS]:
        for line in format_finding(finding.model_dump(mode="json", by_alias=True)):
            console.print(line, soft_wrap=True)
    more = len(open_findings) - _MAX_FINDINGS + report.findings_left_out
    if more > 0:
        console.print(f"  and {more} more; by rule:")
        for each in report.rules:
            console.print(f"    {each.severity:<5} {escape(each.rule)}: {each.findings}")
