"""`exports plans`: what a plan looks like."""

from __future__ import annotations

import json

import typer

from pipeline import examples
from pipeline.commands.planfile import without_comments
from pipeline.commands.screen import Json, print_json, reported
from pipeline.db import utc_now

app = typer.Typer(no_args_is_help=True, help="Export plans.")


@app.command()
@reported
def new(as_json: Json = False) -> None:
    """Print an example plan with a comment on every part, to be filled in; with --json without the comments."""
    text = examples.text_of(examples.COMMENTED, utc_now().date())
    if as_json:
        print_json(json.loads(without_comments(text)))
    else:
        typer.echo(text, nl=not text.endswith("\n"))
