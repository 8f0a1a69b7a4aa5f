"""The commands about exports: execute, amend, cancel, retry, list, inspect, artifacts."""

import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from rich.text import Text
from typer.core import TyperCommand

from pipeline.client import Corrupted, Execution, Exports, StillRunning
from pipeline.client.files import write_file
from pipeline.client.request import encode_segment
from pipeline.core.field_types import BoundedInstant
from pipeline.core.json_input import error_phrase
from pipeline.exports.schemas.export import EventView, ExportView
from pipeline.exports.states import ACTIVE_STATES, NEEDS_PERSON, ExportState, Milestone, Outcome, SubmissionState
from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect, find_address
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    print_result,
    report_errors,
    show_progress,
    stderr_console,
)
from pipeline.interfaces.cli.plans import compute_idempotency_key, read_plan
from pipeline.interfaces.cli.progress import FINAL_EVENTS, ProgressReporter

app = typer.Typer()

#: Instants by the rules of the API, so that an option and a parameter take the same texts.
_INSTANT: Final[TypeAdapter[datetime]] = TypeAdapter(BoundedInstant)


#: How often `--wait` asks for the customs broker's next answer if the service does not expect one.
_ASK_AGAIN_SECONDS: Final = 1.0


class WaitGoal(StrEnum):
    """What `--wait` waits for."""

    EXECUTED = "executed"
    ANSWER = "answer"
    RELEASED = "released"


class _CommandWithWait(TyperCommand):
    """A command whose option `--wait` may stand alone: it then means `--wait=executed`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        options = args.index("--") if "--" in args else len(args)
        return super().parse_args(
            ctx,
            [f"--wait={WaitGoal.EXECUTED}" if each == "--wait" else each for each in args[:options]] + args[options:],
        )


Wait = Annotated[
    WaitGoal | None,
    typer.Option(
        help="Show each step until the handoff is delivered (`executed`, also `--wait` alone), the customs broker has"
        " reviewed it (`answer`), or customs has released the goods (`released`). Ends earlier if a person must look."
    ),
]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN.json", help="The approved plan; `-` reads standard input.")]
ExportId = Annotated[str, typer.Argument(metavar="ID", help="The export's id, or its batch's.")]


@app.command(cls=_CommandWithWait, epilog="Example: exports execute plan.json --wait=answer")
@report_errors
def execute(
    plan: PlanFile,
    wait: Wait = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait waits.")] = 300,
    key: Annotated[
        str | None,
        typer.Option("--key", help="The idempotency key; by default computed from the plan, so a repeat is safe."),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(metavar="PARTNER", help="The partner of kind `upstream` that gets the messages about the export."),
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Execute an approved plan."""
    body = read_plan(plan)
    with connect(api_url, api_key) as api:
        key = key or compute_idempotency_key(body)
        execution = api.execute(body, idempotency_key=key, upstream=upstream)
        _print_execution(api, execution, wait, timeout, as_json=as_json)


