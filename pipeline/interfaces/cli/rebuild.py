"""`exports rebuild`: derives the tables from the log, compares them, and restores damaged rows."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from pipeline.interfaces.cli.export_view import build_table
from pipeline.interfaces.cli.output import ExitCode, Json, print_json, report_errors, stdout_console
from pipeline.interfaces.cli.session import open_current_runtime
from pipeline.ops.rebuild import service
from pipeline.ops.rebuild.service import RebuildReport, RebuildResult

#: How many differences of one export are shown; all are counted, and `--json` prints all.
MAX_SHOWN = 20


app = typer.Typer()


@app.command()
@report_errors
def rebuild(
    apply: Annotated[
        bool, typer.Option("--apply/--check", help="Restore damaged rows; without it nothing is written.")
    ] = False,
    export: Annotated[str | None, typer.Option("--export", metavar="ID", help="Only this export.")] = None,
    as_json: Json = False,
) -> None:
    """Derive every table from log and plan; name each row that is missing, changed or added."""
    with open_current_runtime(must_exist=True) as runtime:
        found = service.rebuild_exports(runtime, export_id=export, apply=apply)
    left = sum(1 for one in found.damaged if one.after_restore is None or not one.after_restore.intact)
    if as_json:
        print_json({"exports": found.exports, "damaged": [_to_json(one) for one in found.damaged], "left": left})
    else:
        _print_result(found, left, applied=apply)
    if left:
        raise typer.Exit(int(ExitCode.REFUSED))


def _to_json(one: RebuildResult) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "exportId": one.export_id,
        "refused": one.refusal_reason,
        "differences": [each.model_dump(by_alias=True) for each in one.differences],
    }
    if one.after_restore is not None:
        shown["left"] = [each.model_dump(by_alias=True) for each in one.after_restore.differences]
    return shown


def _print_result(found: RebuildReport, left: int, *, applied: bool) -> None:
    console = stdout_console()
    if found.damaged:
        shown = build_table("export", "table", "row", "is", "because")
        for one in found.damaged:
            _format_rows(shown, one)
        console.print(shown)
    if found.intact:
        console.print(f"[green]✓[/] every table agrees with the log: {found.exports} exports", soft_wrap=True)
        return
    restored = len(found.damaged) - left
    if restored:
        console.print(f"[green]✓[/] restored: {restored} of {len(found.damaged)} damaged exports", soft_wrap=True)
    if left:
        restorable = any(
            one.refusal is None and any(each.restorable for each in one.differences) for one in found.damaged
        )
        remedy = "the rest cannot be restored from log and plan"
        if not applied:
            remedy = "`exports rebuild --apply` restores what it can" if restorable else "nothing can be restored"
        console.print(f"[bold red]✗[/] {left} of {found.exports} exports are damaged; {remedy}", soft_wrap=True)


def _format_rows(shown: Any, one: RebuildResult) -> None:
    if one.refusal_reason is not None:
        shown.add_row(escape(one.export_id), "", "", "[bold red]refused[/]", escape(one.refusal_reason))
    for each in one.differences[:MAX_SHOWN]:
        key = ", ".join(str(value) for name, value in each.key.items() if name != "export_id")
        why = each.message if each.restorable else f"{each.message} (cannot be restored)"
        shown.add_row(escape(one.export_id), each.table, escape(key), f"[bold red]{each.kind}[/]", escape(why))
    if len(one.differences) > MAX_SHOWN:
        shown.add_row(escape(one.export_id), "", "", "", f"and {len(one.differences) - MAX_SHOWN} more")
