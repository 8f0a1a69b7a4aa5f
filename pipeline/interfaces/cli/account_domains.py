"""The domains to which an account may send mail, and of the people whom it may invite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from pipeline.accounts import service
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
    kept = _set_domains(account, service.MAIL, domains or [], any_domain=any_domain)
    text = f"account [bold]{escape(account)}[/] may send mail to {escape(describe_domains(kept))}"
    print_result({"id": account, "mailDomains": kept}, f"[green]✓[/] {text}", as_json=as_json)


@report_errors
def set_people_domains(
    account: AccountId, domains: Domains = None, any_domain: AnyDomain = False, as_json: Json = False
) -> None:
    """Set the domains of the e-mail addresses that an account may invite; `people add` may add others."""
    kept = _set_domains(account, service.PEOPLE, domains or [], any_domain=any_domain)
    text = f"account [bold]{escape(account)}[/] may invite people of {escape(describe_domains(kept))}"
    print_result({"id": account, "peopleDomains": kept}, f"[green]✓[/] {text}", as_json=as_json)


def describe_domains(domains: Sequence[str] | None) -> str:
    """Return the domains as words."""
    return "any domain" if domains is None else ", ".join(domains) or "no domain"


def _set_domains(account: str, use: service.DomainUse, domains: list[str], *, any_domain: bool) -> list[str] | None:
    if any_domain and domains:
        raise Failure(
            "--any must stand without domains: it allows every domain",
            code=ExitCode.USAGE,
            remedy="Leave out --any or the domains.",
        )
    with open_current_runtime() as runtime:
        return service.set_domains(runtime, account, use, None if any_domain else domains, actor=COMMAND_LINE)
