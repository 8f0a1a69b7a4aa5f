"""`exports backup`: a copy of the database and the documents, taken while the service works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipeline.interfaces.cli.export_view import build_table
from pipeline.interfaces.cli.output import ExitCode, Json, print_json, report_errors, stdout_console
from pipeline.interfaces.cli.progress import format_size
from pipeline.interfaces.cli.session import open_current_runtime
from pipeline.ops import backup

app = typer.Typer()

#: How many documents that the copy lacks are shown; all are counted, and `--json` has them all.
MAX_SHOWN = 20


@app.command("backup")
@report_errors
def take(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the copy goes: a new or an empty folder.")],
    as_json: Json = False,
) -> None:
    """Copy the SQLite database and all its documents into a folder, while the service works."""
    with open_current_runtime(must_exist=True) as runtime:
        made = backup.create_backup(runtime, folder)
    if as_json:
        print_json(_to_json(made))
    else:
        _print_result(made)
    if made.missing:
        raise typer.Exit(int(ExitCode.REFUSED))


def _to_json(made: backup.Backup) -> dict[str, object]:
    counts = {"exports": made.exports, "documents": made.documents, "bytes": made.size, "purged": made.purged}
    missing = [{"exportId": each.export_id, "filename": each.filename, "reason": each.reason} for each in made.missing]
    return {"folder": str(made.folder)} | counts | {"uncopied": missing}


def _print_result(made: backup.Backup) -> None:
    console = stdout_console()
    if made.missing:
        shown = build_table("export", "document", "is not in the copy because")
        for each in made.missing[:MAX_SHOWN]:
            shown.add_row(*map(escape, (each.export_id, each.filename, each.reason)))
        if len(made.missing) > MAX_SHOWN:
            shown.add_row("", "", f"and {len(made.missing) - MAX_SHOWN} more; --json has all")
        console.print(shown)
    mark = "[bold red]✗[/]" if made.missing else "[green]✓[/]"
    missing = f"; {len(made.missing)} that exports name could not be copied" if made.missing else ""
    purged = f"; {made.purged} were purged meanwhile" if made.purged else ""
    console.print(
        f"{mark} {made.exports} exports and {made.documents} documents ({format_size(made.size)}) are in "
        f"{escape(str(made.folder))}{missing}{purged}",
        soft_wrap=True,
    )
