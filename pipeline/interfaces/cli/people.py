"""`exports people`: who may sign in to the console; on the database directly, because the first person needs no person."""

from typing import Annotated

import typer
from rich.markup import escape

from config.settings import Settings
from pipeline.accounts import people
from pipeline.accounts.one_time_links import LINK_SECONDS
from pipeline.accounts.people import Invitation
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli.accounts import KeyRole
from pipeline.interfaces.cli.output import Json, build_table, print_result, report_errors
from pipeline.interfaces.cli.output_models import ListedPerson
from pipeline.interfaces.cli.profiles import default_account
from pipeline.interfaces.cli.session import ensure_account, open_current_runtime

app = typer.Typer(no_args_is_help=True, help="The people who sign in to the console.")

OfAccount = Annotated[
    str,
    typer.Option(
        "--account",
        metavar="ACCOUNT",
        default_factory=default_account,
        show_default=False,
        help="The account that the person belongs to.",
    ),
]
Email = Annotated[str, typer.Option("--email", metavar="EMAIL", help="The person's e-mail address.")]


@app.command("add")
@report_errors
def add(
    account: OfAccount,
    email: Email,
    roles: Annotated[list[KeyRole], typer.Option("--role", help="What the person may do; may be repeated.")],
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    test: Annotated[bool, typer.Option("--test", help="The person may only act on test exports and partners.")] = False,
    as_json: Json = False,
) -> None:
    """Invite a person to an account; print the link by which they set up their sign-in, once."""
    with open_current_runtime() as runtime:
        invited = people.invite_person(
            runtime,
            account,
            COMMAND_LINE,
            email=email,
            name=name,
            roles=[role.value for role in roles],
            mode="test" if test else "live",
        )
        address = build_link(runtime.settings, invited.token)
    _print_link(invited, address, as_json)


@app.command("link")
@report_errors
def link(account: OfAccount, email: Email, as_json: Json = False) -> None:
    """Print a new link for a person who lost the password, the app, or the first link, once."""
    with open_current_runtime(must_exist=True) as runtime:
        with runtime.db.read() as session:
            member = people.find_member(session, account, email=email)
        invited = people.create_reset_link(runtime, account, COMMAND_LINE, member.person_id, of_operator=True)
        address = build_link(runtime.settings, invited.token)
    _print_link(invited, address, as_json)


@app.command("list")
@report_errors
def list_people(account: OfAccount, as_json: Json = False) -> None:
    """List the people of an account."""
    with open_current_runtime(must_exist=True) as runtime:
        ensure_account(runtime, account)
        with runtime.db.read() as session:
            members = people.list_members(session, account)
    table = build_table(
        ("person", "e-mail", "name", "roles", "state"),
        (
            (
                each.person_id,
                each.email,
                each.name,
                ", ".join(each.roles) + (" (test)" if each.mode == "test" else ""),
                "disabled" if each.disabled_at else "joined" if each.joined_at else "invited",
            )
            for each in members
        ),
    )
    print_result([ListedPerson.model_validate(each) for each in members], table, as_json=as_json)


@app.command("disable")
@report_errors
def disable(email: Email, as_json: Json = False) -> None:
    """End a person's sessions now and let them sign in no more, on every account."""
    with open_current_runtime(must_exist=True) as runtime:
        people.disable_person(runtime, COMMAND_LINE, email)
    print_result(
        {"email": email, "disabled": True}, f"[green]✓[/] [bold]{escape(email)}[/] is disabled", as_json=as_json
    )


@app.command("enable")
@report_errors
def enable(email: Email, as_json: Json = False) -> None:
    """Let a disabled person sign in again."""
    with open_current_runtime(must_exist=True) as runtime:
        people.disable_person(runtime, COMMAND_LINE, email, disabled=False)
    print_result(
        {"email": email, "disabled": False}, f"[green]✓[/] [bold]{escape(email)}[/] may sign in again", as_json=as_json
    )


def build_link(settings: Settings, token: str) -> str:
    """Return the address of a one-time link."""
    return f"{settings.public_url}/console/links/{token}"


def _print_link(invited: Invitation, address: str, as_json: bool) -> None:
    days = LINK_SECONDS // 86400
    print_result(
        {"personId": invited.person_id, "email": invited.email, "link": address},
        f"[green]✓[/] give [bold]{escape(invited.email)}[/] this link; it works once, within {days} days, and is shown only now:",
        f"  {escape(address)}",
        as_json=as_json,
    )
