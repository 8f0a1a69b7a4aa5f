"""The command `exports calendar`."""

from typing import Annotated

import typer
from rich.text import Text

from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import Json, print_result, report_errors

app = typer.Typer()


@app.command()
@report_errors
def calendar(
    *,
    new: Annotated[bool, typer.Option("--new", help="Revoke the links before, and print a new one.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Print the link by which calendar programs show what is due next; it needs a live key of an administrator."""
    with connect(api_url, api_key) as api:
        if new:
            api.revoke_calendar_links()
        link = api.calendar_link()
    print_result(
        link, Text(link.url), hint="Anyone with the link can read the calendar until it is revoked.", as_json=as_json
    )
