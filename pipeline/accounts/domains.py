"""The domains to which an account may send mail, and of the people whom it may invite."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import null, update
from sqlmodel import Session, col, select

from pipeline.accounts.models import PartnerChannel
from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account

_DOMAIN: Final = re.compile(r"^[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+$")


@dataclass(frozen=True)
class DomainUse:
    """What an account `may` do only with some domains: their column and name, and the act of changing them."""

    may: str
    column: str
    name: str
    action: Action


MAIL: Final = DomainUse("send mail to", "mail_domains", "mailDomains", Action.MAIL_DOMAINS_CHANGED)
PEOPLE: Final = DomainUse("invite people of", "people_domains", "peopleDomains", Action.PEOPLE_DOMAINS_CHANGED)


def check_domain(use: DomainUse, allowed: Sequence[str] | None, address: str, *, field: str) -> None:
    """Raise ValidationFailed if the mail address has none of the allowed domains; None allows any."""
    if allowed is not None and _parse_domain(address) not in allowed:
        raise ValidationFailed(
            f"this account may {use.may} {describe_domains(allowed)}; the installation's operator adds others",
            field=field,
        )


def describe_domains(domains: Sequence[str] | None) -> str:
    """Return the domains as words; None is any."""
    return "any domain" if domains is None else ", ".join(domains) or "no domain"


def set_domains(
    runtime: Runtime, account_id: str, use: DomainUse, domains: Sequence[str] | None, *, actor: str | None = None
) -> list[str] | None:
    """Let the account do it only with these domains, or with any if None. Return them as stored.

    A domain does not include its subdomains. Members stay. Raises NotFound. Raises ValidationFailed if a domain is
    malformed, or a partner of the account has a mailbox elsewhere.
    """
    kept = None if domains is None else sorted({domain.lower() for domain in domains})
    for domain in kept or ():
        if not _DOMAIN.fullmatch(domain):
            raise ValidationFailed(f"{domain} is not a domain; give one like broker.example", field=f"/{use.name}")
    with runtime.db.write() as session:
        if session.scalar(select(col(Account.id)).where(col(Account.id) == account_id).with_for_update()) is None:
            raise NotFound(f"there is no account {account_id}", field="/accountId")
        if use is MAIL and kept is not None:
            _check_existing_mailboxes(session, account_id, kept)
        session.execute(
            update(Account).where(col(Account.id) == account_id).values({use.column: null() if kept is None else kept})
        )
        if actor is not None:
            detail = {"domains": "any" if kept is None else ", ".join(kept)}
            record_act(session, account_id, actor, use.action, account_id, detail)
    return kept


def _check_existing_mailboxes(session: Session, account_id: str, domains: Collection[str]) -> None:
    endpoints = session.execute(
        select(col(PartnerChannel.partner_id), col(PartnerChannel.endpoint)).where(
            col(PartnerChannel.account_id) == account_id, col(PartnerChannel.channel) == "email"
        )
    )
    for partner_id, endpoint in endpoints:
        elsewhere = [mailbox for mailbox in endpoint["addresses"] if _parse_domain(mailbox) not in domains]
        if elsewhere:
            raise ValidationFailed(
                f"partner {partner_id} has the address {', '.join(elsewhere)}; give it other addresses first",
                field=f"/{MAIL.name}",
            )


def _parse_domain(mailbox: str) -> str:
    return mailbox.rpartition("@")[2].lower()
