"""The commands that run the service on this machine: serve, migrate, doctor."""

import signal
import sys
from contextlib import closing
from queue import SimpleQueue
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from config.logs import configure_logs
from config.settings import Settings, get_settings, use_settings
from pipeline.core import installation
from pipeline.core.db import Database
from pipeline.core.runtime import process_runtime, reject_weak_credentials
from pipeline.core.startup import pause_collection
from pipeline.customs.reference.bundle import load_rules
from pipeline.customs.rules_reader import watch_rules
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    print_json,
    print_result,
    report_errors,
    stderr_console,
    stdout_console,
)
from pipeline.interfaces.cli.session import ensure_current
from pipeline.ops.migrations.runner import SchemaStatus, upgrade_database, write_upgrade

app = typer.Typer()

#: The processes of the Procfile that must run beside `exports serve` on an external message broker.
WORKERS = ("exports worker", "exports deliveries", "exports intake")


@app.command()
@report_errors
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [EXPORTS_HOST]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one. [EXPORTS_PORT]")] = None,
    as_json: Json = False,
) -> None:
    """Run the service: all of it on `memory://`, else only the API; Ctrl-C ends it."""
    with pause_collection():
        from pipeline.interfaces import server  # noqa: PLC0415 - its imports read the settings, which are set here

    load_rules()  # bad rules must stop the program, not a plan
    settings = get_settings()
    reject_weak_credentials(settings.model_copy(update={"host": host or settings.host}))
    try:
        listener = server.listen(host or settings.host, settings.port if port is None else port)
    except OSError as error:
        remedy = "Give another port by --port; --port 0 takes a free one."
        raise Failure(f"cannot listen on the address: {error.strerror}", remedy=remedy) from error
    with closing(listener):
        settings = _with_listening_address(settings, *listener.getsockname()[:2])
        use_settings(settings)
        configure_logs(settings)
        stop_signals = watch_stop_signals()
        # The worker's runtime must be this one: on SQLite all writers of a process share one lock.
        runtime = process_runtime()
        ensure_current(runtime)
        watch_rules(runtime)  # bad rules at EXPORTS_RULES must stop a new installation, too
        with closing(runtime), server.Service(runtime, listener, worker=settings.embedded):
            if as_json:
                print_json({"address": settings.public_url, "embedded": settings.embedded})
            else:
                _print_addresses(settings)
            stop_signals.get()
            if not as_json:
                stderr_console().print("[dim]stopping[/]")


def _with_listening_address(settings: Settings, host: str, port: int) -> Settings:
    """Return the settings with the actual listening address; it is also the public URL if none is set."""
    changes: dict[str, Any] = {"host": host, "port": port}
    if "public_url" not in settings.model_fields_set:
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a client cannot call that address
        changes["public_url"] = f"http://{f'[{reached}]' if ':' in reached else reached}:{port}"
    return settings.model_copy(update=changes)


def _print_addresses(settings: Settings) -> None:
    console = stdout_console()
    console.print(f"[green]✓[/] serving at [bold]{escape(settings.public_url)}[/]  pages at /console and /docs")
    if settings.embedded:
        console.print("  The worker runs in this process, on " + escape(settings.database_url.split("://", 1)[0]) + ".")
        return
    console.print("  The message broker is a separate server: this process runs only the API. Also start")
    for command in WORKERS:
        console.print(f"    {command}", soft_wrap=True)


def watch_stop_signals() -> SimpleQueue[int]:
    """Return the queue that gets the signal when Ctrl-C or SIGTERM stops the process; a second Ctrl-C ends it at once."""
    # Not an Event: a handler that sets it while the main thread enters wait() waits forever for the Event's own lock.
    stop_signals: SimpleQueue[int] = SimpleQueue()

    def request_stop(number: int, _: object) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        stop_signals.put(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request_stop)
    return stop_signals


_MIGRATION_RESULTS: Final = {
    SchemaStatus.BEHIND: "is now at the newest revision",
    SchemaStatus.CURRENT: "was already at the newest revision",
    SchemaStatus.AHEAD: "is at a newer version's revision, and was not changed",
}


@app.command()
@report_errors
def migrate(
    as_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for this database, and change nothing.")] = False,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Make the database, a copy of another installation's, that of EXPORTS_INSTALLATION."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Migrate the database to this version; safe to repeat. Records EXPORTS_INSTALLATION if the database has none."""
    if as_sql and as_json:
        raise Failure("--sql prints SQL, and --json prints JSON", remedy="Give one of them.", code=ExitCode.USAGE)
    settings = get_settings()
    if adopt and (as_sql or settings.installation is None):
        raise Failure("--adopt needs EXPORTS_INSTALLATION, and no --sql", remedy="Set it.", code=ExitCode.USAGE)
    reject_weak_credentials(settings)  # with weak ones no process would start on this database
    database = Database(settings.database_url, timeout_seconds=settings.database_timeout_seconds)
    try:
        before = write_upgrade(database, sys.stdout) if as_sql else upgrade_database(database)
        if settings.installation is not None and not as_sql:
            installation.adopt(database, settings.installation, replace=adopt)
    finally:
        database.dispose()
    if as_sql:
        if before is not SchemaStatus.BEHIND:
            print(f"-- The database {_MIGRATION_RESULTS[before]}.")  # noqa: T201
        return
    text = f"[green]✓[/] the database {_MIGRATION_RESULTS[before]}"
    print_result({"migrated": before is SchemaStatus.BEHIND}, text, as_json=as_json)


@app.command("doctor")
@report_errors
def run_doctor(as_json: Json = False) -> None:
    """Check everything that the service needs; print a remedy for each failure."""
    from pipeline.ops import doctor  # noqa: PLC0415 - it loads what the other commands of this file do not need

    console = stdout_console()
    width = max(len(name) for name, *_ in doctor.CHECKS)
    checks = []
    for check in doctor.run_checks(get_settings()):
        checks.append(check)
        if as_json:
            continue
        mark = "[green]✓[/]" if check.ok else "[bold red]✗[/]"
        console.print(
            f"{mark} [bold]{check.name:<{width}}[/]  [dim]{check.seconds * 1000:6.0f} ms[/]  {escape(check.found)}",
            soft_wrap=True,
        )
        if check.remedy:
            console.print(f"  [yellow]→ {escape(check.remedy)}[/]", soft_wrap=True)
    if as_json:
        print_json(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(int(ExitCode.REFUSED))
