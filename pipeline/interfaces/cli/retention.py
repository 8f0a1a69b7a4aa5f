"""`exports retention`: expired records, legal holds, and the purge."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from typing import Annotated, Final

import typer
from rich.markup import escape

from pipeline.core.clock import utc_now
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.exports.models import LegalHold
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_result,
    report_errors,
    show_progress,
    stderr_console,
)
from pipeline.interfaces.cli.output_models import ExpiredOutput, HoldOutput, PurgeOutput
from pipeline.interfaces.cli.session import ensure_account, open_current_runtime
from pipeline.ops import legal_holds, retention
from pipeline.ops.retention import ExpiredRecord, UnreadablePlan

app = typer.Typer(no_args_is_help=True, help="How long records are kept.")

_FIRST_YEAR: Final = 1970

By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides this; it is recorded.")]


@app.command()
@report_errors
def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what is due.")] = False,
    on: Annotated[
        datetime | None,
        typer.Option("--on", formats=["%Y-%m-%d"], help="With --dry-run: as of this day (UTC), by default today."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove the payload of exports and unused plans after their retention years, unless a legal hold keeps them.

    Hashes and log stay.
    """
    if on is not None and not dry_run:
        raise Failure("--on needs --dry-run: nothing is purged before its day", code=ExitCode.USAGE)
    today = utc_now().date() if on is None else on.date()
    if today.year < _FIRST_YEAR:
        raise Failure(
            f"--on must be {_FIRST_YEAR} or later, not {today}; give a day such as 2032-11-27", code=ExitCode.USAGE
        )
    with open_current_runtime(must_exist=True) as runtime:
        if dry_run:
            with show_progress("looking for expired records") as show:
                looking = partial(show, "looking for expired records")
                found = list(retention.find_expired(runtime, today, looking))
            _print_due([each for each in found if isinstance(each, ExpiredRecord)], today, as_json=as_json)
            _warn_of_unreadable([each.plan_id for each in found if isinstance(each, UnreadablePlan)])
            return
        with show_progress("looking for expired records") as show:
            result = retention.purge_expired(runtime, today, partial(show, "purging expired records"))
    purged = f"{result.exports} exports and {result.plans} plans without an export purged"
    deleted = f"{result.documents} documents and {result.orders} orders without an export deleted"
    text = f"[green]✓[/] {purged}, {deleted}"
    print_result(PurgeOutput.model_validate(result), text, as_json=as_json)
    _warn_of_unreadable(result.unreadable)


def _warn_of_unreadable(plans: Sequence[str]) -> None:
    for plan_id in plans:
        why = "cannot be read, so it is unknown whether it is due; it is kept. Restore it from a backup"
        stderr_console().print(f"[bold red]✗[/] plan {escape(plan_id)} {why}", soft_wrap=True)
    if plans:
        raise typer.Exit(int(ExitCode.REFUSED))


def _print_due(found: list[ExpiredRecord], today: date, *, as_json: bool) -> None:
    table = build_table(
        ("export or plan", "account", "entry", "kept until", "by", "held by"),
        (
            (
                each.export_id or each.plan_id or "",
                each.account_id,
                str(each.entry_on),
                str(each.kept_until),
                f"{each.jurisdiction}, {each.years} years",
                each.held_by or "",
            )
            for each in found
        ),
    )
    held = sum(each.held_by is not None for each in found)
    free = Counter(each.export_id is not None for each in found if each.held_by is None)
    summary = (
        f"{free[True]} exports and {free[False]} plans without an export would be purged on {today}, {held} are held"
    )
    due = [ExpiredOutput.model_validate(each) for each in found]
    print_result(due, *([table] if found else []), summary, as_json=as_json)


@app.command("hold")
@report_errors
def place_hold(
    account: Annotated[str, typer.Option("--account", metavar="ID", help="The account whose records are held.")],
    reason: Annotated[str, typer.Option(help="The reason; it is recorded.")],
    by: By,
    export: Annotated[
        str | None, typer.Option("--export", metavar="ID", help="Only this export's records and its batch's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep records, whatever their age, until the hold is released."""
    if not (reason.strip() and by.strip()):
        raise Failure("a hold needs a reason and a name; give --reason and --by", code=ExitCode.USAGE)
    with open_current_runtime(must_exist=True) as runtime:
        result = legal_holds.place_hold(
            runtime, account, export_id=export, reason=reason, placed_by=by, actor=COMMAND_LINE
        )
    _print_hold(result, as_json=as_json)


@app.command("release")
@report_errors
def release_hold(
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id.")], by: By, as_json: Json = False
) -> None:
    """End a hold; its record stays."""
    with open_current_runtime(must_exist=True) as runtime:
        result = legal_holds.release_hold(runtime, hold, released_by=by, actor=COMMAND_LINE)
    _print_hold(result, as_json=as_json)


def _print_hold(result: LegalHold, *, as_json: bool) -> None:
    what = "in force" if result.released_at is None else "released"
    text = f"[green]✓[/] legal hold {result.id} is {what}"
    print_result(HoldOutput.model_validate(result), text, as_json=as_json)


@app.command("holds")
@report_errors
def list_holds(
    account: Annotated[str | None, typer.Option("--account", metavar="ID", help="Only this account's.")] = None,
    as_json: Json = False,
) -> None:
    """List the holds, including released ones."""
    with open_current_runtime(must_exist=True) as runtime:
        if account is not None:
            ensure_account(runtime, account)
        found = legal_holds.list_holds(runtime, account)
    table = build_table(
        ("hold", "account", "export", "reason", "placed", "released"),
        (
            (
                each.id,
                each.account_id,
                each.export_id or "all",
                each.reason,
                f"{each.placed_at:%Y-%m-%d} by {each.placed_by}",
                "" if each.released_at is None else f"{each.released_at:%Y-%m-%d} by {each.released_by}",
            )
            for each in found
        ),
    )
    print_result([HoldOutput.model_validate(each) for each in found], table, as_json=as_json)
