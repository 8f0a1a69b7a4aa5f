"""The commands that stop an export: hold its handoff and release the hold, withdraw it after the handoff."""

from typing import Annotated

import typer

from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.exports import ExportId
from pipeline.interfaces.cli.output import Json, print_result, report_errors

app = typer.Typer()


@app.command()
@report_errors
def hold(
    export: ExportId,
    reason: Annotated[str, typer.Option(help="Why; the export and its log show it.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Hold the handoff of an export until you release it."""
    with connect(api_url, api_key) as api:
        held = api.hold(export, reason)
    print_result(held, export_view.format_headline(held), as_json=as_json)


@app.command()
@report_errors
def release(export: ExportId, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Release the hold of an export's handoff."""
    with connect(api_url, api_key) as api:
        released = api.release(export)
    print_result(released, export_view.format_headline(released), as_json=as_json)


@app.command()
@report_errors
def withdraw(
    export: ExportId,
    reason: Annotated[str, typer.Option(help="Why; the customs broker and the warehouse read it.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Withdraw an export that is handed off, until an entry is filed."""
    with connect(api_url, api_key) as api:
        withdrawn = api.withdraw(export, reason)
    print_result(withdrawn, export_view.format_headline(withdrawn), as_json=as_json)
