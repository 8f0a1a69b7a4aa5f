"""`exports partners link`, `links` and `unlink`: the links by which a partner opens its portal."""

from collections.abc import Callable
from typing import Annotated, Final

import typer
from rich.markup import escape

from pipeline.accounts import portal_links
from pipeline.accounts.schemas import PortalLinkView
from pipeline.core.clock import utc_now
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli.output import Json, build_table, print_result
from pipeline.interfaces.cli.profiles import default_account
from pipeline.interfaces.cli.session import open_current_runtime
from pipeline.interfaces.event_text import GOOD, count_noun

OfAccount = Annotated[
    str,
    typer.Option(
        "--account",
        metavar="ACCOUNT",
        default_factory=default_account,
        show_default=False,
        help="The account that the partner belongs to.",
    ),
]
Partner = Annotated[str, typer.Argument(metavar="ID", help="The partner's id in plans.")]


def create_link(
    partner: Partner,
    account: OfAccount,
    days: Annotated[int, typer.Option(min=1, max=90, metavar="DAYS", help="How long the link works.")] = 7,
    as_json: Json = False,
) -> None:
    """Create a link to a partner's portal, shown once; anyone who has it can act as the partner."""
    with open_current_runtime() as runtime:
        created = portal_links.create_portal_link(runtime, account, partner, days, created_by=COMMAND_LINE)
    print_result(
        created,
        f"[green]{GOOD}[/] a link to the portal of [bold]{escape(created.partner_id)}[/], until"
        f" {created.expires_at:%Y-%m-%d %H:%M} UTC",
        f"  {created.url}",
        hint="  Give it only to the partner; it is not shown again."
        f"\n  To end it: `exports partners unlink {escape(created.partner_id)} --account {escape(account)} --link {created.id}`",
        as_json=as_json,
    )


def list_links(partner: Partner, account: OfAccount, as_json: Json = False) -> None:
    """List a partner's portal links with their last use, including ended ones."""
    with open_current_runtime() as runtime:
        rows = portal_links.list_portal_links(runtime, account, partner)
    table = build_table(
        ("link", "created", "by", "last used", "state"),
        (
            (
                row.id,
                f"{row.created_at:%Y-%m-%d %H:%M}",
                row.created_by,
                "never" if row.last_used_at is None else f"{row.last_used_at:%Y-%m-%d %H:%M}",
                _describe_state(row),
            )
            for row in rows
        ),
    )
    print_result(rows, table, as_json=as_json)


def revoke_links(
    partner: Partner,
    account: OfAccount,
    link: Annotated[
        str | None,
        typer.Option(
            metavar="LINK", help="As `exports partners links` shows it; without it, all, and the links in its e-mails."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Revoke a partner's portal links, and end their sessions."""
    with open_current_runtime() as runtime:
        if link is None:
            rows = portal_links.revoke_portal_links(runtime, account, partner, revoked_by=COMMAND_LINE)
        else:
            rows = [portal_links.revoke_portal_link(runtime, account, partner, link, revoked_by=COMMAND_LINE)]
    text = f"[green]{GOOD}[/] {count_noun(len(rows), 'portal link')} of [bold]{escape(partner)}[/] revoked"
    print_result(rows, text, as_json=as_json)


def _describe_state(row: PortalLinkView) -> str:
    if row.revoked_at is not None:
        return f"revoked {row.revoked_at:%Y-%m-%d %H:%M}"
    return f"{'expired' if row.expires_at <= utc_now() else 'until'} {row.expires_at:%Y-%m-%d %H:%M}"


#: name below `exports partners` -> the function that runs it
COMMANDS: Final[dict[str, Callable[..., None]]] = {"link": create_link, "links": list_links, "unlink": revoke_links}
