"""`exports secrets`: the partners' encrypted secrets and credentials, and their key."""

import typer

from pipeline.accounts import secrets
from pipeline.interfaces.cli.output import Failure, Json, print_result, report_errors, show_progress
from pipeline.interfaces.cli.session import open_current_runtime

app = typer.Typer(no_args_is_help=True, help="The encrypted secrets of partners, and their key.")


@app.callback()
def _secrets() -> None:
    """Keep the group while it has only one command."""


@app.command("rotate")
@report_errors
def rotate(as_json: Json = False) -> None:
    """Encrypt all partner secrets and credentials with the current EXPORTS_SECRET_KEY."""
    reencrypted = 0
    unreadable: list[str] = []
    with open_current_runtime(must_exist=True) as runtime, show_progress("encrypting secrets") as show:
        total = secrets.count_unsealed(runtime)
        for batch in secrets.reseal_secrets(runtime):
            reencrypted += batch.count
            unreadable += batch.unreadable
            show("encrypting secrets", reencrypted + len(unreadable), total)
    if unreadable:
        raise Failure(
            f"{reencrypted} encrypted again; {len(unreadable)} cannot be decrypted with any configured key: {', '.join(unreadable)}",
            remedy="Put the key that encrypted them into EXPORTS_SECRET_KEYS_PREVIOUS, and rotate again.",
        )
    text = f"[green]✓[/] {reencrypted} encrypted again; the current secret key now decrypts everything"
    print_result({"resealed": reencrypted}, text, as_json=as_json)
