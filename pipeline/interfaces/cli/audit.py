"""`exports audit`: what people did; the proof that the logs are unchanged, and signed checkpoints that show missing entries."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.text import Text

from pipeline.accounts.people import name_actors
from pipeline.core import tenancy
from pipeline.exports.audit_trail import ActFilter, Action, list_acts
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    ShowProgress,
    build_table,
    print_json,
    print_result,
    report_errors,
    show_progress,
    stdout_console,
)
from pipeline.interfaces.cli.profiles import default_account
from pipeline.interfaces.cli.session import ensure_account, open_current_runtime
from pipeline.ops import audit

app = typer.Typer(no_args_is_help=True, help="Show what people did; prove that the logs are unchanged.")

_DAYS: Final = ["%Y-%m-%d"]

Account = Annotated[str | None, typer.Option("--account", metavar="ID", help="Only this account's exports.")]


@app.command("list")
@report_errors
def print_acts(
    account: Annotated[
        str,
        typer.Option(
            "--account",
            metavar="ACCOUNT",
            default_factory=default_account,
            show_default=False,
            help="The account whose trail is shown.",
        ),
    ],
    actor: Annotated[str | None, typer.Option("--actor", metavar="ID", help="Only this person or key.")] = None,
    action: Annotated[Action | None, typer.Option("--action", help="Only this action.", show_choices=False)] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="ID", help="Only acts on this.")] = None,
    first_day: Annotated[
        datetime | None, typer.Option("--from", formats=_DAYS, metavar="DAY", help="Since this day of UTC.")
    ] = None,
    last_day: Annotated[
        datetime | None, typer.Option("--to", formats=_DAYS, metavar="DAY", help="Until the end of this day.")
    ] = None,
    before: Annotated[int | None, typer.Option("--before", metavar="SEQ", min=1, help="Only older acts.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """Show what people and keys did on an account, newest first."""
    first, last = (None if each is None else each.date() for each in (first_day, last_day))
    filters = ActFilter(actor, action, subject, first, last)
    with open_current_runtime(must_exist=True) as runtime:
        ensure_account(runtime, account)
        with tenancy.account_scope(account), runtime.db.read() as session:
            page = list_acts(session, account, filters, before=before, limit=limit)
            names = name_actors(session, {each.actor for each in page.items})
    table = build_table(
        ("act", "at", "actor", "action", "subject", "detail"),
        (
            (
                str(each.seq),
                f"{each.at:%Y-%m-%d %H:%M:%S}",
                names.get(each.actor, each.actor),
                each.action,
                each.subject,
                json.dumps(each.detail, ensure_ascii=False) if each.detail else "",
            )
            for each in page.items
        ),
    )
    more = None if page.next_before is None else f"--before {page.next_before}   shows older acts"
    print_result(page, table, hint=more, as_json=as_json)


@app.command()
@report_errors
def verify(
    export: Annotated[str | None, typer.Option("--export", metavar="ID", help="Only this export.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="An earlier checkpoint that the log must still fit."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify every hash chain of events and acts; name the first entry of each that does not fit."""
    if export is not None and checkpoint is not None:
        raise Failure(
            "--checkpoint must stand without --export: it covers many exports; leave --export out", code=ExitCode.USAGE
        )
    signed = None if checkpoint is None else _read_checkpoint(checkpoint)
    with open_current_runtime(must_exist=True) as runtime, show_progress("verifying hash chains") as show:
        if signed is None:
            found, mismatch = audit.verify_chains(runtime, _progress_of(show), export_id=export), None
        else:
            if not audit.is_own_signature(runtime.settings, signed):
                raise Failure(
                    f"{checkpoint} must be signed by one of the configured keys and unchanged",
                    remedy="If the secret key was replaced, put the previous one into EXPORTS_SECRET_KEYS_PREVIOUS.",
                )
            until = datetime.fromisoformat(signed.until)
            found = audit.verify_chains(runtime, _progress_of(show), account_id=signed.account, until=until)
            mismatch = audit.find_mismatch(signed, found)
    intact = found.intact and mismatch is None
    if as_json:
        print_json(
            {
                "intact": intact,
                "exports": found.exports,
                "events": found.events,
                "acts": found.acts,
                "broken": found.broken,
                "faults": found.breaks,
                "checkpoint": mismatch,
            }
        )
    else:
        _print_result(found, mismatch)
    if not intact:
        raise typer.Exit(int(ExitCode.REFUSED))


@app.command("checkpoint")
@report_errors
def print_checkpoint(account: Account = None, as_json: Json = False) -> None:
    """Print a signed checkpoint of the log as of five minutes ago; keep one a day out of reach of the database's users."""
    with open_current_runtime(must_exist=True) as runtime, show_progress("verifying hash chains") as show:
        try:
            signed = audit.sign_checkpoint(runtime, account, _progress_of(show))
        except audit.BrokenLog as error:
            raise Failure(f"{error}; no checkpoint was signed", remedy="`exports audit verify` names them.") from error
    print_json(signed)


def _progress_of(show: ShowProgress) -> Callable[[audit.AuditReport], None]:
    def report(found: audit.AuditReport) -> None:
        broken = f", {found.broken} broken" if found.broken else ""
        show(f"verifying hash chains{broken}", found.exports, found.total)

    return report


def _read_checkpoint(path: Path) -> audit.SignedCheckpoint:
    try:
        return audit.SignedCheckpoint.model_validate_json(path.read_text())
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise Failure(
            f"{path} is not a checkpoint; give the output of `exports audit checkpoint`", code=ExitCode.USAGE
        ) from error


def _print_result(found: audit.AuditReport, mismatch: str | None) -> None:
    console = stdout_console()
    if found.breaks:
        rows = (
            (each.export_id or each.account_id or "", str(each.seq), Text(each.kind, "bold red"), each.message)
            for each in found.breaks
        )
        console.print(build_table(("export or account", "entry", "is", "because"), rows))
    if mismatch is not None:
        console.print(f"[bold red]✗[/] {escape(mismatch)}", soft_wrap=True)
    counted = f"{found.exports} exports, {found.events} events, {found.acts} acts"
    if found.broken:
        console.print(f"[bold red]✗[/] {found.broken} chains are broken: {counted}", soft_wrap=True)
    else:
        console.print(f"[green]✓[/] every chain is intact: {counted}", soft_wrap=True)
