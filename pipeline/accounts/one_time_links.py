"""One-time links: each lets one person join an account, set new credentials, or enter the demo."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlmodel import Session, col

from pipeline.accounts.models import OneTimeLink, Person
from pipeline.accounts.sessions import hash_token
from pipeline.core.db import database_now, row_count
from pipeline.core.errors import NotFound

LINK_SECONDS: Final = 3 * 24 * 3600

_TOKEN_BYTES: Final = 32


class Purpose(StrEnum):
    """What a one-time link is for: to join an account, to set new credentials, or to enter without any (the demo)."""

    JOIN = "join"
    RESET = "reset"
    ENTER = "enter"


@dataclass(frozen=True)
class LinkView:
    """A one-time link that can be used, and whose it is."""

    token_hash: str
    purpose: Purpose
    account_id: str
    person_id: str
    email: str
    name: str


def load_link(session: Session, token: str) -> LinkView:
    """Return the one-time link. Raises NotFound if it was used, has expired, or never existed."""
    row = session.execute(
        select(OneTimeLink, Person)
        .join(Person, col(Person.id) == col(OneTimeLink.person_id))
        .where(
            col(OneTimeLink.token_hash) == hash_token(token),
            col(OneTimeLink.used_at).is_(None),
            col(OneTimeLink.expires_at) > database_now(),
            col(Person.disabled_at).is_(None),
        )
    ).one_or_none()
    if row is None:
        raise NotFound(
            "this link was used, has expired or is incomplete; ask an administrator of the account for a new one"
        )
    link, person = row
    return LinkView(
        token_hash=link.token_hash,
        purpose=Purpose(link.purpose),
        account_id=link.account_id,
        person_id=person.id,
        email=person.email,
        name=person.name,
    )


def spend_link(session: Session, link: LinkView) -> None:
    """Mark the link as used, in the caller's transaction. Raises NotFound if another request was first."""
    used = update(OneTimeLink).where(col(OneTimeLink.token_hash) == link.token_hash, col(OneTimeLink.used_at).is_(None))
    if not row_count(session.execute(used.values(used_at=database_now()))):
        raise NotFound("this link was used; ask an administrator of the account for a new one")


def write_link(session: Session, account_id: str, person_id: str, purpose: Purpose) -> str:
    """Store a new link in place of an earlier one to the account, and return its token, the only copy."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    end_links(session, person_id, account_id=account_id)
    session.execute(
        insert(OneTimeLink).values(
            token_hash=hash_token(token),
            account_id=account_id,
            person_id=person_id,
            purpose=purpose.value,
            expires_at=database_now(LINK_SECONDS),
        )
    )
    return token


def end_links(
    session: Session, person_id: str, *, account_id: str | None = None, purpose: Purpose | None = None
) -> None:
    """End the person's links: all of them, or those to an account or for a purpose."""
    old = delete(OneTimeLink).where(col(OneTimeLink.person_id) == person_id)
    if account_id is not None:
        old = old.where(col(OneTimeLink.account_id) == account_id)
    if purpose is not None:
        old = old.where(col(OneTimeLink.purpose) == purpose.value)
    session.execute(old)
