"""What all commands share: output, errors, and exit codes."""

import functools
import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, ParamSpec, Protocol, Self, TextIO, TypeVar

import typer
from pydantic import ValidationError
from pydantic_core import to_jsonable_python
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import ExportsError, NotFound, Refused, Retryable, SchemaMismatch
from pipeline.core.problems import locate_refusal

P = ParamSpec("P")
R = TypeVar("R")


class ExitCode(IntEnum):
    """The exit codes of a command with their meanings; the site's page of the command line lists them."""

    meaning: str

    OK = 0, "done"
    REFUSED = 1, "refused, a check failed, or the export failed"
    USAGE = 2, "the command line, the plan file or a setting is wrong"
    NOT_FOUND = 3, "the export, account, document, key, database or file does not exist"
    UNREACHABLE = 4, "the API, the database or the message broker does not respond, or is not ready"
    TIMED_OUT = 5, "not finished in time; it continues by itself"
    NEEDS_PERSON = 6, "executed, and a person must look: rejected, queried, held, overdue or not delivered"
    INTERRUPTED = 130, "ended by Ctrl-C"

    def __new__(cls, value: int, meaning: str) -> Self:
        """Create a code from its number and meaning."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code


#: argument of the client -> option that supplies it; an id is an argument of the command, too
_OPTION_OF_ARGUMENT: Final = {"idempotency_key": "--key", "if_match": "--if-match"}

Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]


#: Columns if the output is not a terminal, so that tables need not be folded.
_PIPED_WIDTH: Final = 200

#: Wider cells are prose, which a table may break between words.
_UNBROKEN_WIDTH: Final = 40

#: Spaces between two columns.
_GAP: Final = 2

#: From this rate on, decimals say nothing.
_WHOLE_RATE: Final = 10

#: Seconds between two lines of progress if standard error is not a terminal.
_LINE_INTERVAL_SECONDS: Final = 10


def stdout_console() -> Console:
    """Return the console of standard output, for results."""
    return _console(sys.stdout)


def stderr_console() -> Console:
    """Return the console of standard error, for progress and errors, so that a pipe gets only the result."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    return Console(file=file, highlight=False, width=None if file.isatty() else _PIPED_WIDTH)


def print_json(value: object) -> None:
    """Print `value` as JSON: indented, in its own order, models by their aliases; text is printed unchanged."""
    text = value if isinstance(value, str) else json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_result(value: object, *parts: RenderableType, as_json: bool, hint: str | None = None) -> None:
    """Print `value` as JSON, or its `parts` for a person, with a `hint` on standard error."""
    if as_json:
        print_json(value)
        return
    for part in parts:
        stdout_console().print(part, soft_wrap=not isinstance(part, FittedTable))
    if hint is not None:
        stderr_console().print(f"[dim]{hint}[/]", soft_wrap=True)


def with_remedy(text: str, remedy: str | None) -> Text:
    """Return a cell with a text and what to do about it."""
    return Text.assemble(text, (f"\n→ {remedy}" if remedy else "", "yellow"))


class FittedTable:
    """A table without lines around it; without rows it says `none`.

    If it is too wide, the last columns stand below each row, with their names.
    """

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        self.columns = columns
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if not self.rows:
            yield Text("none", style="dim")
            return
        widths = [self._measure_column(number) for number in range(len(self.columns))]
        shown = len(widths)
        while shown > 1 and sum(widths[:shown]) + _GAP * (shown - 1) > options.max_width:
            shown -= 1
        if shown == len(widths):
            yield self._build_table(widths, self.rows)
            return
        yield self._build_table(widths[:shown], [])
        for row in self.rows:
            yield self._build_table(widths[:shown], [row], with_header=False)
            parts = [
                Text.assemble((f"{column} ", "dim"), cell)
                for column, cell in zip(self.columns[shown:], row[shown:], strict=True)
                if cell.plain
            ]
            for line in _fill_lines(parts, options.max_width - _GAP):
                yield Padding(line, (0, 0, 0, _GAP))

    def _measure_column(self, number: int) -> int:
        cells = [Text(self.columns[number]), *(row[number] for row in self.rows)]
        widest = max(cell_len(line) for cell in cells for line in cell.plain.split("\n"))
        # Only prose is broken, and between words: a part of an id is useless.
        words = [word for cell in cells for word in cell.plain.split()]
        return min(widest, max(_UNBROKEN_WIDTH, *map(cell_len, words))) if words else widest

    def _build_table(self, widths: Sequence[int], rows: Sequence[Sequence[Text]], *, with_header: bool = True) -> Table:
        table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", show_header=with_header)
        for column, width in zip(self.columns, widths, strict=False):
            table.add_column(column, overflow="fold", min_width=width, no_wrap=width < _UNBROKEN_WIDTH)
        for row in rows:
            table.add_row(*row[: len(widths)])
        return table


