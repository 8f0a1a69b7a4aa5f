"""The command `exports events`: the log of an export, or the feed of the account."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from pipeline.client import Exports
from pipeline.exports.schemas.export import EventView
from pipeline.interfaces.cli import export_view
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, print_json, report_errors, stdout_console

app = typer.Typer()


@app.command()
@report_errors
def events(
    export: Annotated[str | None, typer.Argument(metavar="[ID]", help="The export's id, or its batch's.")] = None,
    account: Annotated[bool, typer.Option("--account", help="Show the events of all exports of the account.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new events, too, until Ctrl-C.")] = False,
    after: Annotated[
        str | None, typer.Option(help="Start after the event with this sequence number; with --account, with this id.")
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="With --account: only events of this type. May be repeated.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show an export's log, or with --account all events of the account; with --json one event a line."""
    if account == (export is not None):
        raise Failure("give either an export's id or --account", code=ExitCode.USAGE)
    if types and not account:
        raise Failure("--type needs --account; give both, or leave --type out", code=ExitCode.USAGE)
    with connect(api_url, api_key) as api:
        for event in _open_stream(api, export, after, types or (), follow=follow):
            if as_json:
                print_json(event.model_dump_json(by_alias=True))
            else:
                stdout_console().print(export_view.format_event(event), soft_wrap=True)


def _open_stream(
    api: Exports, export: str | None, after: str | None, types: Sequence[str], *, follow: bool
) -> Iterator[EventView]:
    if export is None:
        read_feed = api.follow_account if follow else api.account_events
        return read_feed(after=after, types=types)
    if after is not None and not (after.isascii() and after.isdecimal()):
        raise Failure(f"--after is {after}; give the sequence number of an event, such as 7", code=ExitCode.USAGE)
    read_log = api.follow if follow else api.events
    return read_log(export, after=int(after or 0))
