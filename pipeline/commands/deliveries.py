"""`exports deliveries`: the delivery log, and sending a dead letter again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from pipeline.commands.connection import ApiKey, ApiUrl, connect
from pipeline.commands.screen import Json, out, print_json, reported
from pipeline.commands.view import table
from pipeline.states import DeliveryState

app = typer.Typer(no_args_is_help=True, help="The messages to partners, each with its tries.")


@app.command("list")
@reported
def show(
    export: Annotated[str | None, typer.Option("--export", metavar="ID", help="Only of this export.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List deliveries, newest first, one page."""
    with connect(api_url, api_key) as api:
        page = api.deliveries(export=export, state=state)
    if as_json:
        print_json(page.model_dump_json(by_alias=True, indent=2))
        return
    made = table("delivery", "to", "by", "message", "state", "tries", "last error")
    for row in page.items:
        made.add_row(
            row.id,
            escape(row.partner_id),
            row.channel,
            row.event_type,
            row.state,
            str(row.attempts),
            escape(row.error or ""),
        )
    out().print(made)
    if page.next_cursor:
        out().print("[dim]There are more; narrow it by --export or --state.[/]")


@app.command()
@reported
def resend(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="As `exports deliveries list` shows it.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Send one delivery again; the recipient sees the same message id."""
    with connect(api_url, api_key) as api:
        owed = api.resend(delivery)
    if as_json:
        print_json(owed.model_dump_json(by_alias=True, indent=2))
    else:
        out().print(f"[green]✓[/] {escape(owed.id)} to {escape(owed.partner_id)} is {owed.state} again")