def _fill_lines(parts: Iterable[Text], width: int) -> Iterator[Text]:
    """Yield lines of at most that width with as many parts as they hold; only a longer part is broken."""
    gap = Text(" " * _GAP)
    line: list[Text] = []
    for part in parts:
        if line and sum(each.cell_len + _GAP for each in line) + part.cell_len > width:
            yield gap.join(line)
            line = []
        line.append(part)
    if line:
        yield gap.join(line)


def build_record(cells: Iterable[tuple[str, str | Text]]) -> Table:
    """Return named cells below each other, without lines around them."""
    record = Table.grid(padding=(0, 2, 0, 0))
    record.add_column(no_wrap=True, style="bold")
    record.add_column(overflow="fold")
    for name, cell in cells:
        record.add_row(name, cell)
    return record


def build_table(columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> FittedTable:
    """Return a table for a person; a cell of type str is shown as it is, without markup."""
    return FittedTable([*columns], [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])


class ShowProgress(Protocol):
    """Shows how far a command is."""

    def __call__(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Show the text; with a total also a bar with count, total, rate and time left."""


@contextmanager
def show_progress(first: str, console: Console | None = None) -> Iterator[ShowProgress]:
    """Give a function that shows progress on standard error: in one place on a terminal, else as a line at intervals.

    `first` is shown until the first call. A terminal that must not show colours (NO_COLOR) gets lines, too.
    """
    console = console or stderr_console()
    if not console.is_terminal or console.no_color:
        yield _LinePrinter(console)
        return
    with ExitStack() as shown:
        status = shown.enter_context(console.status(escape(first)))
        update_bar: ShowProgress | None = None

        def show(text: str, done: int = 0, total: int | None = None) -> None:
            nonlocal update_bar
            if total is None:
                status.update(escape(text))
                return
            if update_bar is None:
                status.stop()
                update_bar = shown.enter_context(_show_bar(console))
            update_bar(text, done, total)

        yield show


class _LinePrinter:
    """Shows progress as lines, one at an interval."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def __call__(self, text: str, done: int = 0, total: int | None = None) -> None:
        if time.monotonic() - self._last >= _LINE_INTERVAL_SECONDS:
            self._last = time.monotonic()
            counted = "" if total is None else f": {done:,} of {total:,}"
            self._console.print(f"{text}{counted}", soft_wrap=True, markup=False)


@contextmanager
def _show_bar(console: Console) -> Iterator[ShowProgress]:
    from rich import progress  # noqa: PLC0415 - takes long to import, and most commands show no bar

    class Rate(progress.ProgressColumn):
        """How many a second."""

        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.{0 if speed >= _WHOLE_RATE else 1}f}/s", "dim")

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        Rate(),
        progress.TimeRemainingColumn(compact=True),
    )
    with progress.Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("")
        yield lambda text, done=0, total=None: bars.update(task, description=escape(text), completed=done, total=total)


