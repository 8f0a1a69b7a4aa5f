"""How the commands reach the API: by options, else by settings."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from config.settings import get_settings
from pipeline.client import Exports, InvalidArgument, Retries
from pipeline.interfaces.cli.output import ExitCode, Failure

ApiUrl = Annotated[str | None, typer.Option("--api-url", metavar="URL", help="The API's address. [EXPORTS_API_URL]")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="KEY", help="The API key; EXPORTS_API_KEY is safer, because process lists do not show it."
    ),
]

#: argument of the client -> option and setting that supply it
_OPTION_NAMES: Final = {"url": ("--api-url", "EXPORTS_API_URL"), "key": ("--api-key", "EXPORTS_API_KEY")}

#: Short: a person waits at a terminal and should soon see that the service does not respond.
_RETRIES: Final = Retries(tries=3, first_pause_seconds=0.2, max_pause_seconds=1, total_seconds=15)


def connect(api_url: str | None, api_key: str | None) -> Exports:
    """Return a client of the API from the options, else the settings; raises Failure if the URL or key is not valid."""
    settings = get_settings()
    key = api_key or (settings.api_key.get_secret_value() if settings.api_key else None)
    try:
        return Exports(settings.api_url if api_url is None else api_url, key, retries=_RETRIES)
    except InvalidArgument as error:
        option, setting = _OPTION_NAMES[error.argument]
        given = bool(api_key) if error.argument == "key" else api_url is not None
        option_names = option if given else setting
        raise Failure(f"{option_names} {error.reason}", code=ExitCode.USAGE) from error
