"""`exports backup`: a copy of the database and the documents, taken while the service works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipeline import backup
from pipeline.commands.database import opened
from pipeline.commands.narration import kilobytes
from pipeline.commands.screen import Failure, Json, out, print_json, reported
from pipeline.errors import InvalidState

app = typer.Typer()


@app.command("backup")
@reported
def take(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the copy goes: a new or an empty folder.")],
    as_json: Json = False,
) -> None:
    """Copy the SQLite database and all its documents into a folder, while the service works."""
    with opened() as runtime:
        try:
            made = backup.take(runtime, folder)
        except InvalidState as error:
            raise Failure(error.message) from error
    if as_json:
        print_json(
            {"folder": str(made.folder), "exports": made.exports, "documents": made.documents, "bytes": made.size}
        )
    else:
        out().print(
            f"[green]✓[/] {made.exports} exports and {made.documents} documents ({kilobytes(made.size)}) are in "
            f"{escape(str(made.folder))}",
            soft_wrap=True,
        )
