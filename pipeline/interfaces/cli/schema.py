"""`exports schema`: JSON Schemas of the API and the commands, the AsyncAPI and OpenAPI documents, an `.http` file."""

import json
from importlib.metadata import version
from typing import Annotated, Final

import typer

from config.settings import get_settings
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound
from pipeline.exports import examples
from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, print_json, print_result, report_errors
from pipeline.interfaces.cli.output_schemas import build_output_document, build_output_schema
from pipeline.interfaces.contracts import asyncapi
from pipeline.interfaces.contracts.http_samples import build_http_file
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema

app = typer.Typer()

ASYNCAPI: Final = "asyncapi"
OPENAPI: Final = "openapi"
HTTP: Final = "http"
CLI: Final = "cli"

#: What the command prints beside the schemas.
DOCUMENTS: Final = (ASYNCAPI, OPENAPI, HTTP, CLI)


@app.command()
@report_errors
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The schema's name; without it, the names are listed.")
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="With `cli`: only this command, such as `accounts list`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a JSON Schema of the API; also the documents `asyncapi` and `openapi`, `http` (calls as an .http file) and `cli` (what commands print with --json)."""
    if command and name != CLI:
        raise Failure(
            f"{name} must stand alone; only `cli` takes a command", code=ExitCode.USAGE, remedy="Give one name."
        )
    if name == CLI:
        print_json(build_output_schema(" ".join(command)) if command else build_output_document())
    elif name == ASYNCAPI:
        print_json(asyncapi.build_document(version("exports")))
    elif name == OPENAPI:
        print_json(build_document(ROUTERS, get_settings().public_url))
    elif name == HTTP:
        plan = examples.load_plan("cookware", utc_now().date())
        file = build_http_file(build_document(ROUTERS, get_settings().public_url), plan)
        print_json(json.dumps(file, ensure_ascii=False) if as_json else file)
    elif name is not None:
        if name not in PUBLISHED:
            raise NotFound(f"there is no schema {name}; use one of {', '.join([*PUBLISHED, *DOCUMENTS])}")
        print_json(build_json_schema(name))
    else:
        print_result([*PUBLISHED, *DOCUMENTS], *PUBLISHED, *DOCUMENTS, as_json=as_json)
