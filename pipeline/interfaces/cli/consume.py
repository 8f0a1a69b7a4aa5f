"""`exports consume`: what partners read from their queues, shown to a person; taken off, or only looked at."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.text import Text

from config.queues import BINDINGS, CUSTOMS_BROKER, OPERATOR, WAREHOUSE
from config.settings import Settings, get_settings
from pipeline.client import InvalidWebhook, read_message
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

app = typer.Typer()

#: So many ids are remembered, to leave out what comes again.
MAX_REMEMBERED_IDS: Final = 100_000


class QueueOwner(StrEnum):
    """Whose queue."""

    BROKER = "broker"
    WAREHOUSE = "warehouse"
    OPERATOR = "operator"


_QUEUES: Final = {QueueOwner.BROKER: CUSTOMS_BROKER, QueueOwner.WAREHOUSE: WAREHOUSE, QueueOwner.OPERATOR: OPERATOR}


@dataclass
class _MessageView:
    """What was shown so far: each message once, however often it comes."""

    as_json: bool
    shown: int = 0
    repeated: int = 0
    _ids: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def show(self, entry: QueueEntry) -> None:
        """Print a message, unless it was printed before; it is with its reader when this returns."""
        event = _parse_event(entry.body)
        identity = str(event.get("id", "")) if event is not None else ""
        if identity and identity in self._ids:
            self.repeated += 1
            return
        if self.as_json:
            print_json(json.dumps(event or {"unreadable": entry.body.decode(errors="replace")}, ensure_ascii=False))
        else:
            stdout_console().print(_format_entry(entry, event), soft_wrap=True)
        self.shown += 1
        if identity:
            self._ids[identity] = None
            if len(self._ids) > MAX_REMEMBERED_IDS:
                self._ids.popitem(last=False)


@app.command()
@report_errors
def consume(
    reads: Annotated[QueueOwner, typer.Argument(help="Whose messages.")],
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="Another queue, such as a partner's own.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Without --follow: end when so many seconds have brought no message.")
    ] = 1,
    peek: Annotated[
        bool,
        typer.Option(
            "--peek", help="Take nothing: on Redis look at what lies there, on RabbitMQ at copies of what comes."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a queue of BROKER_URL: show each message, then remove it."""
    settings = get_settings()
    if settings.embedded:
        raise Failure(
            "the queues of memory:// live inside the process that serves, and nobody else can read them",
            code=ExitCode.USAGE,
            remedy="Set BROKER_URL to the redis:// or amqp:// that the service runs on. What a service on memory:// has sent is told by"
            " `exports deliveries list` and `exports trace MESSAGE_ID`; `exports demo` reads its own queues, and keeps every"
            " message in var/demo/out/messages.jsonl.",
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
        raise Failure(f"{view.shown} of {count} messages came in time", code=ExitCode.TIMED_OUT)


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
            f"on RabbitMQ --peek shows copies of all that is published for the {reads}, not what lies in {queue}",
            code=ExitCode.USAGE,
            remedy="Leave --queue out, or leave --peek out and take the messages.",
        )
    else:
        (binding,) = BINDINGS[name]
        with queue_reader.open_copy_queue(settings, binding) as reader:
            # Its own queue: what is taken from it is a copy.
            yield queue_reader.take_messages(reader, quiet_seconds)


def _parse_event(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _format_entry(entry: QueueEntry, event: dict[str, Any] | None) -> Text:
    width = stdout_console().width
    try:
        message = read_message(entry.body).event
    except InvalidWebhook:
        text = shorten(entry.body.decode(errors="replace") if event is None else event, width - 4)
        return Text.from_markup(
            f"[yellow]no message of the service[/]  [dim]{escape(entry.routing_key)}[/]\n    {escape(text)}"
        )
    return Text.from_markup(
        f"[dim]{message.time:%Y-%m-%d %H:%M:%S}[/]  [bold]{escape(message.type)}[/]  {escape(message.id)}  {escape(message.subject)}"
        f"  [dim]{escape(entry.routing_key)}[/]\n    {escape(shorten(message.data, width - 4))}"
    )


def _print_summary(view: _MessageView, settings: Settings, *, peek: bool) -> None:
    done = "taken" if not peek else "looked at" if settings.message_broker == "redis" else "copied since it looked"
    repeated = f"; {view.repeated} came again and were not shown twice" if view.repeated else ""
    stderr_console().print(f"[dim]{view.shown} message{'' if view.shown == 1 else 's'} {done}{repeated}[/]")
