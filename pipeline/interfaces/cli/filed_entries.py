"""The command that imports a report of filed entries."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from pipeline.core.errors import ValidationFailed
from pipeline.core.text_safety import make_legible
from pipeline.exports.schemas.filed_entries import FiledColumns, FiledEntriesReport
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import Json, print_result, report_errors

app = typer.Typer()


@app.command("import-filed")
@report_errors
def import_filed(
    file: Annotated[
        Path, typer.Argument(help="The report of entry summary lines, as CSV.", exists=True, dir_okay=False)
    ],
    entry_column: Annotated[str | None, typer.Option(help="The column of the entry number.")] = None,
    heading_column: Annotated[str | None, typer.Option(help="The column of the tariff number.")] = None,
    duty_column: Annotated[str | None, typer.Option(help="The column of the duty in USD.")] = None,
    line_column: Annotated[str | None, typer.Option(help="The column of the line's number.")] = None,
    processing_fee_column: Annotated[
        str | None, typer.Option(help="The column of the entry's merchandise processing fee in USD.")
    ] = None,
    harbor_fee_column: Annotated[
        str | None, typer.Option(help="The column of the line's harbor maintenance fee in USD.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and record nothing.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Compare the amounts of filed entries with their estimates, from CBP's report of entry summary lines."""
    columns = FiledColumns(
        entry=entry_column,
        heading=heading_column,
        duty=duty_column,
        line=line_column,
        processing_fee=processing_fee_column,
        harbor_fee=harbor_fee_column,
    )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValidationFailed(f"{file} is not UTF-8 text; export the report as CSV in UTF-8") from error
    with connect(api_url, api_key) as api:
        report = api.import_filed_entries(text, columns=columns, dry_run=dry_run)
    print_result(report, _format(report), as_json=as_json)


def _format(report: FiledEntriesReport) -> Text:
    lines = [f"columns: {report.columns_status}; source: {escape(report.columns_source)}"]
    lines += [f"not compared: {escape(make_legible(each))}" for each in report.not_read]
    for each in report.entries:
        words = {None: None, True: "[bold yellow]differs from the estimate[/]", False: "as estimated"}[each.differs]
        said = (each.export_id, each.customs_package_number, words, each.text and escape(make_legible(each.text)))
        lines.append("  ".join([each.entry_number, each.result, *filter(None, said), f"({each.source})"]))
        details = [each.differences, *(f"not compared: {skipped}" for skipped in each.not_compared)]
        lines += [f"  {escape(make_legible(detail))}" for detail in filter(None, details)]
    lines += [f"line {each.line}: {escape(make_legible(each.text))}" for each in report.bad_rows]
    if report.bad_row_count > len(report.bad_rows):
        lines.append(f"and {report.bad_row_count - len(report.bad_rows)} more rows that cannot be read")
    return Text.from_markup("\n".join(lines))