@app.command(cls=_CommandWithWait)
@report_errors
def amend(
    export: ExportId,
    plan: PlanFile,
    wait: Wait = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait waits.")] = 300,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="The idempotency key; by default computed from plan and export, so a repeat is safe."
        ),
    ] = None,
    if_match: Annotated[
        str | None,
        typer.Option(
            "--if-match",
            metavar="TAG",
            help="Only if the export still has the tag that `exports inspect --etag` printed.",
        ),
    ] = None,
    correction: Annotated[bool, typer.Option("--correction", help="The plan corrects an entry that is filed.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Replace an executed or failed export with a changed plan and notify its recipients."""
    body = read_plan(plan)
    with connect(api_url, api_key) as api:
        # By the export's own id: a batch's id leads to the new revision once the amendment is made.
        old = api.inspect(export).export_id
        execution = api.amend(
            old,
            body,
            idempotency_key=key or f"amend-{old}-{compute_idempotency_key(body)}{'-correction' * correction}",
            if_match=if_match,
            after_filing="correction" if correction else None,
        )
        _print_execution(api, execution, wait, timeout, as_json=as_json)


def _print_execution(
    api: Exports, execution: Execution, wait: WaitGoal | None, timeout: float, *, as_json: bool
) -> None:
    """Print the export, if `wait` after it came so far; exit with the code for its outcome."""
    export = execution.export
    if wait is not None:
        if not as_json:
            stderr_console().print(f"[bold]{escape(export.export_id)}[/]  {escape(export.batch_id)}")
        export = watch(api, export, timeout, wait, quiet=as_json)
    hints = ["The service already has a request with this key: this is its first answer again."] * execution.replayed
    hints += [f"exports events {escape(export.export_id)} --follow   shows its progress"] * (wait is None)
    print_result(export, export_view.format_headline(export), hint="\n".join(hints) or None, as_json=as_json)
    if wait is not None and export.state is not ExportState.EXECUTED:
        raise typer.Exit(int(ExitCode.REFUSED))
    if wait is not None and export.outcome in NEEDS_PERSON:
        raise typer.Exit(int(ExitCode.NEEDS_PERSON))


@app.command()
@report_errors
def cancel(export: ExportId, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Stop an export that is not handed off yet."""
    with connect(api_url, api_key) as api:
        cancelled = api.cancel(export)
    print_result(cancelled, export_view.format_headline(cancelled), as_json=as_json)


@app.command()
@report_errors
def retry(export: ExportId, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Continue a failed export from where it failed."""
    with connect(api_url, api_key) as api:
        retried = api.retry(export)
    print_result(retried, export_view.format_headline(retried), as_json=as_json)


def watch(
    api: Exports, export: ExportView, timeout_seconds: float, goal: WaitGoal = WaitGoal.EXECUTED, *, quiet: bool
) -> ExportView:
    """Show the export's progress until it came so far, or needs a person; return it as it is then.

    Raises Failure with TIMED_OUT if that takes longer than `timeout_seconds`; the export continues.
    """
    reporter = ProgressReporter(export)
    console = stderr_console()
    ended = False
    try:
        with _spinner(console.is_terminal and not quiet, export):
            for event in _follow(api, export.export_id, timeout_seconds):
                for line in reporter.report([] if event is None else [event]):
                    if not quiet:
                        console.print(line.styled, soft_wrap=True)
                if event is not None and not ended and event.type not in FINAL_EVENTS:
                    continue
                export = api.inspect(export.export_id)
                ended = export.state not in ACTIVE_STATES  # a retry may have followed an earlier end
                if ended and not _is_awaited(export, goal):
                    break
    except StillRunning as error:
        export = api.inspect(export.export_id)
        ended = export.state not in ACTIVE_STATES
        if not ended or _is_awaited(export, goal):
            message = f"{export.export_id} is executed, but {_MISSING[goal]} in {timeout_seconds:g} s"
            remedy = f"It continues by itself. `exports inspect {export.export_id}` shows its progress."
            raise Failure(message if ended else str(error), code=ExitCode.TIMED_OUT, remedy=remedy) from error
    return export


def _follow(api: Exports, export_id: str, timeout_seconds: float) -> Iterator[EventView | None]:
    """Yield each event, and None when the service expects no more; a customs broker may still send one.

    Raises StillRunning after `timeout_seconds`.
    """
    deadline, after = time.monotonic() + timeout_seconds, 0
    while True:
        for event in api.follow(export_id, after=after, timeout_seconds=max(0.0, deadline - time.monotonic())):
            after = event.seq
            yield event
        yield None
        if time.monotonic() >= deadline:
            raise StillRunning(f"{export_id} did not come so far in {timeout_seconds:g} s")
        time.sleep(max(0.0, min(_ASK_AGAIN_SECONDS, deadline - time.monotonic())))


_MISSING: Final = {
    WaitGoal.EXECUTED: "its handoff was not delivered",
    WaitGoal.ANSWER: "the customs broker did not review it",
    WaitGoal.RELEASED: "customs did not release it",
}
#: The outcomes of an executed export at which a goal is not reached, and nobody has to do anything.
_AWAITED: Final = {
    WaitGoal.ANSWER: {Outcome.WITH_BROKER},
    WaitGoal.RELEASED: {Outcome.WITH_BROKER, Outcome.ACCEPTED, Outcome.FILED},
}


def _is_awaited(export: ExportView, goal: WaitGoal) -> bool:
    """Return whether an ended export may reach the goal by itself."""
    if export.state is not ExportState.EXECUTED:
        return False
    if goal is not WaitGoal.EXECUTED:
        return export.outcome in _AWAITED[goal]
    # The handoff is neither delivered, given up nor overdue.
    return any(
        handoff.submission_status in (SubmissionState.PENDING, SubmissionState.SENT) and handoff.overdue_at is None
        for handoff in export.broker_submissions
    )


@contextmanager
def _spinner(shown: bool, export: ExportView) -> Iterator[None]:
    if not shown:
        yield
        return
    with stderr_console().status(f"executing {escape(export.batch_id)}"):
        yield


@app.command("list", epilog="Example: exports list --needs-person --broker br_123")
@report_errors
def list_exports(
    outcome: Annotated[list[Outcome] | None, export_view.OUTCOME] = None,
    needs_person: Annotated[bool, typer.Option("--needs-person", help="Only exports that wait for a person.")] = False,
    broker: Annotated[str | None, typer.Option("--broker", metavar="ID", help="Only this customs broker's.")] = None,
    reached: Annotated[
        Milestone | None, typer.Option(help="Only exports whose handoff reached this; the last that did come first.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="INSTANT", help="With --reached: since then, such as 2026-11-24T15:00:00Z."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of exports.")] = 50,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List exports, newest first, with outcome and progress."""
    wanted_outcomes = {*(outcome or ()), *(NEEDS_PERSON if needs_person else ())}
    if since is not None and reached is None:
        raise Failure("--since needs --reached", code=ExitCode.USAGE, remedy=f"Add one of: {', '.join(Milestone)}.")
    after = None if since is None else _parse_instant("--since", since) - timedelta(microseconds=1)
    with connect(api_url, api_key) as api:
        page = api.export_page(
            outcomes=sorted(wanted_outcomes), broker=broker, reached=reached, reached_after=after, limit=limit
        )
    more = "There are more; filter by --outcome or --broker, or raise --limit." if page.next_cursor else None
    print_result(page, export_view.build_exports_table(page.items), hint=more, as_json=as_json)


def _parse_instant(option: str, given: str) -> datetime:
    try:
        return _INSTANT.validate_python(given)
    except ValidationError as error:
        raise Failure(
            f"{option} {given} {error_phrase(error.errors()[0]['msg'])}",
            code=ExitCode.USAGE,
            remedy="Give an instant with its offset, such as 2026-11-24T15:00:00Z.",
        ) from None


@app.command()
@report_errors
def inspect(
    export: ExportId,
    etag: Annotated[bool, typer.Option("--etag", help="Print only the tag for `exports amend --if-match`.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show an export's state, steps, documents, messages and customs broker's answer."""
    with connect(api_url, api_key) as api:
        if etag:
            tag = api.inspect_version(export).etag
            print_result({"etag": tag}, Text(tag), as_json=as_json)
            return
        found = api.inspect(export)
    print_result(found, *export_view.render_export(found), as_json=as_json)


@app.command("open")
@report_errors
def open_console(
    export: Annotated[str | None, typer.Argument(metavar="[ID]", help="The export's id, or its batch's.")] = None,
    browser: Annotated[bool, typer.Option(help="Open it; without a browser it is only printed.")] = True,
    api_url: ApiUrl = None,
    as_json: Json = False,
) -> None:
    """Open the console, or an export's page in it, in your browser; print its address."""
    address = f"{find_address(api_url)}/console"
    if export is not None:
        address += f"/exports/{encode_segment(export)}"
    print_result({"address": address}, escape(address), as_json=as_json)
    if browser and not as_json:
        # False without a browser; the address is printed already.
        webbrowser.open(address)


def _download(api: Exports, export: ExportView, folder: Path, *, with_bundle: bool) -> list[Path]:
    total = len(export.artifacts) + with_bundle
    paths: list[Path] = []
    with show_progress(f"downloading {total} documents") as show:
        for file in api.files(export, with_bundle=with_bundle):
            paths.append(write_file(folder / file.path, file.content))
            show("downloading documents", len(paths), total)
    return paths


@report_errors
def list_artifacts(
    export: ExportId,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Download all documents into this folder.")
    ] = None,
    bundle: Annotated[bool, typer.Option("--bundle", help="Also download the handoff as one zip file.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List or download an export's documents; every hash is checked."""
    if bundle and folder is None:
        raise Failure("--bundle needs a folder; give --out DIR", code=ExitCode.USAGE)
    with connect(api_url, api_key) as api:
        found = api.inspect(export)
        if folder is not None:
            try:
                paths = _download(api, found, folder, with_bundle=bundle)
            except Corrupted as error:
                raise Failure(
                    str(error), remedy="The document was not written. Tell the operator of the service."
                ) from error
            except OSError as error:
                raise Failure(f"{folder} cannot be written: {error.strerror}") from error
            print_result(paths, *(Text(str(path)) for path in paths), as_json=as_json)
            return
    print_result(found.artifacts, export_view.build_artifacts_table(found), as_json=as_json)
