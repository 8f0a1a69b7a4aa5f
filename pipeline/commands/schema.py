"""`exports schema`: the JSON Schemas of what is said to the service and by it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.api import system
from pipeline.commands.screen import Json, out, print_json, reported

app = typer.Typer()


@app.command()
@reported
def schema(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Without it, the names are listed.")] = None,
    as_json: Json = False,
) -> None:
    """Print a JSON Schema, as the API publishes it at /api/schemas/NAME.json."""
    if name is not None:
        print_json(system.schema(name))
    elif as_json:
        print_json([*system.SCHEMAS])
    else:
        for each in system.SCHEMAS:
            out().print(each)
