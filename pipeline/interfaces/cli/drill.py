"""`exports drill`: kills a scratch instance at random under load, and reports whether anything was lost or duplicated."""

from __future__ import annotations

import secrets
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_record,
    print_json,
    report_errors,
    show_progress,
    stderr_console,
    stdout_console,
)
from pipeline.simulation.drill import environment
from pipeline.simulation.drill.history import Kill
from pipeline.simulation.drill.processes import DrillFailed
from pipeline.simulation.drill.report import DrillReport, round_seconds
from pipeline.simulation.drill.svg import draw_report

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer()

_MAX_SEED: Final = 1_000_000
_MAX_SHOWN: Final = 20


@app.command()
@report_errors
def drill(
    kills: Annotated[int, typer.Option(min=1, help="Number of kills.")] = 50,
    seed: Annotated[int | None, typer.Option(help="Seed of the random choices; repeats another drill.")] = None,
    lease: Annotated[
        float, typer.Option(min=0.5, help="EXPORTS_LEASE_SECONDS of the instance; the service's default is 30.")
    ] = 2,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw exports over time, kills and recoveries to this file.")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="PostgreSQL for a scratch database; needs --broker-url.")
    ] = None,
    broker_url: Annotated[str | None, typer.Option(help="An empty Redis database or RabbitMQ virtual host.")] = None,
    as_json: Json = False,
) -> None:
    """Kill a scratch instance at random under load; exit code 1 if anything is lost or duplicated."""
    from pipeline.simulation.drill import runner  # noqa: PLC0415 - loads the customs rules, which `--help` does not need

    console = stderr_console()
    seed = secrets.randbelow(_MAX_SEED) if seed is None else seed
    if (database_url is None) != (broker_url is None):
        remedy = "Give both for PostgreSQL and a message broker, or neither for SQLite and the embedded one."
        raise Failure("--database-url and --broker-url must be given together", code=ExitCode.USAGE, remedy=remedy)
    if svg is not None:
        _ensure_writable(svg)
    signal.signal(signal.SIGTERM, _interrupt)
    instance = (
        environment.embedded_environment()
        if database_url is None or broker_url is None
        else environment.server_environment(database_url, broker_url)
    )
    where = escape(str(instance.folder))
    console.print(f"[bold]{kills} kills[/], seed {seed}, on {instance.stack}, in {where}", soft_wrap=True)

    def report_kill(kill: Kill, number: int) -> None:
        if console.is_terminal:
            show("killing processes", number, kills)
        console.print(
            f"  {number:>4} of {kills}  at {kill.killed_at:7.1f} s  kill -9 {kill.process:<10}  answering again after"
            f" {kill.ready_at - kill.killed_at:5.2f} s"
        )

    try:
        with show_progress("starting the instance", console) as show:
            report = runner.run_drill(instance, kills, seed, lease, report_kill)
    except KeyboardInterrupt:
        instance.remove()
        stderr_console().print("\nstopped; nothing is left running")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    except DrillFailed as error:
        raise Failure(str(error), remedy=instance.kept_notice) from error
    if as_json:
        print_json(report.figures())
    else:
        _print_result(stdout_console(), report)
    if report.judgement.sound:
        instance.remove()
    else:
        console.print(escape(instance.kept_notice), soft_wrap=True)
    is_drawn = svg is None or _write_svg(report, svg)
    if not (report.judgement.sound and is_drawn):
        raise typer.Exit(int(ExitCode.REFUSED))


def _ensure_writable(svg: Path) -> None:
    try:
        is_new = not svg.exists()
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.open("ab").close()
        if is_new:
            svg.unlink()
    except OSError as error:
        raise Failure(f"--svg {svg} cannot be written: {error.strerror}", code=ExitCode.USAGE) from error


def _write_svg(report: DrillReport, svg: Path) -> bool:
    """Draw the report and return whether it could be written; a failure must not hide the figures, which are already printed."""
    try:
        svg.write_text(draw_report(report), encoding="utf-8")
    except OSError as error:
        stderr_console().print(
            f"[bold red]error[/] {escape(str(svg))} cannot be written: {error.strerror}", soft_wrap=True
        )
        return False
    return True


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_result(console: Console, report: DrillReport) -> None:
    judgement = report.judgement
    mark = "[green]✓[/]" if judgement.sound else "[bold red]✗[/]"
    rows = (
        ("kills", f"{len(report.history.kills)} in {report.history.seconds:.0f} s, {_count_by_process(report)}"),
        (
            "exports",
            f"{len(report.history.submissions)} submitted, {report.executed} executed with all recipients notified",
        ),
        ("lost", Text.from_markup(f"{mark} {judgement.exports_lost}")),
        ("duplicated", Text.from_markup(f"{mark} {judgement.exports_duplicated}")),
        (
            "recovery",
            f"p50 {_format_recovery(report, 0.5)}, p99 {_format_recovery(report, 0.99)}, longest {_format_recovery(report, 1)}",
        ),
        ("requests", f"{report.repeated_requests} had no answer and were repeated with the same key"),
        ("messages", f"{report.messages} arrived; {judgement.redelivered} of them were repeats with the same id"),
        (
            "again",
            f"exports drill --kills {len(report.history.kills)} --seed {report.seed} --lease {report.lease_seconds:g}",
        ),
    )
    console.print()
    console.print(build_record(rows))
    for title, findings in (("lost", judgement.lost), ("duplicated", judgement.duplicated)):
        for finding in findings[:_MAX_SHOWN]:
            console.print(f"  [red]{title}[/]  {escape(str(finding))}", soft_wrap=True)
        if len(findings) > _MAX_SHOWN:
            console.print(f"  [red]{title}[/]  and {len(findings) - _MAX_SHOWN} more; --json prints all")


def _count_by_process(report: DrillReport) -> str:
    counted = Counter(kill.process for kill in report.history.kills)
    return ", ".join(f"{process} {count}" for process, count in sorted(counted.items()))


def _format_recovery(report: DrillReport, share: float) -> str:
    value = round_seconds(report.recovery_percentile(share))
    return "never" if value is None else f"{value:.2f} s"
