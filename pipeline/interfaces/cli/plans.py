"""`exports plans`, and reading a plan from a file: JSON, or JSON with comments."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, cast

import rfc8785
import typer
from rich.text import Text

from config.settings import get_settings
from pipeline.client.files import write_file
from pipeline.client.plan_requests import ProformaFormat
from pipeline.core.clock import utc_now
from pipeline.core.errors import PayloadTooLarge
from pipeline.core.json_input import check_shape
from pipeline.exports import examples
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, build_table, print_json, print_result, report_errors

#: A string or a comment, whichever begins first: `//` inside a string is not a comment.
_STRING_OR_COMMENT: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

_FORMATS: Final[Mapping[str, ProformaFormat]] = {".pdf": "pdf", ".html": "html"}
_PLAN_ID: Final = "pln_"

_LONE_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def read_plan(path: Path) -> dict[str, Any]:
    """Return the plan in the file `path`, or on standard input if that is `-`.

    Raises Failure if it cannot be read, is not a JSON object, or is nested too deep. The API checks the fields.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error
    except UnicodeDecodeError as error:
        raise Failure(f"{path} must be UTF-8 text", code=ExitCode.USAGE) from error
    try:
        plan = _load_plan(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Failure(f"{path} must be JSON: {error.msg} at {where}", code=ExitCode.USAGE) from error
    except PayloadTooLarge as error:
        raise Failure(f"{path} cannot be sent: {error.message}", code=ExitCode.USAGE) from error
    except UnicodeEncodeError as error:
        remedy = "Write escapes such as \\ud800 in pairs."
        raise Failure(f"{path} holds half of an escaped character", code=ExitCode.USAGE, remedy=remedy) from error
    if not isinstance(plan, dict):
        raise Failure(f"{path} must hold a JSON object", code=ExitCode.USAGE)
    return cast("dict[str, Any]", plan)


def _load_plan(text: str) -> object:
    try:
        plan = _parse_json(text)  # most plans have no comments, and looking for them takes longer than parsing
    except (json.JSONDecodeError, PayloadTooLarge):
        plan = _parse_json(strip_comments(text))  # brackets and quotes in comments do not count
    if _LONE_SURROGATE.search(text):
        json.dumps(plan, ensure_ascii=False).encode()
    return plan


def _parse_json(text: str) -> object:
    check_shape(text.encode(errors="surrogateescape"), get_settings().max_json_depth)
    return json.loads(text)


def strip_comments(text: str) -> str:
    """Return JSON text with its comments replaced by spaces, so that errors keep their line and column."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

    return _STRING_OR_COMMENT.sub(blank, text)


def compute_idempotency_key(plan: dict[str, Any]) -> str:
    """Return a plan's idempotency key; the same file always has the same key, another approval has another."""
    try:
        return "plan-" + hashlib.sha256(rfc8785.dumps(plan)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise Failure(f"the plan has no canonical form: {error}", code=ExitCode.USAGE) from error


app = typer.Typer(no_args_is_help=True, help="Export plans.")


@app.command()
@report_errors
def new(
    account: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="The plan's account; the plan gets a new batch id.")
    ] = None,
    broker: Annotated[str | None, typer.Option(metavar="ID", help="Its customs broker.")] = None,
    warehouse: Annotated[str | None, typer.Option(metavar="ID", help="Its warehouse.")] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="ID", help="The plan's batch id. [default with --account: from the time]")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Keep the comments, also in a file or pipe.")] = False,
    as_json: Json = False,
) -> None:
    """Print an example plan to fill in; on a terminal with comments, into a file or pipe as JSON."""
    if explain and as_json:
        raise Failure("--explain keeps comments, and --json has none", remedy="Give one of them.", code=ExitCode.USAGE)
    now = utc_now()
    text = examples.read_text(examples.COMMENTED_PLAN, now.date())
    if account is not None:
        batch = batch or f"batch_{now:%Y%m%d_%H%M%S_%f}"
        # A label number must never be used twice: an account with a GS1 prefix issues its own.
        text = re.sub(r'"sscc": "[0-9]+"', '"sscc": null', text)
    for field, value in (("accountId", account), ("batchId", batch)):
        text = _fill_in(text, rf'"{field}": ', value)
    for field, value in (("broker", broker), ("warehouse", warehouse)):
        text = _fill_in(text, rf'"{field}": \{{"id": ', value)
    if explain or (sys.stdout.isatty() and not as_json):
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        print_json(json.loads(strip_comments(text)))


@app.command()
@report_errors
def example(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of: " + ", ".join(examples.list_all_names()) + ".")],
    _to_json: Json = False,
) -> None:
    """Print an example plan of the demo's account; its goods cross the border tomorrow or later."""
    if name not in examples.list_all_names():
        known = ", ".join(examples.list_all_names())
        raise Failure(f"there is no example plan {name}", code=ExitCode.NOT_FOUND, remedy=f"Use one of: {known}.")
    print_json(examples.load_plan(name, utc_now().date()))


@app.command("list")
@report_errors
def list_plans(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of plans.")] = 50,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List registered plans, newest first, executed or not."""
    with connect(api_url, api_key) as api:
        found = [*islice(api.plans(page_size=min(limit, 200)), limit)]
    table = build_table(
        ("batch", "state", "registered", "plan", "export"),
        (
            (
                Text.assemble(each.batch_id, (" test" if each.test else "", "dim")),
                each.state,
                f"{each.registered_at:%Y-%m-%d %H:%M:%S}",
                each.plan_id,
                each.export_id or "",
            )
            for each in found
        ),
    )
    print_result(found, table, as_json=as_json)


@app.command()
@report_errors
def show(
    plan: Annotated[str, typer.Argument(metavar="ID", help="The plan's id, or its batch's.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    _to_json: Json = False,
) -> None:
    """Print a registered plan with its state, as JSON."""
    with connect(api_url, api_key) as api:
        print_json(api.plan(plan).model_dump_json(by_alias=True))


@app.command()
@report_errors
def proforma(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="The plan's file, `-` for standard input, or a registered plan's id.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, with the ending .pdf or .html.")
    ] = Path("proforma.pdf"),
    unit: Annotated[str | None, typer.Option(metavar="REF", help="The unit; a plan of one unit needs none.")] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Write the pro forma invoice of a plan, with what its commercial invoice still needs; nothing is executed."""
    file_format = _FORMATS.get(out.suffix.lower())
    if file_format is None:
        raise Failure(f"{out} must end in .pdf or .html", code=ExitCode.USAGE)
    registered = str(plan) if str(plan).startswith(_PLAN_ID) and not plan.exists() else None
    body = {} if registered else read_plan(plan)
    with connect(api_url, api_key) as api:
        if registered:
            page = api.registered_proforma(registered, unit=unit, file_format=file_format)
        else:
            page = api.proforma(body, unit=unit, file_format=file_format)
    try:
        written = write_file(out, page)
    except OSError as error:
        raise Failure(f"{out} cannot be written: {error.strerror}") from error
    print_result([written], Text(str(written)), as_json=as_json)


def _fill_in(text: str, field: str, value: str | None) -> str:
    """Return the text with `value`, unless None, in the one place that the pattern `field` matches."""
    if value is None:
        return text
    return re.sub(rf'({field})"[^"]*"', lambda found: found[1] + json.dumps(value), text, count=1)
