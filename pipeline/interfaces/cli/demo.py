"""`exports demo`: the demo, told in a terminal."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from config.logs import configure_logs
from config.settings import Settings, use_settings
from pipeline.client import Exports
from pipeline.core.db import utc_now
from pipeline.core.runtime import process_runtime
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.states import ExportState
from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.output import INTERRUPTED, Failure, Json, aside, out, print_json, reported
from pipeline.interfaces.cli.picture import save_picture
from pipeline.interfaces.cli.progress import Line, Narrator
from pipeline.interfaces.cli.server import told_to_end

if TYPE_CHECKING:
    from pipeline.deliveries.channels.inbox import Received

app = typer.Typer()

HOST: Final = "127.0.0.1"
TIMEOUT_SECONDS: Final = 60.0
PICTURE_WIDTH: Final = 132


@dataclass(frozen=True)
class Ending:
    """What came of one plan: the export as it ended, and where its documents lie."""

    name: str
    export: ExportView
    files: Sequence[Path]

    @property
    def invoices(self) -> list[Path]:
        """The printed invoices."""
        return [path for path in self.files if path.name == "commercial_customs_invoice.pdf"]

    @property
    def bundle(self) -> Path:
        """The whole handoff."""
        return self.files[-1]


@app.command()
@reported
def demo(
    home: Annotated[Path, typer.Option(metavar="DIR", help="Where it keeps everything.")] = Path("var/demo"),
    serve: Annotated[bool, typer.Option("--serve", help="Leave it serving afterwards, until Ctrl-C.")] = False,
    picture: Annotated[Path | None, typer.Option(hidden=True, help="Save what the terminal shows as SVG.")] = None,
    as_json: Json = False,
) -> None:
    """Run three example plans through every part, on this machine, and show what came of them."""
    console = aside() if as_json else out()
    if picture is not None:
        console = Console(record=True, width=PICTURE_WIDTH, highlight=False, force_terminal=True)
    try:
        with ExitStack() as stack:
            _play(stack, console, home, serve=serve, as_json=as_json)
    except KeyboardInterrupt:
        aside().print("\nstopped; nothing is left running")
        raise typer.Exit(INTERRUPTED) from None
    if picture is not None:
        save_picture(console, picture)


def _play(stack: ExitStack, console: Console, home: Path, *, serve: bool, as_json: bool) -> None:
    home.mkdir(parents=True, exist_ok=True)
    listener = stack.enter_context(closing(socket.create_server((HOST, 0))))
    settings = _settled_on(home, listener.getsockname()[1])
    # Closed by the end of the process alone: threads that end later may still have something to say.
    configure_logs(settings, (home / "demo.log").open("a", encoding="utf-8"))
    console.print("[bold]Three approved plans, through every part of the service, on this machine[/]\n")
    console.print(f"  in this process  API at {settings.public_url}, worker, message broker")
    console.print(f"  in {escape(str(home)):<14}database, documents, log\n", soft_wrap=True)
    from pipeline.interfaces import server  # noqa: PLC0415
    from pipeline.interfaces.cli import demo_folded as play  # noqa: PLC0415 - what these import reads the settings, which are chosen above

    runtime = stack.enter_context(closing(process_runtime()))
    key = play.prepare(runtime)
    began = time.monotonic()
    stack.enter_context(server.Service(runtime, listener, worker=True))
    api = stack.enter_context(Exports(settings.public_url, key))
    played = [play.post(api, plan) for plan in play.plans(utc_now())]
    narrators = {each.name: Narrator(each.export) for each in played}
    width = max(len(name) for name in narrators)
    for each, event in play.watch(api, played, TIMEOUT_SECONDS):
        for line in narrators[each.name].tell([event]):
            console.print(_labelled(each.name, width, line), soft_wrap=True)
    endings = []
    for each in played:
        export = api.inspect(each.export.export_id)
        files = api.save(export, home / "out" / export.batch_id, with_bundle=True)
        endings.append(Ending(each.name, export, files))
    messages = play.consume(settings, played)
    every_message = home / "out" / "messages.jsonl"
    every_message.write_text(
        "".join(json.dumps(m.event, ensure_ascii=False) + "\n" for m in messages), encoding="utf-8"
    )
    seconds = time.monotonic() - began
    if as_json:
        print_json(_summary(endings, messages, seconds, settings))
    _tell_endings(console, endings)
    _tell_messages(console, messages, every_message)
    failed = [ending.name for ending in endings if ending.export.state is not ExportState.EXECUTED]
    if failed:
        raise Failure(f"not executed: {', '.join(failed)}", remedy=f"The log is {home / 'demo.log'}.")
    _tell_what_next(console, home, seconds)
    if serve:
        ended = told_to_end()
        console.print(
            f"\n  serving at [bold]{settings.public_url}/console[/] until Ctrl-C; sign in with the key, or in a terminal:"
        )
        console.print(f"    export EXPORTS_API_URL={settings.public_url} EXPORTS_API_KEY={key}", soft_wrap=True)
        console.print(f"    exports inspect {endings[0].export.batch_id}")
        ended.wait()


def _settled_on(home: Path, port: int) -> Settings:
    from pipeline.interfaces.cli.demo_folded import settings_of  # noqa: PLC0415 - it knows the home before anybody reads the settings

    settings = settings_of(home, HOST, port)
    use_settings(settings)
    return settings


def _labelled(name: str, width: int, line: Line) -> Text:
    return Text(f"  {name:<{width}}  ") + line.styled


def _tell_endings(console: Console, endings: Sequence[Ending]) -> None:
    for ending in endings:
        console.print()
        console.print(Text(f"{ending.name}  ", style="bold") + export_view.headline(ending.export), soft_wrap=True)
        for submission in ending.export.broker_submissions:
            said = next((answer.message for answer in reversed(submission.acknowledgements) if answer.message), "")
            way = f"{submission.partner_id} by {submission.channel}"
            console.print(
                f"  customs broker  [bold]{submission.rung}[/]  [dim]{way}[/]  {escape(said)}", soft_wrap=True
            )
        for path in ending.invoices:
            console.print(f"  invoice         {escape(str(path))}", soft_wrap=True)
        console.print(f"  handoff bundle  {escape(str(ending.bundle))}", soft_wrap=True)


def _tell_messages(console: Console, messages: Sequence[Received], file: Path) -> None:
    console.print("\n[bold]Messages, consumed from the queues of the partners[/]")
    counted = Counter((message.queue, str(message.event.get("type"))) for message in messages)
    for (queue, kind), count in sorted(counted.items()):
        sample = next(m for m in messages if m.queue == queue and m.event.get("type") == kind)
        console.print(f"  {queue:<17} {count:>4}  [bold]{kind}[/], such as")
        console.print(
            Text(f"{'':24}{export_view.shortened(sample.event.get('data'), console.width - 26)}", style="dim")
        )
    console.print(f"  all of them       {len(messages):>4}  {escape(str(file))}", soft_wrap=True)


def _tell_what_next(console: Console, home: Path, seconds: float) -> None:
    console.print(f"\n[green]✓[/] done in {seconds:.1f} s")
    console.print("  batch ids         end in the time of the run: each run makes exports of its own")
    console.print(f"  again             {escape(_called())} demo", soft_wrap=True)
    console.print(f"  leave it serving  {escape(_called())} demo --serve", soft_wrap=True)
    console.print(f"  its log           {escape(str(home / 'demo.log'))}", soft_wrap=True)


def _called() -> str:
    """Return how this command was called, so that it can be called again."""
    called = Path(sys.argv[0])
    return "exports" if called.name != "exports" or shutil.which("exports") == str(called) else str(called)


def _summary(
    endings: Sequence[Ending], messages: Sequence[Received], seconds: float, settings: Settings
) -> dict[str, Any]:
    counted = Counter((message.queue, str(message.event.get("type"))) for message in messages)
    return {
        "address": settings.public_url,
        "seconds": seconds,
        "exports": [
            {
                "plan": ending.name,
                "exportId": ending.export.export_id,
                "batchId": ending.export.batch_id,
                "state": ending.export.state,
                "status": ending.export.status,
                "rungs": [submission.rung for submission in ending.export.broker_submissions],
                "invoices": [str(path) for path in ending.invoices],
                "bundle": str(ending.bundle),
            }
            for ending in endings
        ],
        "messages": [
            {"queue": queue, "type": kind, "count": count} for (queue, kind), count in sorted(counted.items())
        ],
    }
