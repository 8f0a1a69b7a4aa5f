"""`exports plans`: what a plan looks like."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer

from pipeline.core.db import utc_now
from pipeline.exports import examples
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, print_json, reported
from pipeline.interfaces.cli.plans import without_comments

app = typer.Typer(no_args_is_help=True, help="Export plans.")


@app.command()
@reported
def new(
    account: Annotated[str | None, typer.Option(metavar="ACCOUNT", help="For this account, in a new batch.")] = None,
    broker: Annotated[str | None, typer.Option(metavar="ID", help="Its customs broker.")] = None,
    warehouse: Annotated[str | None, typer.Option(metavar="ID", help="Its warehouse.")] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="ID", help="Your name for the plan. [default: by the time, with --account]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print an example plan with a comment on every part, to be filled in; with --json without the comments."""
    now = utc_now()
    text = examples.text_of(examples.COMMENTED, now.date())
    if account is not None:
        batch = batch or f"batch_{now:%Y%m%d_%H%M%S_%f}"
        # A label number is never used twice: the account issues its own, if it has a GS1 prefix.
        text = re.sub(r'"sscc": "[0-9]+"', '"sscc": null', text)
    for field, value in (("accountId", account), ("batchId", batch)):
        text = _filled(text, rf'"{field}": ', value)
    for field, value in (("broker", broker), ("warehouse", warehouse)):
        text = _filled(text, rf'"{field}": \{{"id": ', value)
    if as_json:
        print_json(json.loads(without_comments(text)))
    else:
        typer.echo(text, nl=not text.endswith("\n"))


@app.command()
@reported
def example(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of: " + ", ".join(examples.names()) + ".")],
    _as_json: Json = False,
) -> None:
    """Print an example plan of the demo's account, dated so that its goods cross the border from tomorrow on."""
    if name not in examples.names():
        known = ", ".join(examples.names())
        raise Failure(f"there is no example plan {name}", code=ExitCode.NOT_FOUND, remedy=f"Name one of: {known}.")
    print_json(examples.plan(name, utc_now().date()))


def _filled(text: str, field: str, value: str | None) -> str:
    """Return the text with the value, if there is one, in the one place where the pattern `field` stands."""
    if value is None:
        return text
    return re.sub(rf'({field})"[^"]*"', lambda found: found[1] + json.dumps(value), text, count=1)
