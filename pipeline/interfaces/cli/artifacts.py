"""`exports artifacts`: the documents of an export, and the check of the store against the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text
from typer.core import TyperGroup

from pipeline.interfaces.cli import exports
from pipeline.interfaces.cli.output import ExitCode, build_table, report_errors, show_progress, stdout_console
from pipeline.interfaces.event_text import format_size

if TYPE_CHECKING:
    from pipeline.ops.store_check import DamagedDocument, StoreReport

#: How many documents the table shows; all are counted, and `--json` prints all.
MAX_SHOWN: Final = 20

#: The command that `exports artifacts ID` stands for.
DEFAULT_COMMAND: Final = "list"


class _ListByDefault(TyperGroup):
    """Takes an argument that is not one of its commands as the id of an export."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in {*self.commands, "--help"}:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ListByDefault,
    no_args_is_help=True,
    help="The documents of an export, and the store of all documents. `exports artifacts ID` means `list ID`.",
)
app.command(DEFAULT_COMMAND)(exports.list_artifacts)

JsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON: a line for each bad document, then one with the counts.")
]
ExportOption = Annotated[str | None, typer.Option("--export", metavar="ID", help="Only this export's.")]


@app.command()
@report_errors
def check(export: ExportOption = None, as_json: JsonLines = False) -> None:
    """Check every recorded document in the store against its hash; writes nothing."""
    _check_store(export, restore=False, as_json=as_json)


@app.command()
@report_errors
def restore(export: ExportOption = None, as_json: JsonLines = False) -> None:
    """Restore missing and damaged documents; writes only bytes with the recorded hash."""
    _check_store(export, restore=True, as_json=as_json)


def _check_store(export: str | None, *, restore: bool, as_json: bool) -> None:
    from pipeline.interfaces.cli.session import open_current_runtime  # noqa: PLC0415
    from pipeline.ops import store_check  # noqa: PLC0415 - listing an export's documents needs no database

    shown: list[DamagedDocument] = []

    def report_bad(bad: DamagedDocument) -> None:
        if as_json:
            typer.echo(json.dumps(_to_json(bad), ensure_ascii=False))
        elif len(shown) < MAX_SHOWN:
            shown.append(bad)

    with open_current_runtime(must_exist=True) as runtime, show_progress("checking documents") as show:
        report = store_check.check_store(
            runtime,
            report_bad,
            lambda report: show(_format_progress(report), report.documents, report.total),
            export_id=export,
            restore=restore,
        )
    if as_json:
        typer.echo(json.dumps(_count_conditions(report)))
    else:
        _print_result(report, shown, restore=restore)
    if report.unrestored:
        raise typer.Exit(int(ExitCode.REFUSED))


def _format_progress(report: StoreReport) -> str:
    bad = f", {report.conditions.total()} are not as recorded" if report.conditions else ""
    restored = f", {report.restored} restored" if report.restored else ""
    return f"checking documents{bad}{restored}"


def _to_json(bad: DamagedDocument) -> dict[str, Any]:
    return {
        "exportId": bad.export_id,
        "unitNo": bad.unit_no,
        "artifactType": bad.artifact_type,
        "filename": bad.filename,
        "sha256": bad.sha256,
        "condition": bad.condition,
        "restored": bad.restored,
        "reason": bad.reason,
    }


def _count_conditions(report: StoreReport) -> dict[str, int]:
    conditions = {name: report.conditions[name] for name in ("missing", "damaged", "unreadable")}
    return (
        {"documents": report.documents, "bytes": report.size}
        | conditions
        | {"restored": report.restored, "left": report.unrestored}
    )


def _print_result(report: StoreReport, shown: Sequence[DamagedDocument], *, restore: bool) -> None:
    console = stdout_console()
    if shown:
        rows: list[tuple[str | Text, ...]] = [
            (
                bad.export_id,
                str(bad.unit_no),
                bad.filename,
                Text("restored", "green") if bad.restored else Text(bad.condition, "bold red"),
                bad.reason or "",
            )
            for bad in shown
        ]
        if report.conditions.total() > len(shown):
            rows.append(("", "", "", "", f"and {report.conditions.total() - len(shown)} more; --json prints all"))
        console.print(build_table(("export", "unit", "document", "is", "because"), rows))
    looked_at = f"{report.documents} documents ({format_size(report.size)})"
    if report.restored:
        console.print(
            f"[green]✓[/] {report.restored} documents are restored, each with its recorded hash", soft_wrap=True
        )
    if not report.unrestored:
        console.print(f"[green]✓[/] {looked_at} are in the store as recorded", soft_wrap=True)
        return
    remedy = "" if restore else "; `exports artifacts restore` restores documents whose hash it can reproduce"
    console.print(
        f"[bold red]✗[/] {report.unrestored} of {looked_at} are not in the store as recorded{remedy}", soft_wrap=True
    )
