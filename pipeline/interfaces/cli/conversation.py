"""The commands about the conversation with the customs broker: reply to it, show all of it."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from pipeline.client.files import safe_name, write_file
from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.exports import ExportId
from pipeline.interfaces.cli.output import Json, print_result, report_errors

app = typer.Typer()


@app.command(epilog='Example: exports reply batch_2026_1124_01 "The body is steel." --to ack-77')
@report_errors
def reply(
    export: ExportId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the customs broker reads.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="ID", help="The answer or message that it replies to.")
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option("--package", metavar="NUMBER", help="The customs package that it is about; repeatable."),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", help="A PDF, PNG, JPEG, CSV or XML file to send with it; repeatable.", exists=True, dir_okay=False
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="The id of the message; by default computed from it, so a repeat is safe."),
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Write to the customs broker about its handoff; after a question, the export leaves the inbox."""
    numbers = packages or []
    with connect(api_url, api_key) as api:
        sent = [api.attach(export, each.name, each.read_bytes()).id for each in files or ()]
        computed = hashlib.sha256("\n".join([text, to or "", *numbers, *sent]).encode()).hexdigest()[:32]
        item = api.reply(
            export, text, message_id=key or f"reply-{computed}", in_reply_to=to, packages=numbers, attachments=sent
        )
    print_result(item, export_view.format_item(item), as_json=as_json)


@app.command()
@report_errors
def conversation(
    export: ExportId,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Download its files into this folder.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show what the customs broker and you wrote about the handoff, oldest first."""
    with connect(api_url, api_key) as api:
        found = list(api.conversation(export))
        kept = {each.id: each for item in found for each in item.attachments if each.filename}
        for each in kept.values() if out else ():
            write_file(Path(out or ".") / safe_name(each.id) / safe_name(each.filename or ""), api.download(each))
    shown = [export_view.format_item(each) for each in found] or [Text.from_markup(escape("Nothing was written yet."))]
    print_result(found, *shown, as_json=as_json)
