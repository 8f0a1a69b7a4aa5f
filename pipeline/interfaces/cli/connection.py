"""How the commands reach the API: by options, else by settings."""

from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from typer._click.globals import get_current_context

from config.network import is_loopback
from config.settings import get_settings
from pipeline.client import Exports, InvalidArgument, Retries
from pipeline.interfaces.cli.output import ExitCode, Failure
from pipeline.interfaces.cli.profiles import find_profile, find_profile_name

ApiUrl = Annotated[str | None, typer.Option("--api-url", metavar="URL", help="The API's address. [EXPORTS_API_URL]")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="KEY", help="The API key; EXPORTS_API_KEY is safer, because process lists do not show it."
    ),
]

#: What supplies a value of the profile; `exports login` corrects it.
_OF_PROFILE: Final = "the profile's address or key"

#: Short: a person waits at a terminal and should soon see that the service does not respond.
_RETRIES: Final = Retries(tries=3, first_pause_seconds=0.2, max_pause_seconds=1, total_seconds=15)


@dataclass(frozen=True)
class FoundConnection:
    """The address and key of the API, and the names of what gave them; `profile` names the profile, if it was one."""

    url: str
    key: str | None
    url_name: str
    key_name: str
    profile: str | None = None


def find_connection(api_url: str | None, api_key: str | None) -> FoundConnection:
    """Return the connection from the options, else `--profile`, else the settings, else the profile."""
    # A profile's key must not reach another address.
    profile = find_profile() if api_url is None else None
    if profile is not None:
        key_name = "--api-key" if api_key else _OF_PROFILE
        key = api_key or profile.api_key.get_secret_value()
        return FoundConnection(profile.api_url, key, _OF_PROFILE, key_name, find_profile_name())
    settings = get_settings()
    return FoundConnection(
        settings.api_url if api_url is None else api_url,
        api_key or (settings.api_key.get_secret_value() if settings.api_key else None),
        url_name="EXPORTS_API_URL" if api_url is None else "--api-url",
        key_name="--api-key" if api_key else "EXPORTS_API_KEY",
    )


def connect(api_url: str | None, api_key: str | None) -> Exports:
    """Return a client of the API by `find_connection`; raises Failure if the URL or key is not valid."""
    found = find_connection(api_url, api_key)
    return open_client(found.url, found.key, url_name=found.url_name, key_name=found.key_name)


def find_address(api_url: str | None) -> str:
    """Return the API's address as `connect` finds it, without a slash at the end; raises Failure if it is not valid."""
    profile = find_profile() if api_url is None else None
    address = profile.api_url if profile else api_url or get_settings().api_url
    open_client(address, None, url_name="the API's address", key_name="").close()
    return address.rstrip("/")


def _allows_insecure() -> bool:
    context: Any = get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("insecure"))


def open_client(url: str, key: str | None, *, url_name: str, key_name: str) -> Exports:
    """Return a client of the API; raises Failure with the name of the URL or key that is not valid, or not safe."""
    try:
        api = Exports(url, key, retries=_RETRIES)
    except InvalidArgument as error:
        name = key_name if error.argument == "key" else url_name
        raise Failure(f"{name} {error.reason}", code=ExitCode.USAGE) from error
    address = urlsplit(url)
    if key is not None and address.scheme == "http" and not is_loopback(address.hostname) and not _allows_insecure():
        api.close()
        raise Failure(
            f"{url_name} is {url}: others on the way can read a key that is sent over http://",
            code=ExitCode.USAGE,
            remedy="Give an address with https://, or write `exports --insecure COMMAND` if the way is safe.",
        )
    return api
