"""The commands about what needs a person: list it, acknowledge it."""

from typing import Annotated

import typer

from pipeline.exports.field_text import describe_field
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.schemas.inbox import Cause, InboxItem, InboxView, Remedy
from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import FittedTable, Json, build_table, print_result, report_errors

app = typer.Typer()

_COMMANDS = {
    Remedy.RETRY: "exports retry {export}",
    Remedy.CANCEL: "exports cancel {export}",
    Remedy.RELEASE: "exports release {export}",
    Remedy.RESEND: "exports deliveries resend {delivery}",
    Remedy.REPLY: "exports reply {export} TEXT",
    Remedy.AMEND: "exports amend {export} PLAN.json",
    Remedy.TEST: "exports partners test {partner} --account ACCOUNT",
    Remedy.RESUME: "exports partners resume {partner} --account ACCOUNT",
    Remedy.ACKNOWLEDGE: "exports acknowledge {export}",
    Remedy.REOPEN: "exports acknowledge --undo {export}",
}
_COMMANDS_OF_LETTERS = {
    Remedy.ACKNOWLEDGE: "exports deliveries acknowledge {delivery}",
    Remedy.REOPEN: "exports deliveries acknowledge --undo {delivery}",
}


@app.command()
@report_errors
def inbox(
    cause: Annotated[Cause | None, typer.Option(help="Only items with this cause.")] = None,
    acknowledged: Annotated[bool, typer.Option("--acknowledged", help="What was acknowledged instead.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List what needs a person, oldest deadline first, with the remedies."""
    with connect(api_url, api_key) as api:
        found = api.inbox(cause=cause, acknowledged=acknowledged, limit=200)
    hint = f"Only the oldest items are listed: {', '.join(found.cut)}." if found.cut else None
    print_result(found, _build_table(found), hint=hint, as_json=as_json)


@app.command()
@report_errors
def acknowledge(
    exports: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of exports or batches.")],
    note: Annotated[str | None, typer.Option(help="What was done about it; it stands in the log.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Put the exports back into the inbox.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Take exports from the inbox until a new fact arrives; with --undo put them back."""
    with connect(api_url, api_key) as api:
        for export in exports:
            shown: ExportView = api.reopen_export(export) if undo else api.acknowledge_export(export, note)
            # Of several exports, one a line: those before an error are printed, too.
            print_result(shown.model_dump_json(by_alias=True), export_view.format_headline(shown), as_json=as_json)


def _build_table(found: InboxView) -> FittedTable:
    return build_table(
        ("cause", "item", "partner", "deadline", "what", "remedies"),
        (
            (
                item.cause.value.replace("_", " "),
                item.batch_id or item.partner_id or "",
                item.partner_id or "",
                _format_deadline(item),
                "\n".join(filter(None, (item.text, *_describe_fields(item), _format_note(item)))),
                "\n".join(_describe_remedies(item)),
            )
            for item in found.items
        ),
    )


def _describe_fields(item: InboxItem) -> list[str]:
    return [f"{describe_field(each['pointer'])}: {each['message']}" for each in item.fields]


def _format_deadline(item: InboxItem) -> str:
    if item.deadline_at is not None:
        return f"{item.deadline_at:%Y-%m-%d %H:%M} UTC"
    return "" if item.entry_on is None else f"entry {item.entry_on}"


def _format_note(item: InboxItem) -> str:
    if item.acknowledged is None:
        return ""
    return f"(acknowledged by {item.acknowledged.by}{f': {item.acknowledged.note}' if item.acknowledged.note else ''})"


def _describe_remedies(item: InboxItem) -> list[str]:
    given = {"export": item.export_id, "delivery": item.delivery_id, "partner": item.partner_id}
    # Without an export, a dead letter is about a registered plan.
    commands = _COMMANDS if item.export_id is not None else _COMMANDS | _COMMANDS_OF_LETTERS
    return [commands[each].format(**given) for each in item.remedies]
