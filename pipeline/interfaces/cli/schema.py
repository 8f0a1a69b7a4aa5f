"""`exports schema`: the published JSON Schemas, and the AsyncAPI and OpenAPI documents."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Final

import typer

from config.settings import get_settings
from pipeline.core.errors import NotFound
from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.cli.output import Json, print_json, print_result, report_errors
from pipeline.interfaces.contracts import asyncapi
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema

app = typer.Typer()

ASYNCAPI: Final = "asyncapi"
OPENAPI: Final = "openapi"


@app.command()
@report_errors
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The schema's name; without it, the names are listed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a JSON Schema of the API, or with `asyncapi` or `openapi` that document."""
    if name == ASYNCAPI:
        print_json(asyncapi.build_document(version("exports")))
    elif name == OPENAPI:
        print_json(build_document(ROUTERS, get_settings().public_url))
    elif name is not None:
        if name not in PUBLISHED:
            raise NotFound(f"there is no schema {name}; use one of {', '.join([*PUBLISHED, ASYNCAPI, OPENAPI])}")
        print_json(build_json_schema(name))
    else:
        print_result([*PUBLISHED, ASYNCAPI, OPENAPI], *PUBLISHED, ASYNCAPI, OPENAPI, as_json=as_json)
