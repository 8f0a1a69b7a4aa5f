"""`exports schema`: the published JSON Schemas, the AsyncAPI and OpenAPI documents, and the calls as an `.http` file."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Final

import typer

from config.settings import get_settings
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound
from pipeline.exports import examples
from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.cli.output import Json, print_json, print_result, report_errors
from pipeline.interfaces.contracts import asyncapi
from pipeline.interfaces.contracts.http_samples import build_http_file
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema

app = typer.Typer()

ASYNCAPI: Final = "asyncapi"
OPENAPI: Final = "openapi"
HTTP: Final = "http"

#: What the command prints beside the schemas.
DOCUMENTS: Final = (ASYNCAPI, OPENAPI, HTTP)


@app.command()
@report_errors
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The schema's name; without it, the names are listed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a JSON Schema of the API, with `asyncapi` or `openapi` that document, or with `http` its calls as an .http file."""
    if name == ASYNCAPI:
        print_json(asyncapi.build_document(version("exports")))
    elif name == OPENAPI:
        print_json(build_document(ROUTERS, get_settings().public_url))
    elif name == HTTP:
        plan = examples.load_plan("cookware", utc_now().date())
        print_json(build_http_file(build_document(ROUTERS, get_settings().public_url), plan))
    elif name is not None:
        if name not in PUBLISHED:
            raise NotFound(f"there is no schema {name}; use one of {', '.join([*PUBLISHED, *DOCUMENTS])}")
        print_json(build_json_schema(name))
    else:
        print_result([*PUBLISHED, *DOCUMENTS], *PUBLISHED, *DOCUMENTS, as_json=as_json)
