"""`exports login` and `exports profiles`: make, list, choose and remove named connections to the API."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr
from rich.markup import escape

from config.settings import get_settings
from pipeline.client import ApiProblem
from pipeline.interfaces.cli.connection import open_client
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, build_table, print_result, report_errors
from pipeline.interfaces.cli.profiles import (
    ConnectionProfile,
    ProfileFile,
    get_profile,
    profiles_file,
    read_profiles,
    write_profiles,
)
from pipeline.interfaces.event_text import GOOD

app = typer.Typer()
profiles_app = typer.Typer(no_args_is_help=True, help="The connections that `exports login` keeps.")

DEFAULT: Final = "default"
_FORBIDDEN: Final = 403


ProfileName = Annotated[str, typer.Argument(metavar="PROFILE", help="As `exports profiles list` shows it.")]


@app.command()
@report_errors
def login(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="The name to keep it under.")] = DEFAULT,
    api_url: Annotated[
        str | None, typer.Option("--api-url", metavar="URL", help="The API's address. [default: EXPORTS_API_URL]")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ACCOUNT", help="The account of commands without --account.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep the API's address, your key and a default account; the key is asked for, or read from standard input."""
    if not profile.strip():
        raise Failure(
            "the profile's name must not be empty", code=ExitCode.USAGE, remedy="Give a name, such as staging."
        )
    url = get_settings().api_url if api_url is None else api_url
    if sys.stdin.isatty():
        key = typer.prompt(f"API key for {url}", hide_input=True, err=True)
    else:
        key = sys.stdin.readline().strip()
    if not key:
        remedy = "Type the key, or give it as the first line of standard input."
        raise Failure("the key must not be empty", code=ExitCode.USAGE, remedy=remedy)
    _check_key(url, key)
    found = read_profiles()
    found.profiles[profile] = ConnectionProfile(api_url=url, api_key=SecretStr(key), account=account)
    found.current = profile
    write_profiles(found)
    print_result(
        _view_profile(found, profile),
        f"[green]{GOOD}[/] profile [bold]{escape(profile)}[/] uses {escape(url)}; it is in {escape(str(profiles_file()))}",
        hint=_ENVIRONMENT_WINS if {"api_url", "api_key"} & get_settings().model_fields_set else None,
        as_json=as_json,
    )


_ENVIRONMENT_WINS: Final = (
    "  EXPORTS_API_URL or EXPORTS_API_KEY is set and wins; unset them, or write `exports --profile PROFILE COMMAND`."
)


def _check_key(url: str, key: str) -> None:
    """Raise ApiProblem if the service does not know the key. A key that may not list exports is known, too."""
    with open_client(url, key, url_name="--api-url", key_name="the key") as api:
        try:
            api.export_page(limit=1)
        except ApiProblem as error:
            if error.problem.status != _FORBIDDEN:
                raise


@profiles_app.command("list")
@report_errors
def list_profiles(as_json: Json = False) -> None:
    """List the profiles, without their keys."""
    found = read_profiles()
    views = [_view_profile(found, name) for name in found.profiles]
    rows = (("*" if view["current"] else "", view["profile"], view["apiUrl"], view["account"] or "") for view in views)
    print_result(views, build_table(("", "profile", "address", "account"), rows), as_json=as_json)


@profiles_app.command("use")
@report_errors
def use_profile(profile: ProfileName, as_json: Json = False) -> None:
    """Use a profile from now on."""
    found = read_profiles()
    get_profile(found, profile)
    found.current = profile
    write_profiles(found)
    text = f"[green]{GOOD}[/] profile [bold]{escape(profile)}[/] is used"
    print_result(_view_profile(found, profile), text, as_json=as_json)


@profiles_app.command("remove")
@report_errors
def remove_profile(profile: ProfileName, as_json: Json = False) -> None:
    """Remove a profile with its key; the key itself stays valid."""
    found = read_profiles()
    get_profile(found, profile)
    view = _view_profile(found, profile)
    del found.profiles[profile]
    found.current = None if found.current == profile else found.current
    write_profiles(found)
    print_result(view, f"[green]{GOOD}[/] profile [bold]{escape(profile)}[/] is removed", as_json=as_json)


def _view_profile(found: ProfileFile, name: str) -> dict[str, Any]:
    profile = found.profiles[name]
    return {
        "profile": name,
        "apiUrl": profile.api_url,
        "account": profile.account,
        "current": name == found.current,
    }
