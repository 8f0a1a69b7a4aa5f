"""`exports init`: creates an account, sandbox partners, a test key and a `.env` file."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr
from rich.markup import escape

from config.addresses import SECRET_KEY_CHARACTERS
from config.settings import Settings, get_settings
from pipeline.accounts import api_keys, partners, service
from pipeline.core import installation
from pipeline.core.runtime import Runtime, reject_weak_credentials
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli import demo
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    print_json,
    report_errors,
    stderr_console,
    stdout_console,
)
from pipeline.interfaces.cli.server import WORKERS
from pipeline.interfaces.cli.session import open_current_runtime

app = typer.Typer()

ENV_FILE: Final = Path(".env")
ROLES: Final = (api_keys.EXECUTE, api_keys.READ, api_keys.OPERATE)

_ENV_FILE_HEADER: Final = """\
# Created by `exports init`; every `exports` command that starts in this folder reads it.
# Keep it secret.
"""
_COMMENTS: Final = {
    "installation": "# The database belongs to this installation: a copy of it under another name sends nothing.\n",
    "secret_key": "# This key encrypts the partners' secrets. Keep a copy.\n",
}


@app.command()
@report_errors
def init(
    account: Annotated[str, typer.Option("--account", metavar="ACCOUNT", help="The account's id.")] = "acc_1",
    name: Annotated[str | None, typer.Option(help="Its name for people. [default: its id]")] = None,
    gs1_prefix: Annotated[
        str | None, typer.Option(metavar="DIGITS", help="Its GS1 company prefix, the base of its SSCCs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an account, sandbox partners, a test key and `.env`; keep what exists."""
    settings = get_settings()
    first = not ENV_FILE.exists()
    new_settings = _missing_settings(settings) if first else {}
    reject_weak_credentials(settings.model_copy(update=new_settings))
    with open_current_runtime() as runtime:
        if _has_accounts(runtime):
            # A new secret key could not decrypt what the previous one encrypted.
            new_settings.pop("secret_key", None)
            new_settings.pop("installation", None)
            reject_weak_credentials(settings.model_copy(update=new_settings))
        if first:
            # Before anything is created: a second run takes existing accounts as the sign of a secret key in use.
            _create_env_file(new_settings)
        try:
            created = _ensure_account(runtime, account, name or account, gs1_prefix)
        except BaseException:
            if first:
                ENV_FILE.unlink(missing_ok=True)
            raise
    get_settings.cache_clear()
    with open_current_runtime() as runtime:
        if runtime.settings.installation is not None:
            installation.adopt(runtime.db, runtime.settings.installation)
        created += _ensure_partners(runtime, account)
        key = None
        if first:
            key = api_keys.create_key(
                runtime, account, "exports init", mode="test", roles=ROLES, actor=COMMAND_LINE
            ).bearer
    if key is not None:
        _append_settings({"api_key": SecretStr(key)})
    if as_json:
        print_json({"account": account, "made": created, "key": key, "envFile": str(ENV_FILE) if first else None})
    else:
        _print_result(account, created, key, ["exports serve"] if settings.embedded else ["exports web", *WORKERS])


def _missing_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that this installation needs and the user did not set, by name."""
    new_settings: dict[str, Any] = {}
    given = settings.model_fields_set
    if "secret_key" not in given:
        # If the key is given, the processes may have settings that this command does not write.
        if "installation" not in given:
            new_settings["installation"] = f"exports-{secrets.token_hex(4)}"
        new_settings["secret_key"] = SecretStr(secrets.token_urlsafe(SECRET_KEY_CHARACTERS))
    return new_settings


def _has_accounts(runtime: Runtime) -> bool:
    with runtime.db.read() as session:
        return bool(service.list_accounts(session))


def _ensure_account(runtime: Runtime, account: str, name: str, gs1_prefix: str | None) -> list[str]:
    """Create the account if it is missing; return what was created."""
    if service.find_account(runtime, account) is not None:
        return []
    service.create_account(runtime, account, name, gs1_prefix=gs1_prefix, actor=COMMAND_LINE)
    return [f"account {account}"]


def _ensure_partners(runtime: Runtime, account: str) -> list[str]:
    """Create the missing partners of the sandbox; return what was created."""
    known = {partner.id for partner in partners.list_partners(runtime, account)}
    missing = [partner for partner in demo.PARTNERS if partner.id not in known]
    for partner in missing:
        partners.create_partner(runtime, account, partner, actor=COMMAND_LINE)
    return [f"{partner.kind.replace('_', ' ')} {partner.id}" for partner in missing]


def _create_env_file(new_settings: dict[str, Any]) -> None:
    try:
        ENV_FILE.touch(0o600, exist_ok=False)
        ENV_FILE.write_text(_ENV_FILE_HEADER, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{ENV_FILE.absolute()} cannot be created: {error.strerror}", code=ExitCode.REFUSED) from error
    _append_settings(new_settings)


def _append_settings(settings: dict[str, Any]) -> None:
    with ENV_FILE.open("a", encoding="utf-8") as file:
        for name, value in settings.items():
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value).lower()
            file.write(f"{_COMMENTS.get(name, '')}EXPORTS_{name.upper()}={text}\n")


def _print_result(account: str, created: list[str], key: str | None, processes: Sequence[str]) -> None:
    console = stdout_console()
    for each in created:
        console.print(f"[green]✓[/] {escape(each)}")
    if not created:
        console.print(f"[green]✓[/] account [bold]{escape(account)}[/] and its partners already exist")
    if key is None:
        console.print(f"  {ENV_FILE} already exists and was not changed; no key was created. This command creates one:")
        roles = " ".join(f"--role {role}" for role in ROLES)
        console.print(f"  exports keys create --account {escape(account)} --test {roles}", soft_wrap=True)
        return
    console.print(f"[green]✓[/] {ENV_FILE} with the settings of this folder and a test key, shown only now:")
    console.print(f"  {key}", soft_wrap=True, markup=False)
    console.print(f"  It may {', '.join(ROLES[:-1])} and {ROLES[-1]}. To use /console, invite yourself:")
    console.print(f"  exports people add --account {escape(account)} --role admin --email YOUR_ADDRESS", soft_wrap=True)
    first = ", ".join(f"`{command}`" for command in processes)
    stderr_console().print(
        f"[dim]  Next: {first}{', each in its own terminal' if len(processes) > 1 else ''}, then in another terminal"
        f" `exports plans new --account {escape(account)} --broker {demo.PARTNERS[0].id} > plan.json`"
        " and `exports execute plan.json --wait`.[/]",
        soft_wrap=True,
    )
