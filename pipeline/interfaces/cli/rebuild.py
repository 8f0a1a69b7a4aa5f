"""`exports rebuild`: derives the tables from the log, compares them, and restores damaged rows."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from pipeline.interfaces.cli.output import (
    ExitCode,
    Json,
    build_table,
    print_json,
    report_errors,
    show_progress,
    stdout_console,
)
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
    with open_current_runtime(must_exist=True) as runtime, show_progress("comparing exports") as show:
        found = service.rebuild_exports(
            runtime,
            lambda report: show(f"comparing exports, {len(report.damaged)} damaged", report.exports, report.total),
            export_id=export,
            apply=apply,
        )
    left = sum(1 for one in found.damaged if one.after_restore is None or not one.after_restore.intact)
    if as_json:
        print_json({"exports": found.exports, "damaged": [_to_json(one) for one in found.damaged], "left": left})
    else:
        _print_result(found, left, applied=apply)
    if left:
        raise typer.Exit(int(ExitCode.REFUSED))


def _to_json(one: RebuildResult) -> dict[str, Any]:
    shown: dict[str, Any] = {"exportId": one.export_id, "refused": one.refusal_reason, "differences": one.differences}
    if one.after_restore is not None:
        shown["left"] = one.after_restore.differences
    return shown


def _print_result(found: RebuildReport, left: int, *, applied: bool) -> None:
    console = stdout_console()
    if found.damaged:
        rows = (row for one in found.damaged for row in _format_rows(one))
        console.print(build_table(("export", "table", "row", "is", "because"), rows))
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


def _format_rows(one: RebuildResult) -> Iterator[tuple[str | Text, ...]]:
    if one.refusal_reason is not None:
        yield one.export_id, "", "", Text("refused", "bold red"), one.refusal_reason
    for each in one.differences[:MAX_SHOWN]:
        key = ", ".join(str(value) for name, value in each.key.items() if name != "export_id")
        why = each.message if each.restorable else f"{each.message} (cannot be restored)"
        yield one.export_id, each.table, key, Text(each.kind, "bold red"), why
    if len(one.differences) > MAX_SHOWN:
        yield one.export_id, "", "", "", f"and {len(one.differences) - MAX_SHOWN} more"
