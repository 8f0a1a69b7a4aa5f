"""`exports demo`: runs example plans through the service and prints what happens."""

import json
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from config.logs import configure_logs
from config.queues import CUSTOMS_BROKER, OPERATOR, WAREHOUSE
from config.settings import Settings, use_settings
from pipeline.accounts import api_keys, partners, people, service
from pipeline.accounts.channels import BorderBuddyEndpoint, QueueEndpoint
from pipeline.accounts.one_time_links import Purpose
from pipeline.accounts.schemas import NewPartner
from pipeline.client import Exports
from pipeline.core.clock import utc_now
from pipeline.core.errors import ExportsError
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.core.startup import STARTED, pause_collection
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.channels.queue_reader import QueueEntry
from pipeline.exports import examples
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.exports.schemas.export import EventView, ExportView
from pipeline.exports.states import ACTIVE_STATES, UNANSWERED_STATES, ExportState
from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    print_json,
    report_errors,
    save_picture,
    stderr_console,
    stdout_console,
)
from pipeline.interfaces.cli.people import build_link
from pipeline.interfaces.cli.progress import ProgressLine, ProgressReporter
from pipeline.interfaces.cli.server import watch_stop_signals
from pipeline.interfaces.sandbox_input import build_answer
from pipeline.ops.migrations.runner import upgrade_database

app = typer.Typer()

HOST: Final = "127.0.0.1"
TIMEOUT_SECONDS: Final = 60.0
PICTURE_WIDTH: Final = 132


@dataclass(frozen=True)
class ExportResult:
    """The result of one plan: the ended export, and the paths of its documents."""

    name: str
    export: ExportView
    files: Sequence[Path]

    @property
    def invoices(self) -> list[Path]:
        """The invoices as PDF files."""
        return [path for path in self.files if path.name == "commercial_customs_invoice.pdf"]

    @property
    def bundle(self) -> Path:
        """The zip file of the whole handoff."""
        return self.files[-1]


@app.command()
@report_errors
def demo(
    home: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that the demo writes.")] = Path(
        "var/demo"
    ),
    serve: Annotated[bool, typer.Option("--serve", help="Serve afterwards until Ctrl-C.")] = False,
    picture: Annotated[Path | None, typer.Option(hidden=True, help="Save what the terminal shows as SVG.")] = None,
    as_json: Json = False,
) -> None:
    """Run three example plans through every part and show the results."""
    console = stderr_console() if as_json else stdout_console()
    if picture is not None:
        console = Console(record=True, width=PICTURE_WIDTH, highlight=False, force_terminal=True)
    try:
        with ExitStack() as stack:
            _run_demo(stack, console, home, serve=serve, as_json=as_json)
    except KeyboardInterrupt:
        stderr_console().print("\nstopped; nothing is left running")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    if picture is not None:
        save_picture(console, picture)


def _run_demo(stack: ExitStack, console: Console, home: Path, *, serve: bool, as_json: bool) -> None:
    home.mkdir(parents=True, exist_ok=True)
    listener = stack.enter_context(closing(socket.create_server((HOST, 0))))
    settings = _use_demo_settings(home, listener.getsockname()[1])
    # Only the end of the process closes it: threads that end later may still write to the log.
    configure_logs(settings, (home / "demo.log").open("a", encoding="utf-8"))
    console.print("[bold]Runs three approved plans through every part of the service on this machine[/]\n")
    console.print(f"  in this process  API at {settings.public_url}, worker, message broker")
    console.print(f"  in {escape(str(home)):<14}database, documents, log\n", soft_wrap=True)
    with pause_collection():
        from pipeline.interfaces import server  # noqa: PLC0415

    runtime = stack.enter_context(closing(process_runtime()))
    key = prepare_account(runtime)
    stack.enter_context(server.Service(runtime, listener, worker=True))
    api = stack.enter_context(Exports(settings.public_url, key))
    started = [submit_plan(api, plan) for plan in load_plans(utc_now())]
    reporters = {each.name: ProgressReporter(each.export) for each in started}
    width = max(len(name) for name in reporters)
    for each, event in watch(api, started, TIMEOUT_SECONDS):
        for line in reporters[each.name].report([event]):
            console.print(_label_line(each.name, width, line), soft_wrap=True)
    _differ_by_entry(api, started, console)
    results = []
    for each in started:
        export = api.inspect(each.export.export_id)
        files = api.save(export, home / "out" / export.batch_id, with_bundle=True)
        results.append(ExportResult(each.name, export, files))
    messages = consume_messages(settings, started)
    every_message = home / "out" / "messages.jsonl"
    every_message.write_text(
        "".join(json.dumps(m.event, ensure_ascii=False) + "\n" for m in messages), encoding="utf-8"
    )
    seconds = time.monotonic() - STARTED
    if as_json:
        print_json(_build_summary(results, messages, seconds, settings))
    _print_results(console, results)
    _print_messages(console, messages, every_message)
    failed = [result.name for result in results if result.export.state is not ExportState.EXECUTED]
    if failed:
        raise Failure(f"not executed: {', '.join(failed)}", remedy=f"The log is {home / 'demo.log'}.")
    _print_next_steps(console, home, seconds)
    if serve:
        stop_signals = watch_stop_signals()
        console.print(
            f"\n  serving at [bold]{settings.public_url}/console[/] until Ctrl-C; this link signs you in once:"
        )
        console.print(f"    {build_link(settings, create_entry_token(runtime))}", soft_wrap=True, markup=False)
        console.print("  or in a terminal:")
        console.print(f"    export EXPORTS_API_URL={settings.public_url} EXPORTS_API_KEY={key}", soft_wrap=True)
        console.print(f"    exports inspect {results[0].export.batch_id}")
        stop_signals.get()


