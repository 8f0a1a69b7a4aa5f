"""How the commands reach the API: by option, else by settings."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from config.settings import get_settings
from pipeline.client import Exports, InvalidArgument, Retries
from pipeline.interfaces.cli.output import ExitCode, Failure

ApiUrl = Annotated[str | None, typer.Option("--api-url", metavar="URL", help="The API's address. [EXPORTS_API_URL]")]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="The key; better set EXPORTS_API_KEY, which no process list shows."),
]

#: argument of the client -> option and setting that it comes from
_OPTION_NAMES: Final = {"url": ("--api-url", "EXPORTS_API_URL"), "key": ("--api-key", "EXPORTS_API_KEY")}

#: Somebody waits at a terminal: a service that is not there is soon said to be not there.
_RETRIES: Final = Retries(tries=3, first_pause_seconds=0.2, max_pause_seconds=1, total_seconds=15)


def connect(api_url: str | None, api_key: str | None) -> Exports:
    """Return a client of the API that the options name, or the settings where they are silent; raises Failure where it cannot be."""
    settings = get_settings()
    key = api_key or (settings.api_key.get_secret_value() if settings.api_key else None)
    try:
        return Exports(settings.api_url if api_url is None else api_url, key, retries=_RETRIES)
    except InvalidArgument as error:
        option, setting = _OPTION_NAMES[error.argument]
        given = bool(api_key) if error.argument == "key" else api_url is not None
        option_names = option if given else setting
        raise Failure(f"{option_names} {error.reason}", code=ExitCode.USAGE) from error
