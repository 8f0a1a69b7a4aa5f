"""`exports trace`: one message on all of its channels, with attempts and responses."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.text import Text

from pipeline.accounts.schemas import AttemptView, DeliveryView, name_subject
from pipeline.deliveries.schemas.views import NotificationTrace, SandboxHandoffView
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.export_view import format_submission
from pipeline.interfaces.cli.output import FittedTable, Json, build_table, print_result, report_errors

app = typer.Typer()

#: How many characters of a response the table shows; --json prints all that is kept.
MAX_ANSWER_CHARACTERS: Final = 60
_COLUMNS: Final = ("to", "by", "state", "attempt", "at", "time", "status", "error", "response")


@app.command()
@report_errors
def trace(
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE_ID", help="The CloudEvent's id, the same on every attempt and channel.")
    ],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show one message's recipients, channels, attempts and responses."""
    with connect(api_url, api_key) as api:
        found = api.trace(message)
    print_result(found, *_render_trace(found), as_json=as_json)


def _render_trace(found: NotificationTrace) -> Iterator[Text | FittedTable]:
    revision = f", revision {found.revision}" if found.plan_id is None else ""
    about = f"{escape(name_subject(found.export_id, found.plan_id))}, batch {escape(found.batch_id)}{revision}"
    yield Text.from_markup(
        f"[bold]{escape(found.event_type)}[/]  {escape(found.id)}{'  [yellow]test[/]' if found.test else ''}\n"
        f"of {about}\nto the {found.audience.replace('_', ' ')}, written {found.created_at:%Y-%m-%d %H:%M:%S.%f} UTC\n"
    )
    if found.deliveries:
        yield _build_deliveries_table(found.deliveries)
    else:
        yield Text("it has no deliveries: there was no such recipient when it was written")
    if found.sandbox is not None:
        yield _format_handoff(found.sandbox)
    if found.broker_submission is not None:
        yield Text("\n") + format_submission(found.broker_submission)
        if not found.broker_submission.acknowledgements:
            yield Text("  no answer yet", style="dim")


def _build_deliveries_table(deliveries: list[DeliveryView]) -> FittedTable:
    rows = []
    for delivery in deliveries:
        head = [delivery.partner_id, delivery.channel, _format_state(delivery)]
        for attempt in reversed(delivery.tries):
            rows.append([*head, *_format_attempt(attempt)])
            head = ["", "", ""]
        if not delivery.tries:
            rows.append([*head, *[""] * (len(_COLUMNS) - len(head))])
    return build_table(_COLUMNS, rows)


def _format_state(delivery: DeliveryView) -> str:
    due = f", due {delivery.due_at:%Y-%m-%d %H:%M:%S}" if delivery.due_at else ""
    return f"{delivery.state}{due}"


def _format_attempt(attempt: AttemptView) -> list[str]:
    answer = " ".join((attempt.answer or "").split())
    shown = answer if len(answer) <= MAX_ANSWER_CHARACTERS else answer[: MAX_ANSWER_CHARACTERS - 1] + "…"
    return [
        str(attempt.number),
        f"{attempt.at:%Y-%m-%d %H:%M:%S}",
        f"{attempt.duration_ms} ms",
        attempt.status or "",
        attempt.error_class or "",
        shown,
    ]


def _format_handoff(handoff: SandboxHandoffView) -> Text:
    numbers = ", ".join(handoff.invoice_numbers)
    at_once = "nothing at once" if handoff.answer is None else f"{handoff.answer.status} at once"
    return Text.from_markup(
        f"\nsandbox broker received it {handoff.received_at:%Y-%m-%d %H:%M:%S} by {handoff.path}, invoice {escape(numbers)}:"
        f" requested answer [bold]{handoff.outcome}[/], answered {at_once}"
    )
