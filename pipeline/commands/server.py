"""The commands that run the service on this machine: serve, migrate, doctor."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.markup import escape

from config.settings import get_settings
from pipeline import doctor, migrations
from pipeline.commands.screen import ExitCode, Json, out, print_json, reported
from pipeline.db import Database

app = typer.Typer()


@app.command()
@reported
def migrate(as_json: Json = False) -> None:
    """Bring the database to this version's tables; repeating it changes nothing."""
    settings = get_settings()
    database = Database(settings.database_url, timeout_seconds=settings.database_timeout_seconds)
    try:
        was_current = migrations.is_current(database)
        migrations.upgrade(database)
    finally:
        database.dispose()
    if as_json:
        print_json({"migrated": not was_current})
    else:
        out().print(f"[green]✓[/] the database {'was' if was_current else 'is now'} at the newest revision")


@app.command("doctor")
@reported
def examine(as_json: Json = False) -> None:
    """Try everything that the service stands on, and say how to mend what fails."""
    console = out()
    checks = []
    for check in doctor.examine(get_settings()):
        checks.append(check)
        if as_json:
            continue
        mark = "[green]✓[/]" if check.ok else "[bold red]✗[/]"
        console.print(
            f"{mark} [bold]{check.name:<14}[/]  [dim]{check.seconds * 1000:6.0f} ms[/]  {escape(check.found)}",
            soft_wrap=True,
        )
        if check.remedy:
            console.print(f"                             {escape(check.remedy)}", soft_wrap=True)
    if as_json:
        print_json([asdict(check) for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(int(ExitCode.REFUSED))
