"""`exports waivers`: the warnings that an account accepts."""

from datetime import datetime
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from pipeline.core.clock import utc_now
from pipeline.customs import waivers
from pipeline.customs.schemas import NewWaiver, WaiverView
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, build_table, print_result, report_errors
from pipeline.interfaces.cli.profiles import default_account
from pipeline.interfaces.cli.session import ensure_account, open_current_runtime

app = typer.Typer(no_args_is_help=True, help="The warnings that an account accepts, with a record.")

OfAccount = Annotated[
    str,
    typer.Option(
        "--account",
        metavar="ACCOUNT",
        default_factory=default_account,
        show_default=False,
        help="The account that waives.",
    ),
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides this; it is recorded.")]


@app.command("add", epilog="Example: exports waivers add PGA_FDA --account acc_1 --reason 'filed by hand' --by pat")
@report_errors
def add(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The rule whose findings are waived, such as V17.")],
    account: OfAccount,
    reason: Annotated[str, typer.Option(help="The reason; it is recorded.")],
    by: By,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day (UTC); without it, until it is revoked.")
    ] = None,
    pointer: Annotated[
        str | None,
        typer.Option(metavar="POINTER", help="Only at this pointer, such as '/units/*/invoice'; * is any one part."),
    ] = None,
    partner: Annotated[
        str | None, typer.Option(metavar="ID", help="Only for this customs broker or warehouse.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Record a waiver; blocking findings cannot be waived."""
    try:
        new = NewWaiver(rule=rule, pointer=pointer, partner_id=partner, reason=reason, ends_on=until and until.date())
    except ValidationError as error:
        wrong = error.errors()[0]
        raise Failure(f"{'/'.join(map(str, wrong['loc']))}: {wrong['msg']}", code=ExitCode.USAGE) from error
    with open_current_runtime() as runtime:
        recorded = waivers.grant_waiver(runtime, account, new, waived_by=by, actor=COMMAND_LINE)
    _print_waiver(recorded, "on record", as_json)


@app.command("list")
@report_errors
def list_waivers(account: OfAccount, as_json: Json = False) -> None:
    """List an account's waivers, including revoked ones."""
    with open_current_runtime() as runtime:
        ensure_account(runtime, account)
        rows = waivers.list_waivers(runtime, account)
    table = build_table(
        ("waiver", "rule", "where", "for", "reason", "by", "state"),
        (
            (
                row.id,
                row.rule,
                row.pointer or "everywhere",
                row.partner_id or "every partner",
                row.reason,
                row.waived_by,
                _waiver_state(row),
            )
            for row in rows
        ),
    )
    print_result(rows, table, as_json=as_json)


@app.command("revoke")
@report_errors
def revoke(
    waiver: Annotated[str, typer.Argument(metavar="ID", help="As `exports waivers list` shows it.")],
    account: OfAccount,
    by: By,
    as_json: Json = False,
) -> None:
    """End a waiver now; its record stays."""
    with open_current_runtime() as runtime:
        recorded = waivers.revoke_waiver(runtime, account, waiver, revoked_by=by, actor=COMMAND_LINE)
    _print_waiver(recorded, "revoked", as_json)


def _print_waiver(recorded: WaiverView, what: str, as_json: bool) -> None:
    text = f"[green]✓[/] waiver [bold]{recorded.id}[/] of {escape(recorded.rule)} is {what}"
    print_result(recorded, text, as_json=as_json)


def _waiver_state(row: WaiverView) -> str:
    if row.revoked_at is not None:
        return f"revoked {row.revoked_at:%Y-%m-%d} by {row.revoked_by or ''}"
    if row.ends_on is None:
        return "in force"
    return f"{'ended' if row.ends_on < utc_now().date() else 'until'} {row.ends_on}"