def _differ_by_entry(api: Exports, started: Sequence["StartedExport"], console: Console) -> None:
    """Let the sandbox broker release the first entry of each export with several, and hold the last one."""
    for each in started:
        export = api.inspect(each.export.export_id)
        packages = [package.package_number or "" for package in export.customs_packages]
        if len(packages) > 1 and export.state is ExportState.EXECUTED:
            for status, number in (("filed", packages[0]), ("released", packages[0]), ("held", packages[-1])):
                answer = build_answer(f"demo-{status}", status, [number], holder="cbp" if status == "held" else "")
                api.sandbox_answer(export.export_id, answer)
                console.print(f"  {each.name}: the sandbox broker answers [bold]{status}[/] about {number}")
    for _ in watch(api, started, TIMEOUT_SECONDS):
        pass


def _use_demo_settings(home: Path, port: int) -> Settings:
    settings = build_settings(home, HOST, port)
    use_settings(settings)
    return settings


def _label_line(name: str, width: int, line: ProgressLine) -> Text:
    return Text(f"  {name:<{width}}  ") + line.styled


def _print_results(console: Console, results: Sequence[ExportResult]) -> None:
    for result in results:
        console.print()
        console.print(
            Text(f"{result.name}  ", style="bold") + export_view.format_headline(result.export), soft_wrap=True
        )
        for submission in result.export.broker_submissions:
            answer_text = next(
                (answer.message for answer in reversed(submission.acknowledgements) if answer.message), ""
            )
            partner = f"{submission.partner_id} by {submission.channel}"
            console.print(
                f"  customs broker  [bold]{submission.submission_status}[/]  [dim]{partner}[/]  {escape(answer_text)}",
                soft_wrap=True,
            )
            if len({entry.headline for entry in submission.entries}) > 1:
                for entry in submission.entries:
                    console.print(f"  entry           {entry.customs_package_number} is {entry.headline}")
        for path in result.invoices:
            console.print(f"  invoice         {escape(str(path))}", soft_wrap=True)
        console.print(f"  handoff bundle  {escape(str(result.bundle))}", soft_wrap=True)


def _print_messages(console: Console, messages: Sequence[QueueEntry], file: Path) -> None:
    console.print("\n[bold]Messages, consumed from the queues of the partners[/]")
    counted = Counter((message.queue, str(message.event.get("type"))) for message in messages)
    for (queue, kind), count in sorted(counted.items()):
        sample = next(m for m in messages if m.queue == queue and m.event.get("type") == kind)
        console.print(f"  {queue:<17} {count:>4}  [bold]{kind}[/], such as")
        console.print(Text(f"{'':24}{export_view.shorten(sample.event.get('data'), console.width - 26)}", style="dim"))
    console.print(f"  all of them       {len(messages):>4}  {escape(str(file))}", soft_wrap=True)


def _print_next_steps(console: Console, home: Path, seconds: float) -> None:
    console.print(f"\n[green]✓[/] done in {seconds:.1f} s")
    console.print("  batch ids         end in the time of the run: each run creates new exports")
    console.print(f"  again             {escape(_find_command_name())} demo", soft_wrap=True)
    console.print(f"  leave it serving  {escape(_find_command_name())} demo --serve", soft_wrap=True)
    console.print(f"  its log           {escape(str(home / 'demo.log'))}", soft_wrap=True)


def _find_command_name() -> str:
    """Return the name or path by which the user can call this command again."""
    program = Path(sys.argv[0])
    return "exports" if program.name != "exports" or shutil.which("exports") == str(program) else str(program)


def _build_summary(
    results: Sequence[ExportResult], messages: Sequence[QueueEntry], seconds: float, settings: Settings
) -> dict[str, Any]:
    counted = Counter((message.queue, str(message.event.get("type"))) for message in messages)
    return {
        "address": settings.public_url,
        "seconds": seconds,
        "exports": [
            {
                "plan": result.name,
                "exportId": result.export.export_id,
                "batchId": result.export.batch_id,
                "state": result.export.state,
                "status": result.export.status,
                "submissionStatuses": [submission.submission_status for submission in result.export.broker_submissions],
                "invoices": [str(path) for path in result.invoices],
                "bundle": str(result.bundle),
            }
            for result in results
        ],
        "messages": [
            {"queue": queue, "type": kind, "count": count} for (queue, kind), count in sorted(counted.items())
        ],
    }


