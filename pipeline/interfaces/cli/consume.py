"""`exports consume`: prints the messages in partners' queues, and removes them or only looks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.text import Text

from config.queues import BINDINGS, CUSTOMS_BROKER, OPERATOR, UPSTREAM, WAREHOUSE
from config.settings import Settings, get_settings
from pipeline.client import InvalidWebhook, read_message
from pipeline.core.cache import Kept
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.channels.queue_reader import QueueEntry
from pipeline.interfaces.cli.export_view import shorten
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    print_json,
    report_errors,
    stderr_console,
    stdout_console,
)
from pipeline.interfaces.event_text import count_noun

app = typer.Typer()

#: How many ids are remembered to skip repeated messages.
MAX_REMEMBERED_IDS: Final = 100_000


class QueueOwner(StrEnum):
    """The reader of a queue."""

    BROKER = "broker"
    WAREHOUSE = "warehouse"
    OPERATOR = "operator"
    UPSTREAM = "upstream"


_QUEUES: Final = {
    QueueOwner.BROKER: CUSTOMS_BROKER,
    QueueOwner.WAREHOUSE: WAREHOUSE,
    QueueOwner.OPERATOR: OPERATOR,
    QueueOwner.UPSTREAM: UPSTREAM,
}


@dataclass
class _MessageView:
    """Prints each message once, however often it arrives."""

    as_json: bool
    shown: int = 0
    repeated: int = 0
    _ids: Kept[str, bool] = field(default_factory=lambda: Kept(MAX_REMEMBERED_IDS))

    def show(self, entry: QueueEntry) -> None:
        """Print a message unless it was printed before; it is written out when this returns."""
        identity = str(entry.event.get("id", ""))
        if identity and self._ids.get(identity):
            self.repeated += 1
            return
        if self.as_json:
            print_json(
                json.dumps(entry.event or {"unreadable": entry.body.decode(errors="replace")}, ensure_ascii=False)
            )
        else:
            stdout_console().print(_format_entry(entry), soft_wrap=True)
        self.shown += 1
        if identity:
            self._ids.put(identity, True)


@app.command(epilog="Example: exports consume warehouse --peek --follow")
@report_errors
def consume(
    reads: Annotated[QueueOwner, typer.Argument(help="Whose queue to read.")],
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="Read this queue instead, such as a partner's own.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after this many messages.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Without --follow: end after this many seconds without a message.")
    ] = 1,
    peek: Annotated[
        bool,
        typer.Option("--peek", help="Remove nothing: on Redis show waiting messages, on RabbitMQ copies of new ones."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a queue of BROKER_URL: show each message, then remove it."""
    settings = get_settings()
    if settings.embedded:
        raise Failure(
            "BROKER_URL must not be memory://: only the serving process can read its queues",
            code=ExitCode.USAGE,
            remedy="Set BROKER_URL to the service's redis:// or amqp://. For a service on memory://, use"
            " `exports deliveries list` and `exports trace MESSAGE_ID`; `exports demo` reads its own queues, and writes every"
            " message to var/demo/out/messages.jsonl.",
        )
    view = _MessageView(as_json)
    looked_at = peek and settings.message_broker == "redis"
    with _open_entries(settings, reads, queue, None if follow else timeout, peek=peek) as entries:
        try:
            for entry in entries:
                view.show(entry)
                if not looked_at:
                    entry.remove()
                if view.shown == count:
                    break
        finally:
            _print_summary(view, settings, peek=peek)
    if count is not None and view.shown < count:
        raise Failure(f"only {view.shown} of {count} messages arrived in time", code=ExitCode.TIMED_OUT)


@contextmanager
def _open_entries(
    settings: Settings, reads: QueueOwner, queue: str | None, quiet_seconds: float | None, *, peek: bool
) -> Iterator[Iterator[QueueEntry]]:
    name = queue or _QUEUES[reads]
    if not peek:
        with queue_reader.open_queue(settings, name) as reader:
            yield queue_reader.take_messages(reader, quiet_seconds)
    elif settings.message_broker == "redis":
        with queue_reader.browse_queue(settings, name) as look:
            yield look() if quiet_seconds is not None else queue_reader.watch_messages(look)
    elif queue is not None:
        raise Failure(
            f"--peek must stand without --queue on RabbitMQ: it shows copies of new messages for the {reads}, not those in {queue}",
            code=ExitCode.USAGE,
            remedy="Leave --queue out, or leave --peek out and remove the messages.",
        )
    else:
        (binding,) = BINDINGS[name]
        with queue_reader.open_copy_queue(settings, binding) as reader:
            # The queue belongs to this command: a message taken from it is a copy.
            yield queue_reader.take_messages(reader, quiet_seconds)


def _format_entry(entry: QueueEntry) -> Text:
    width = stdout_console().width
    try:
        message = read_message(entry.body).event
    except InvalidWebhook:
        text = shorten(entry.event or entry.body.decode(errors="replace"), width - 4)
        return Text.from_markup(
            f"[yellow]not a message of the service[/]  [dim]{escape(entry.routing_key)}[/]\n    {escape(text)}"
        )
    return Text.from_markup(
        f"[dim]{message.time:%Y-%m-%d %H:%M:%S}[/]  [bold]{escape(message.type)}[/]  {escape(message.id)}  {escape(message.subject)}"
        f"  [dim]{escape(entry.routing_key)}[/]\n    {escape(shorten(message.data, width - 4))}"
    )


def _print_summary(view: _MessageView, settings: Settings, *, peek: bool) -> None:
    done = "removed" if not peek else "looked at" if settings.message_broker == "redis" else "copied"
    repeated = f"; {view.repeated} repeated ones were not shown" if view.repeated else ""
    stderr_console().print(f"[dim]{count_noun(view.shown, 'message')} {done}{repeated}[/]")
