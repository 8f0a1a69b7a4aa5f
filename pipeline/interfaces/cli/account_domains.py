"""The domains to which an account may send mail, and of the people whom it may invite."""

from typing import Annotated

import typer
from rich.markup import escape

from pipeline.accounts.domains import MAIL, PEOPLE, DomainUse, describe_domains, set_domains
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.interfaces.cli.output import ExitCode, Failure, Json, print_result, report_errors
from pipeline.interfaces.cli.session import open_current_runtime

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id, such as acc_demo.")]
Domains = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DOMAIN]...", help="Such as broker.example; without any, none is allowed."),
]
AnyDomain = Annotated[bool, typer.Option("--any", help="Allow any domain, the default.")]


@report_errors
def set_mail_domains(
    account: AccountId, domains: Domains = None, any_domain: AnyDomain = False, as_json: Json = False
) -> None:
    """Set the domains to which an account may send mail."""
    _set_domains(account, MAIL, domains or [], any_domain=any_domain, as_json=as_json)


@report_errors
def set_people_domains(
    account: AccountId, domains: Domains = None, any_domain: AnyDomain = False, as_json: Json = False
) -> None:
    """Set the domains of the e-mail addresses that an account may invite; `people add` may add others."""
    _set_domains(account, PEOPLE, domains or [], any_domain=any_domain, as_json=as_json)


def _set_domains(account: str, use: DomainUse, given: list[str], *, any_domain: bool, as_json: bool) -> None:
    if any_domain and given:
        raise Failure(
            "--any must stand without domains: it allows every domain",
            code=ExitCode.USAGE,
            remedy="Leave out --any or the domains.",
        )
    with open_current_runtime() as runtime:
        kept = set_domains(runtime, account, use, None if any_domain else given, actor=COMMAND_LINE)
    text = f"account [bold]{escape(account)}[/] may {use.may} {escape(describe_domains(kept))}"
    print_result({"id": account, use.name: kept}, f"[green]✓[/] {text}", as_json=as_json)
