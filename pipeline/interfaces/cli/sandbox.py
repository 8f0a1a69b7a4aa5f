"""The command `exports sandbox-answer`."""

from typing import Annotated
from uuid import uuid4

import typer
from pydantic import ValidationError

from pipeline.core.json_input import error_phrase
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.exports import ExportId
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, build_table, print_result, report_errors
from pipeline.interfaces.sandbox_input import build_answer

app = typer.Typer()


@app.command(
    "sandbox-answer", epilog="Example: exports sandbox-answer batch_2026_1124_01 held --package CP-000002 --holder cbp"
)
@report_errors
def answer(
    export: ExportId,
    status: Annotated[str, typer.Argument(metavar="STATUS", help="Such as accepted, filed, released, held or query.")],
    packages: Annotated[
        list[str] | None,
        typer.Option("--package", metavar="NUMBER", help="The customs package that it is about; repeatable."),
    ] = None,
    holder: Annotated[
        str | None, typer.Option("--holder", help="With a hold: cbp, agriculture, manifest, or agency with --agency.")
    ] = None,
    agency: Annotated[
        str | None, typer.Option("--agency", help="The code of the agency that holds, such as FDA.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="What it says.")] = None,
    duties: Annotated[
        list[str] | None, typer.Option("--duty", metavar="HEADING=USD", help="A duty that was assessed; repeatable.")
    ] = None,
    fees: Annotated[
        list[str] | None, typer.Option("--fee", metavar="CODE=USD", help="A fee that was assessed; repeatable.")
    ] = None,
    answer_id: Annotated[
        str | None, typer.Option("--id", help="The id of the answer; with the same one, a repeat changes nothing.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Let the sandbox broker answer a test export now, with any status; it needs a test key."""
    try:
        sent = build_answer(
            answer_id or f"sandbox-{uuid4().hex}",
            status,
            packages or (),
            holder=holder or "",
            agency=agency or "",
            message=message or "",
            duties=duties or (),
            fees=fees or (),
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        where = "/".join(map(str, wrong["loc"])) or "the answer"
        raise Failure(
            f"{where}: {error_phrase(wrong['msg'])}",
            code=ExitCode.USAGE,
            remedy="`exports schema acknowledgement` shows what an answer may have.",
        ) from error
    with connect(api_url, api_key) as api:
        receipt = api.sandbox_answer(export, sent)
    said = "recorded" if receipt.recorded else "recorded before"
    rows = [("answer", receipt.id), ("", said), ("the handoff is", receipt.submission_status)]
    print_result(receipt, build_table(("what", "which"), rows), as_json=as_json)
