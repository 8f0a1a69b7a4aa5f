"""`exports deliveries`: the delivery log; resending one message, and replaying a partner's messages of a time span."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from pipeline.core.json_input import error_phrase
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.export_view import build_table
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, print_json, report_errors, stdout_console
from pipeline.interfaces.cli.processes import run_worker
from pipeline.interfaces.cli.progress import count_noun

app = typer.Typer()


@app.callback(invoke_without_command=True)
@report_errors
def deliveries(
    context: typer.Context,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Messages that the process sends at once.")
    ] = None,
) -> None:
    """Show and resend messages to partners; without a command, run the process that sends them."""
    if context.invoked_subcommand is None:
        run_worker("deliveries", [] if concurrency is None else ["-c", str(concurrency)])


@app.command("list")
@report_errors
def list_deliveries(
    export: Annotated[str | None, typer.Option("--export", metavar="ID", help="Only this export's.")] = None,
    partner: Annotated[str | None, typer.Option("--partner", metavar="ID", help="Only to this partner.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List one page of deliveries, newest first."""
    with connect(api_url, api_key) as api:
        page = api.delivery_page(export=export, partner=partner, state=state)
    if as_json:
        print_json(page.model_dump_json(by_alias=True, indent=2))
        return
    listing = build_table("delivery", "to", "by", "message", "state", "attempts", "last error, and what to do")
    for row in page.items:
        listing.add_row(
            row.id,
            escape(row.partner_id),
            row.channel,
            row.event_type,
            row.state,
            str(row.attempts),
            escape(row.error or "") + (f"\n[yellow]→ {escape(row.remedy)}[/]" if row.remedy else ""),
        )
    stdout_console().print(listing)
    if page.next_cursor:
        stdout_console().print("[dim]There are more; filter by --export, --partner or --state.[/]")


@app.command("show")
@report_errors
def show_delivery(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="As `exports deliveries list` shows it.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show a delivery with its attempts, responses and remedy."""
    with connect(api_url, api_key) as api:
        row = api.delivery(delivery)
    if as_json:
        print_json(row.model_dump_json(by_alias=True, indent=2))
        return
    console = stdout_console()
    console.print(
        f"[bold]{escape(row.id)}[/] is {row.state}: {row.event_type} to {escape(row.partner_id)} by {row.channel}"
    )
    console.print(f"  message id {row.notification_id}, export {row.export_id}")
    if row.error:
        console.print(f"  {escape(row.error)}", soft_wrap=True)
    if row.remedy:
        console.print(f"  [yellow]→ {escape(row.remedy)}[/]", soft_wrap=True)
    listing = build_table("attempt", "outcome", "status", "response", "time", "at")
    for each in row.tries:
        listing.add_row(
            str(each.number),
            each.outcome,
            escape(each.status or ""),
            escape(each.answer or ""),
            f"{each.duration_ms} ms",
            f"{each.at:%Y-%m-%d %H:%M:%S}",
        )
    console.print(listing)


@app.command()
@report_errors
def resend(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="As `exports deliveries list` shows it.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Send a delivery again under the same message id."""
    with connect(api_url, api_key) as api:
        requeued = api.resend(delivery)
    if as_json:
        print_json(requeued.model_dump_json(by_alias=True, indent=2))
    else:
        stdout_console().print(
            f"[green]✓[/] {escape(requeued.id)} to {escape(requeued.partner_id)} is {requeued.state} again"
        )


@app.command()
@report_errors
def replay(
    partner: Annotated[str, typer.Option("--partner", metavar="ID", help="The partner; no other receives messages.")],
    since: Annotated[
        str, typer.Option("--since", metavar="INSTANT", help="Start of the span, such as 2026-11-24T15:00:00Z.")
    ],
    until: Annotated[
        str | None, typer.Option("--until", metavar="INSTANT", help="End of the span; now if left out.")
    ] = None,
    state: Annotated[
        list[DeliveryState] | None, typer.Option(help="`delivered` or `dead`, by default both; repeatable.")
    ] = None,
    message: Annotated[
        list[MessageType] | None, typer.Option("--type", help="Only this type of message; repeatable.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Send a partner all messages of a time span again, under the same ids."""
    given = {"since": since, "until": until, "states": state or None, "eventTypes": message or None}
    try:
        replay_request = ReplayRequest.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        remedy = "Give an instant with its offset, such as 2026-11-24T15:00:00Z; only delivered or dead messages are sent again."
        raise Failure(
            f"--{first['loc'][0]} {error_phrase(first['msg'])}", code=ExitCode.USAGE, remedy=remedy
        ) from error
    with connect(api_url, api_key) as api:
        pages = [*api.replay(partner, replay_request)]
    messages, exports = sum(page.messages for page in pages), sum(page.exports for page in pages)
    if as_json:
        print_json({"partnerId": partner, "messages": messages, "exports": exports})
    else:
        counted = f"{count_noun(messages, 'message')} of {count_noun(exports, 'export')} {'is' if messages == 1 else 'are'} pending"
        stdout_console().print(f"[green]✓[/] {counted} to {escape(partner)} again")
