"""`exports partners`: the customs brokers, warehouses and operators of an account."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from pipeline import partners
from pipeline.commands.database import opened
from pipeline.commands.screen import ExitCode, Failure, Json, aside, out, print_json, reported
from pipeline.commands.view import table
from pipeline.schemas.channels import BorderBuddyWay, QueueWay, Way, WebhookWay
from pipeline.schemas.partners import HandoffPath, NewPartner, PartnerKind
from pipeline.schemas.profiles import BrokerProfile
from pipeline.schemas.reading import parse

app = typer.Typer(no_args_is_help=True, help="The customs brokers, warehouses and operators of an account.")

#: How deep the JSON of a profile may be nested.
MAX_DEPTH: Final = 8

OfAccount = Annotated[
    str, typer.Option("--account", metavar="ACCOUNT", help="The account that the partner belongs to.")
]


@app.command("add")
@reported
def add(
    partner: Annotated[str, typer.Argument(metavar="ID", help="What plans call it, such as br_123 or wh_123.")],
    account: OfAccount,
    kind: Annotated[PartnerKind, typer.Option(help="What it is.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    path: Annotated[HandoffPath | None, typer.Option(help="Of a customs broker. [default: byob]")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Reached by the queues of the contract, the default.")] = False,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Reached by signed webhooks at this address.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Of a customs broker: its import template; see docs/customs.md."),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="A stand-in that test exports may reach.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="It is known to work: live exports reach it without a connection test.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a partner; its signing secret is shown this once."""
    channels: list[Way] = [BorderBuddyWay()] if path == "borderbuddy" else []
    channels += [QueueWay()] if queue else []
    channels += [WebhookWay(address=webhook)] if webhook else []
    template = None if profile is None else _profile(profile)
    new = NewPartner(
        id=partner, kind=kind, name=name, test=test, path=path, profile=template, channels=channels, live=live
    )
    with opened() as runtime:
        made = partners.create(runtime, account, new)
    if as_json:
        print_json(made.model_dump_json(by_alias=True, indent=2))
        return
    ways = ", ".join(channel.channel for channel in made.channels)
    out().print(f"[green]✓[/] {made.kind.replace('_', ' ')} [bold]{escape(made.id)}[/], reached by {ways}")
    out().print(f"  signing secret {made.secret}", soft_wrap=True)
    aside().print("[dim]  Give it to the partner now: it is not shown again.[/]")


def _profile(path: Path) -> BrokerProfile:
    try:
        return parse(path.read_bytes(), BrokerProfile, max_depth=MAX_DEPTH).model
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error


@app.command("list")
@reported
def show(account: OfAccount, as_json: Json = False) -> None:
    """List an account's partners."""
    with opened() as runtime:
        rows = partners.listed(runtime, account)
    if as_json:
        print_json([row.model_dump(mode="json", by_alias=True) for row in rows])
        return
    made = table("partner", "kind", "name", "path", "channels", "state")
    for row in rows:
        state = f"{row.state}{', test' if row.test else ''}"
        ways = ", ".join(f"{way.channel} {getattr(way, 'address', '')}".strip() for way in row.channels)
        made.add_row(escape(row.id), row.kind.replace("_", " "), escape(row.name), row.path or "", escape(ways), state)
    out().print(made)
