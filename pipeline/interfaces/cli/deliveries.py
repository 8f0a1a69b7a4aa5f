"""`exports deliveries`: the delivery log; resending one message, and replaying a partner's messages of a time span."""

from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from pipeline.accounts.schemas import name_subject
from pipeline.core.json_input import error_phrase
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.exports.states import DeliveryState
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_result,
    report_errors,
    show_progress,
    with_remedy,
)
from pipeline.interfaces.cli.processes import JsonWhenReady, MetricsPort, run_worker
from pipeline.interfaces.event_text import count_noun

app = typer.Typer()


@app.callback(invoke_without_command=True)
@report_errors
def deliveries(
    context: typer.Context,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Messages that the process sends at once.")
    ] = None,
    metrics_port: MetricsPort = None,
    as_json: JsonWhenReady = False,
) -> None:
    """Show and resend messages to partners; without a command, run the process that sends them."""
    if context.invoked_subcommand is None:
        options = [] if concurrency is None else ["-c", str(concurrency)]
        run_worker("deliveries", options, metrics_port, as_json=as_json)
    elif as_json:
        raise Failure(
            "--json stands before the command", code=ExitCode.USAGE, remedy="Write it after the command: `list --json`."
        )


@app.command("list")
@report_errors
def list_deliveries(
    export: Annotated[
        str | None, typer.Option("--export", metavar="ID", help="Only this export's, by its id or its batch's.")
    ] = None,
    partner: Annotated[str | None, typer.Option("--partner", metavar="ID", help="Only to this partner.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List one page of deliveries, newest first."""
    with connect(api_url, api_key) as api:
        export_id = None if export is None else api.inspect(export).export_id
        page = api.delivery_page(export=export_id, partner=partner, state=state)
    table = build_table(
        ("delivery", "to", "by", "message", "state", "attempts", "last error, and what to do"),
        (
            (
                row.id,
                row.partner_id,
                row.channel,
                row.event_type,
                row.state,
                str(row.attempts),
                with_remedy(row.error or "", row.remedy),
            )
            for row in page.items
        ),
    )
    more = "There are more; filter by --export, --partner or --state." if page.next_cursor else None
    print_result(page, table, hint=more, as_json=as_json)


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
    lines = [
        f"[bold]{escape(row.id)}[/] is {row.state}: {row.event_type} to {escape(row.partner_id)} by {row.channel}",
        f"  message id {row.notification_id}, {name_subject(row.export_id, row.plan_id)}",
        *([f"  {escape(row.error)}"] if row.error else []),
        *([f"  [yellow]→ {escape(row.remedy)}[/]"] if row.remedy else []),
    ]
    table = build_table(
        ("attempt", "outcome", "status", "response", "time", "at"),
        (
            (
                str(each.number),
                each.outcome,
                each.status or "",
                each.answer or "",
                f"{each.duration_ms} ms",
                f"{each.at:%Y-%m-%d %H:%M:%S}",
            )
            for each in row.tries
        ),
    )
    print_result(row, *lines, table, as_json=as_json)


@app.command()
@report_errors
def resend(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="As `exports deliveries list` shows it.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Send a delivery again under the same message id; a pending one is sent now."""
    with connect(api_url, api_key) as api:
        requeued = api.resend(delivery)
    text = f"[green]✓[/] {escape(requeued.id)} to {escape(requeued.partner_id)} is {requeued.state}, due now"
    print_result(requeued, text, as_json=as_json)


@app.command()
@report_errors
def acknowledge(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="Of a dead message about a registered plan.")],
    note: Annotated[str | None, typer.Option(help="What was done about it; it stands in the audit trail.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Put it back into the inbox.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Take a dead message about a registered plan from the inbox until it is resent; with --undo put it back.

    A dead message about an export leaves the inbox by `exports acknowledge`.
    """
    with connect(api_url, api_key) as api:
        row = api.reopen_delivery(delivery) if undo else api.acknowledge_delivery(delivery, note)
    text = f"[green]✓[/] {escape(row.id)} is {'in the inbox again' if undo else 'acknowledged'}"
    print_result(row, text, as_json=as_json)


@app.command(epilog="Example: exports deliveries replay --partner wh_123 --since 2026-11-24T15:00:00Z --state dead")
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
    messages = exports = 0
    with connect(api_url, api_key) as api, show_progress(f"sending again to {partner}") as show:
        for page in api.replay(partner, replay_request):
            messages += page.messages
            exports += page.exports
            show(f"{count_noun(messages, 'message')} of {count_noun(exports, 'export')}")
    counted = f"{count_noun(messages, 'message')} of {count_noun(exports, 'export')} {'is' if messages == 1 else 'are'} pending"
    print_result(
        {"partnerId": partner, "messages": messages, "exports": exports},
        f"[green]✓[/] {counted} to {escape(partner)} again",
        as_json=as_json,
    )
