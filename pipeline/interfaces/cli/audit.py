"""`exports audit`: whether the log is as it was written, and signed statements that tell later whether any of it is gone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from pipeline.interfaces.cli.export_view import build_table
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, print_json, report_errors, stdout_console
from pipeline.interfaces.cli.session import open_current_runtime
from pipeline.ops import audit

app = typer.Typer(no_args_is_help=True, help="The log as evidence: proven, and stated under a signature.")

Account = Annotated[str | None, typer.Option("--account", metavar="ID", help="Only this account's exports.")]


@app.command()
@report_errors
def verify(
    export: Annotated[str | None, typer.Option("--export", metavar="ID", help="Only this export.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="A checkpoint of before that the log must still fit."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove every export's hash chain; name the first event of each that does not fit."""
    if export is not None and checkpoint is not None:
        raise Failure("a checkpoint speaks of many exports; leave --export out", code=ExitCode.USAGE)
    signed_head = None if checkpoint is None else _read_head(checkpoint)
    with open_current_runtime(must_exist=True) as runtime:
        if signed_head is None:
            found, mismatch = audit.verify_chains(runtime, export_id=export), None
        else:
            if not audit.is_own_signature(runtime.settings, signed_head):
                raise Failure(
                    f"{checkpoint} is signed by none of our keys, or was changed",
                    remedy="Name the secret key of then in EXPORTS_SECRET_KEYS_PREVIOUS, if it was replaced.",
                )
            until = datetime.fromisoformat(signed_head.until)
            found = audit.verify_chains(runtime, account_id=signed_head.account, until=until)
            mismatch = audit.find_mismatch(signed_head, found)
    intact = found.intact and mismatch is None
    if as_json:
        print_json(
            {
                "intact": intact,
                "exports": found.exports,
                "events": found.events,
                "broken": found.broken,
                "faults": [fault.model_dump(by_alias=True) for fault in found.breaks],
                "checkpoint": mismatch,
            }
        )
    else:
        _print_result(found, mismatch)
    if not intact:
        raise typer.Exit(int(ExitCode.REFUSED))


@app.command("checkpoint")
@report_errors
def print_head(account: Account = None, as_json: Json = False) -> None:
    """Print a signed checkpoint of the log as of five minutes ago; keep one a day where nobody who can change the database can reach it."""
    with open_current_runtime(must_exist=True) as runtime:
        try:
            signed_head = audit.sign_checkpoint(runtime, account)
        except audit.BrokenLog as error:
            raise Failure(f"{error}; nothing is stated of them", remedy="`exports audit verify` names them.") from error
    print_json(signed_head.model_dump(by_alias=True))


def _read_head(path: Path) -> audit.SignedCheckpoint:
    try:
        return audit.SignedCheckpoint.model_validate_json(path.read_text())
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise Failure(
            f"{path} is no checkpoint: give what `exports audit checkpoint` printed", code=ExitCode.USAGE
        ) from error


def _print_result(found: audit.AuditReport, mismatch: str | None) -> None:
    console = stdout_console()
    if found.breaks:
        shown = build_table("export", "event", "is", "because")
        for fault in found.breaks:
            shown.add_row(escape(fault.export_id), str(fault.seq), f"[bold red]{fault.kind}[/]", escape(fault.message))
        console.print(shown)
    if mismatch is not None:
        console.print(f"[bold red]✗[/] {escape(mismatch)}", soft_wrap=True)
    counted = f"{found.exports} exports, {found.events} events"
    if found.broken:
        console.print(f"[bold red]✗[/] {found.broken} chains are broken: {counted}", soft_wrap=True)
    else:
        console.print(f"[green]✓[/] every chain holds: {counted}", soft_wrap=True)
