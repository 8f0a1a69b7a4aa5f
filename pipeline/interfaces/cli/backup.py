"""`exports backup`: a copy of the database and the documents, made while the service runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipeline.interfaces.cli.output import (
    ExitCode,
    Json,
    build_table,
    print_json,
    report_errors,
    show_progress,
    stdout_console,
)
from pipeline.interfaces.cli.session import open_current_runtime
from pipeline.interfaces.event_text import format_size
from pipeline.ops import backup

app = typer.Typer()

#: How many uncopied documents are shown; all are counted, and `--json` prints all.
MAX_SHOWN = 20


@app.command("backup")
@report_errors
def take(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the copy, new or empty.")],
    as_json: Json = False,
) -> None:
    """Copy the SQLite database and its documents into a folder while the service runs."""
    with open_current_runtime(must_exist=True) as runtime, show_progress("copying the database") as show:
        report = backup.create_backup(
            runtime, folder, lambda copied: show(_format_progress(copied), copied.done, copied.total)
        )
    if as_json:
        print_json(_to_json(report))
    else:
        _print_result(report)
    if report.missing:
        raise typer.Exit(int(ExitCode.REFUSED))


def _format_progress(report: backup.Backup) -> str:
    return f"copying documents, {format_size(report.size)}"


def _to_json(report: backup.Backup) -> dict[str, object]:
    counts = {"exports": report.exports, "documents": report.documents, "bytes": report.size, "purged": report.purged}
    missing = [
        {"exportId": each.export_id, "filename": each.filename, "reason": each.reason} for each in report.missing
    ]
    return {"folder": str(report.folder)} | counts | {"uncopied": missing}


def _print_result(report: backup.Backup) -> None:
    console = stdout_console()
    if report.missing:
        rows = [(each.export_id, each.filename, each.reason) for each in report.missing[:MAX_SHOWN]]
        if len(report.missing) > MAX_SHOWN:
            rows.append(("", "", f"and {len(report.missing) - MAX_SHOWN} more; --json prints all"))
        console.print(build_table(("export", "document", "is not in the copy because"), rows))
    mark = "[bold red]✗[/]" if report.missing else "[green]✓[/]"
    missing = f"; {len(report.missing)} documents of exports could not be copied" if report.missing else ""
    purged = f"; {report.purged} were purged during the backup" if report.purged else ""
    console.print(
        f"{mark} {report.exports} exports and {report.documents} documents ({format_size(report.size)}) are in "
        f"{escape(str(report.folder))}{missing}{purged}",
        soft_wrap=True,
    )
