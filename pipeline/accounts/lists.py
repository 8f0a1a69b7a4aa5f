"""Pages of an account's keys, people and portal links, newest first; and the names of its partners."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, or_, select
from sqlmodel import Session, col

from pipeline.accounts import api_keys, people, portal_links
from pipeline.accounts.api_keys import ApiKeyRecord
from pipeline.accounts.models import ApiKey, Membership, Partner, Person, PortalLink
from pipeline.accounts.people import Member
from pipeline.accounts.schemas import PortalLinkView
from pipeline.core.pages import Page, read_page
from pipeline.core.runtime import Runtime


def list_key_page(
    session: Session, account_id: str, *, ended: bool, now: datetime, after: str | None, limit: int
) -> Page[ApiKeyRecord]:
    """Return a page of the account's valid keys, or of those that `ended`, after the key with the id `after`.

    Raises ValidationFailed if the account has no key `after`.
    """
    over = or_(col(ApiKey.revoked_at).is_not(None), col(ApiKey.expires_at) <= now)
    return read_page(
        session,
        select(ApiKey).where(col(ApiKey.account_id) == account_id),
        [col(ApiKey.created_at), col(ApiKey.id)],
        api_keys.build_record,
        after=after,
        limit=limit,
        wanted=over.is_(True) if ended else over.is_not(True),
    )


def list_member_page(session: Session, account_id: str, *, after: str | None, limit: int) -> Page[Member]:
    """Return a page of the account's people by their invitation, after the person with the id `after`.

    Raises ValidationFailed if the account has no person `after`.
    """
    query = select(Person, Membership).join(Membership, col(Membership.person_id) == col(Person.id))
    return read_page(
        session,
        query.where(col(Membership.account_id) == account_id),
        [col(Membership.invited_at), col(Membership.person_id)],
        people.build_member,
        after=after,
        limit=limit,
    )


def list_link_page(
    session: Session, account_id: str, partner_id: str, *, after: str | None, limit: int
) -> Page[PortalLinkView]:
    """Return a page of the partner's portal links, also ended ones, after the link with the id `after`.

    Raises ValidationFailed if the partner has no link `after`.
    """
    query = select(PortalLink).where(*portal_links.is_of_partner(account_id, partner_id))
    return read_page(session, query, [col(PortalLink.id)], portal_links.build_view, after=after, limit=limit)


def has_valid_link(session: Session, account_id: str, partner_id: str) -> bool:
    """Return whether any portal link of the partner opens its portal now."""
    valid = exists().where(*portal_links.is_of_partner(account_id, partner_id), *portal_links.is_valid_link())
    return bool(session.scalar(select(valid)))


@dataclass(frozen=True)
class PartnerName:
    """A partner as an option of a form."""

    id: str
    kind: str
    name: str


def list_partner_names(runtime: Runtime, account_id: str) -> Sequence[PartnerName]:
    """Return all partners of the account, ordered by id."""
    columns = col(Partner.id), col(Partner.kind), col(Partner.name)
    with runtime.db.read() as session:
        rows = session.execute(select(*columns).where(col(Partner.account_id) == account_id).order_by(col(Partner.id)))
        return [PartnerName(*row) for row in rows]