class Failure(Exception):
    """Ends a command: `message` says what is wrong, `remedy` what to do, `code` is the exit code."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.REFUSED, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every expected error of a command into a message and an exit code; `main` reports the others."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json"))
        try:
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
        except Failure as error:
            _exit_with_problem(error.code, _build_problem(error.code.name, error.message, error.remedy), as_json)
        except Refused as error:
            code = ExitCode.NOT_FOUND if isinstance(error, NotFound) else ExitCode.REFUSED
            _exit_with_problem(code, _build_problem(error.code, error.message) | locate_refusal(error), as_json)
        except Retryable as error:
            _exit_with_problem(
                ExitCode.UNREACHABLE,
                _build_problem("UNREACHABLE", str(error), "`exports doctor` says what is wrong."),
                as_json,
            )
        except ExportsError as error:
            remedy = error.remedy if isinstance(error, SchemaMismatch) else None
            _exit_with_problem(ExitCode.REFUSED, _build_problem("REFUSED", str(error), remedy), as_json)
        except ValidationError as error:
            issues = [
                {"path": _format_location(item["loc"]), "message": item["msg"].removeprefix("Value error, ")}
                for item in error.errors()
            ]
            problem = _build_problem(
                "USAGE", f"invalid {error.title}", "Correct or unset it; docs/configuration.md lists every setting."
            )
            _exit_with_problem(ExitCode.USAGE, problem | {"details": {"issues": issues}}, as_json)
        except Exception as error:
            reported = _describe_client_error(error)
            if reported is None:
                raise
            _exit_with_problem(*reported, as_json)

    return run


def _describe_client_error(error: Exception) -> tuple[ExitCode, dict[str, Any]] | None:
    """Return the exit code and the problem for an error of the client; None for any other error."""
    # Here, because the commands of the service use no client, and its library takes long to import.
    from pipeline.client import ApiProblem, ApiUnreachable, InvalidArgument  # noqa: PLC0415

    match error:
        case ApiProblem():
            code = _exit_code_for(error.problem.error_code)
            return code, error.problem.model_dump(by_alias=True, exclude_none=True)
        case ApiUnreachable():
            remedy = "Start the service with `exports serve`, or give its address by --api-url or EXPORTS_API_URL."
            return ExitCode.UNREACHABLE, _build_problem("UNREACHABLE", str(error), remedy)
        case InvalidArgument():
            argument_name = _OPTION_OF_ARGUMENT.get(error.argument, f"the {error.argument}")
            return ExitCode.USAGE, _build_problem(ExitCode.USAGE.name, f"{argument_name} {error.reason}")
        case _:
            return None


def _format_location(location: tuple[int | str, ...]) -> str:
    return "/".join(str(part) for part in location)


def _build_problem(error_code: str, message: str, remedy: str | None = None) -> dict[str, Any]:
    # The members of a problem document that a command knows, so that callers parse one format.
    return {"errorCode": error_code, "message": message} | ({"remedy": remedy} if remedy else {})


def _exit_code_for(error_code: str) -> ExitCode:
    return {
        "NOT_FOUND": ExitCode.NOT_FOUND,
        "NOT_READY": ExitCode.UNREACHABLE,
        "BUSY": ExitCode.UNREACHABLE,
        "RATE_LIMITED": ExitCode.UNREACHABLE,
    }.get(error_code, ExitCode.REFUSED)


def _exit_with_problem(code: ExitCode, problem: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        print_json(problem)
    else:
        for line in format_problem(problem):
            stderr_console().print(line, soft_wrap=True)
    raise typer.Exit(int(code))


def format_problem(problem: dict[str, Any]) -> list[str]:
    """Return a problem document as lines for a person: message, field, details and remedy."""
    lines = [f"[bold red]error[/] {escape(str(problem['message']))} [dim]({escape(str(problem['errorCode']))})[/]"]
    if where := problem.get("pointer") or problem.get("field"):
        lines.append(f"  at {escape(str(where))}")
    details = problem.get("details") or {}
    lines += [
        f"  {escape(str(issue.get('pointer', issue['path']) or '/'))}: {escape(str(issue['message']))}"
        for issue in details.get("issues", [])
    ]
    for finding in details.get("findings", []):
        lines.extend(format_finding(finding))
    if problem.get("remedy"):
        lines.append(f"  {escape(str(problem['remedy']))}")
    if problem.get("requestId"):
        lines.append(f"  [dim]request {escape(str(problem['requestId']))}[/]")
    return lines


def format_finding(finding: dict[str, Any]) -> list[str]:
    """Return a finding as lines: severity, rule and pointer; message; remedy."""
    colour = {"block": "red", "warn": "yellow"}.get(str(finding["severity"]), "cyan")
    return [
        f"  [{colour}]{finding['severity']:<5}[/] {escape(str(finding['rule']))} {escape(str(finding['pointer']))}",
        f"        {escape(str(finding['message']))}",
        f"        [dim]{escape(str(finding['remedy']))}[/]",
    ]


def save_picture(console: Console, path: Path) -> None:
    """Write the console's recording to `path` as SVG."""
    rich_format: str = inspect.signature(Console.export_svg).parameters["code_format"].default
    # Rich's format loads fonts from the web; every system has a monospaced one.
    local_format = re.sub(r"@font-face \{\{.*?\}\}\s*", "", rich_format, flags=re.DOTALL)
    local_format = local_format.replace("Fira Code, monospace", "monospace")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(console.export_svg(title="make demo", code_format=local_format, unique_id="demo"), encoding="utf-8")
