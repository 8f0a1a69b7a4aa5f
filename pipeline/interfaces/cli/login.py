"""`exports login`, `whoami` and `profiles`: make, show, list, choose and remove named connections to the API."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr
from rich.markup import escape
from rich.text import Text

from config.settings import get_settings
from pipeline.accounts.schemas import OwnKey
from pipeline.client import ApiProblem
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, FoundConnection, find_connection, open_client
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_record,
    build_table,
    print_result,
    report_errors,
    with_remedy,
)
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
    with open_client(url, key, url_name="--api-url", key_name="the key") as api:
        api.whoami()  # a key that the service refuses is not kept
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


@app.command()
@report_errors
def whoami(api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show the service, profile, account and key that commands use; a key that is refused ends with its remedy."""
    found = find_connection(api_url, api_key)
    if found.key is None:
        raise Failure(f"no key is set for {found.url}", remedy=_KEEP_A_KEY)
    with open_client(found.url, found.key, url_name=found.url_name, key_name=found.key_name) as api:
        try:
            key = api.whoami()
        except ApiProblem as error:
            if error.problem.status != _UNAUTHORIZED:
                raise
            raise Failure(
                f"{found.url} refuses the key of {found.key_name}: {error.problem.message}", remedy=_KEEP_A_KEY
            ) from error
    account = _account_of_commands(found)
    value = {"apiUrl": found.url, "profile": found.profile, "defaultAccount": account, "key": key}
    text = f"[green]{GOOD}[/] {escape(found.url)} accepts the key of {escape(found.key_name)}"
    print_result(value, text, build_record(_describe_key(found, key, account)), as_json=as_json)


_UNAUTHORIZED: Final = 401
_KEEP_A_KEY: Final = (
    "Keep a key by `exports login`, or set EXPORTS_API_KEY; `exports keys create --account ACCOUNT` creates one."
)


def _account_of_commands(found: FoundConnection) -> str | None:
    """Return the account of commands without `--account`; None if there is none."""
    kept = None if found.profile is None else get_profile(read_profiles(), found.profile).account
    return kept or get_settings().account


def _describe_key(found: FoundConnection, key: OwnKey, account: str | None) -> Iterator[tuple[str, str | Text]]:
    yield "profile", found.profile or "none"
    yield "account", f"{key.account_id}, {key.account_name}"
    yield "key", f"{key.mode} key {key.key_id}, {key.name}"
    yield "roles", ", ".join(key.roles)
    yield "expires", "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M} UTC"
    if account is not None and account != key.account_id:
        remedy = f"This key cannot act for it; `--account {key.account_id}` names the key's own account."
        yield "--account", with_remedy(f"{account}, by default", remedy)


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
    return {"profile": name, "apiUrl": profile.api_url, "account": profile.account, "current": name == found.current}