QUEUES: Final = (CUSTOMS_BROKER, WAREHOUSE, OPERATOR)
ACCOUNT: Final = "acc_demo"
EMAIL: Final = "admin@maple.example"
#: The GS1 company prefix of the examples in GS1's own documents.
GS1_PREFIX: Final = "0614141"

PARTNERS: Final = (
    NewPartner(
        id="br_sandbox",
        kind="customs_broker",
        name="Sandbox customs broker",
        test=True,
        live=True,
        path="borderbuddy",
        channels=[BorderBuddyEndpoint(), QueueEndpoint()],
    ),
    NewPartner(id="wh_demo", kind="warehouse", name="Demo warehouse", test=True, live=True),
    NewPartner(id="op_demo", kind="operator", name="Demo export desk", test=True, live=True),
)

_POLL_SECONDS: Final = 0.05


class DemoFailed(ExportsError):
    """The demo cannot start, or did not end as expected."""


@dataclass(frozen=True)
class ExamplePlan:
    """A bundled plan with the name of its file."""

    name: str
    plan: dict[str, Any]


@dataclass(frozen=True)
class StartedExport:
    """One plan's export: `name` is the plan's."""

    name: str
    export: ExportView


def build_settings(home: Path, host: str, port: int) -> Settings:
    """Return the settings of a demo in the folder `home`; environment variables do not change them."""
    return Settings.model_construct(
        database_url=f"sqlite:///{home / 'exports.db'}",
        broker_url=SecretStr("memory://"),
        artifacts_url=f"file:{home / 'artifacts'}",
        host=host,
        port=port,
        public_url=f"http://{host}:{port}",
        log_format="text",
        # The sandbox broker is this process.
        allow_private_destinations=True,
    )


def prepare_account(runtime: Runtime) -> str:
    """Migrate the database, create the demo's account and partners if they are missing, and return a new key."""
    upgrade_database(runtime.db)
    if service.find_account(runtime, ACCOUNT) is None:
        service.create_account(runtime, ACCOUNT, "Maple Goods Ltd", gs1_prefix=GS1_PREFIX, actor=COMMAND_LINE)
    known = {partner.id for partner in partners.list_partners(runtime, ACCOUNT)}
    for partner in PARTNERS:
        if partner.id not in known:
            partners.create_partner(runtime, ACCOUNT, partner, actor=COMMAND_LINE)
    return api_keys.create_key(runtime, ACCOUNT, "demo", mode="test", roles=[api_keys.ADMIN], actor=COMMAND_LINE).bearer


def create_entry_token(runtime: Runtime) -> str:
    """Return the token of a link that signs in an administrator of the demo once, without a password."""
    return people.invite_person(
        runtime,
        ACCOUNT,
        COMMAND_LINE,
        email=EMAIL,
        name="Demo administrator",
        roles=[api_keys.ADMIN],
        mode="test",
        purpose=Purpose.ENTER,
    ).token


def load_plans(now: datetime) -> list[ExamplePlan]:
    """Return the bundled plans, smallest first, dated by `now`; the time also makes their batch ids unique.

    Raises DemoFailed if there are none.
    """
    found = []
    for name in examples.list_names():
        plan = examples.load_plan(name, now.date())
        plan["batchId"] = f"{plan['batchId']}.{now:%y%m%d%H%M%S}"
        found.append(ExamplePlan(name, plan))
    if not found:
        raise DemoFailed(f"there are no example plans in {examples.PLANS}; install the service again")
    return found


def submit_plan(api: Exports, plan: ExamplePlan) -> StartedExport:
    """Execute the plan over HTTP."""
    return StartedExport(plan.name, api.execute(plan.plan, idempotency_key=f"demo-{plan.plan['batchId']}").export)


def watch(
    api: Exports, started: Sequence[StartedExport], timeout_seconds: float
) -> Iterator[tuple[StartedExport, EventView]]:
    """Yield the exports' events until each export has ended, its deliveries are done and the customs broker has answered.

    Raises DemoFailed after `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    seen = {each.export.export_id: 0 for each in started}
    unfinished = list(started)
    while unfinished:
        for each in [*unfinished]:
            export_id = each.export.export_id
            before = seen[export_id]
            for event in api.events(export_id, after=before):
                seen[export_id] = event.seq
                yield each, event
            if seen[export_id] == before and _is_finished(api.inspect(export_id)):
                unfinished.remove(each)
        if unfinished:
            if time.monotonic() > deadline:
                names = ", ".join(each.name for each in unfinished)
                raise DemoFailed(f"not finished after {timeout_seconds:g} s: {names}")
            time.sleep(_POLL_SECONDS)


def _is_finished(export: ExportView) -> bool:
    if export.state in ACTIVE_STATES:
        return False
    all_delivered = all(not tally.pending and not tally.waiting for tally in export.notifications)
    return all_delivered and all(
        submission.submission_status not in UNANSWERED_STATES for submission in export.broker_submissions
    )


def consume_messages(settings: Settings, started: Sequence[StartedExport]) -> list[QueueEntry]:
    """Take the messages from the partners' queues, and return those about these exports."""
    ids = {each.export.export_id for each in started}
    return [message for message in queue_reader.drain_queues(settings, QUEUES) if message.event.get("subject") in ids]
