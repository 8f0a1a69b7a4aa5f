"""`exports secrets`: what is kept encrypted, and the key that it is encrypted under."""

from __future__ import annotations

import typer

from pipeline.accounts import secrets
from pipeline.interfaces.cli.output import Failure, Json, print_json, report_errors, stdout_console
from pipeline.interfaces.cli.session import open_current_runtime

app = typer.Typer(no_args_is_help=True, help="What is kept encrypted of partners, and the key for it.")


@app.callback()
def _secrets() -> None:
    """Keep the group a group while it has one command."""


@app.command("rotate")
@report_errors
def rotate(as_json: Json = False) -> None:
    """Seal all partner secrets and credentials under the current EXPORTS_SECRET_KEY."""
    reencrypted = 0
    unreadable: list[str] = []
    with open_current_runtime(must_exist=True) as runtime:
        for stretch in secrets.reseal_secrets(runtime):
            reencrypted += stretch.count
            unreadable += stretch.unreadable
    if unreadable:
        raise Failure(
            f"{reencrypted} sealed anew; {len(unreadable)} open under no key that is here: {', '.join(unreadable)}",
            remedy="Put the key they were sealed under into EXPORTS_SECRET_KEYS_PREVIOUS, and rotate again.",
        )
    if as_json:
        print_json({"resealed": reencrypted})
    else:
        stdout_console().print(f"[green]✓[/] {reencrypted} sealed anew; everything is under the secret key of today")
