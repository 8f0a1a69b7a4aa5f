"""`exports plans`: what a plan looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import typer

from config.settings import HOME
from pipeline.commands.planfile import without_comments
from pipeline.commands.screen import ExitCode, Failure, Json, print_json, reported

app = typer.Typer(no_args_is_help=True, help="Export plans.")

EXAMPLE: Final = HOME / "templates" / "plans" / "plan.jsonc"


@app.command()
@reported
def new(as_json: Json = False) -> None:
    """Print an example plan with a comment on every part, to be filled in; with --json without the comments."""
    text = _example(EXAMPLE)
    if as_json:
        print_json(json.loads(without_comments(text)))
    else:
        typer.echo(text, nl=not text.endswith("\n"))


def _example(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"the example plan is missing: {path}", code=ExitCode.NOT_FOUND) from error
