"""Portal links: each opens the portal of one partner until it expires or is revoked. Only the hash of its token is stored."""

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts.models import Partner, PortalLink
from pipeline.accounts.partners import load_partner, lock_partner
from pipeline.accounts.schemas import CreatedPortalLink, PortalLinkView
from pipeline.accounts.sessions import hash_token
from pipeline.core import tenancy
from pipeline.core.db import database_now
from pipeline.core.errors import InvalidState, NotFound, Retryable, ValidationFailed
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.audit_trail import PORTAL_PREFIX, Action, record_act

log = structlog.get_logger(__name__)

#: A partner has at most this many valid links, so that a person can look at all of them.
MAX_VALID_LINKS: Final = 20
MAX_LINKS_SHOWN: Final = 100

#: `last_used_at` is written at most this often.
LAST_USED_PRECISION_SECONDS: Final = 60.0

_LINK_ID: Final = re.compile(r"lnk_[0-9a-hjkmnp-tv-z]{26}")
_TOKEN: Final = re.compile(rf"({_LINK_ID.pattern})\.([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True)
class PartnerVisitor:
    """The holder of a link: it may see and do what concerns this partner of this account, and nothing else."""

    account_id: str
    partner_id: str
    test: bool  # whether the partner is marked test, so that test exports reach it


@dataclass(frozen=True)
class PortalVisitor(PartnerVisitor):
    """The holder of a portal link."""

    link_id: str
    expires_at: datetime

    @property
    def actor(self) -> str:
        """The visitor's name in the log."""
        return f"{PORTAL_PREFIX}{self.link_id}"


def create_portal_link(
    runtime: Runtime,
    account_id: str,
    partner_id: str,
    days: int,
    *,
    created_by: str,
    test_only: bool = False,
    link_id: str | None = None,
) -> CreatedPortalLink:
    """Create a link that works for `days`, and return it with its URL, which is shown only once.

    A form names the new link by `link_id`, from `generate_link_id`, so that the same form cannot create two links. Raises
    NotFound, ValidationFailed if `link_id` is not an id, InvalidState if the link exists or the partner has too many valid
    ones, and InsufficientRole if `test_only` and the partner is not marked test. The functions that revoke also raise
    InsufficientRole in that case.
    """
    link_id = link_id or generate_link_id()
    if not _LINK_ID.fullmatch(link_id):
        raise ValidationFailed("the form does not name its new link; load the page again", field="/id")
    token = f"{link_id}.{secrets.token_urlsafe(32)}"
    with runtime.db.write() as session:
        lock_partner(session, account_id, partner_id, test_only=test_only)
        valid = session.scalar(
            select(func.count()).select_from(PortalLink).where(*is_of_partner(account_id, partner_id), *is_valid_link())
        )
        if session.get(PortalLink, link_id) is not None:
            raise InvalidState(
                f"portal link {link_id} was created already, and was shown only then; revoke it and create another"
            )
        if (valid or 0) >= MAX_VALID_LINKS:
            raise InvalidState(f"{partner_id} has {valid} valid portal links, its maximum; revoke one first")
        now = session.execute(select(database_now())).scalar_one()
        row = PortalLink(
            id=link_id,
            account_id=account_id,
            partner_id=partner_id,
            token_hash=hash_token(token),
            created_by=created_by,
            created_at=now,
            expires_at=now + timedelta(days=days),
        )
        session.add(row)
        created = CreatedPortalLink(**dict(build_view(row)), url=build_portal_url(runtime.settings, token))
        detail = {"linkId": link_id, "days": days}
        record_act(session, account_id, created_by, Action.PORTAL_LINK_CREATED, partner_id, detail)
        return created


def generate_link_id() -> str:
    """Return a new id of a link."""
    return new_id("lnk")


def build_portal_url(settings: Settings, token: str) -> str:
    """Return the URL that opens the portal. The token is in the fragment, which browsers do not send and servers do not log."""
    return f"{settings.public_url}/portal/open#{token}"


def list_portal_links(runtime: Runtime, account_id: str, partner_id: str) -> list[PortalLinkView]:
    """Return the partner's newest links, newest first, including ended ones. Raises NotFound."""
    with runtime.db.read() as session:
        load_partner(session, account_id, partner_id)
        rows = session.scalars(
            select(PortalLink)
            .where(*is_of_partner(account_id, partner_id))
            .order_by(col(PortalLink.id).desc())
            .limit(MAX_LINKS_SHOWN)
        )
        return [build_view(row) for row in rows]


def revoke_portal_link(
    runtime: Runtime, account_id: str, partner_id: str, link_id: str, *, revoked_by: str, test_only: bool = False
) -> PortalLinkView:
    """Revoke one link and its sessions now. Revoking it again changes nothing. Raises NotFound."""
    found = _revoke(runtime, account_id, partner_id, [col(PortalLink.id) == link_id], revoked_by, test_only=test_only)
    if not found:
        raise NotFound(f"partner {partner_id} has no portal link {link_id}")
    return found[0]


def revoke_portal_links(
    runtime: Runtime, account_id: str, partner_id: str, *, revoked_by: str, test_only: bool = False
) -> list[PortalLinkView]:
    """Revoke all portal links of the partner, their sessions, and the reply links in e-mails that it got.

    Return the portal links that were valid, newest first. An e-mail that is resent has a new reply link. Raises NotFound.
    """
    return _revoke(
        runtime, account_id, partner_id, is_valid_link(), revoked_by, test_only=test_only, with_reply_links=True
    )


def open_portal(runtime: Runtime, token: str) -> PortalVisitor:
    """Return the visitor that holds the token, and record that it opened the portal.

    Raises NotFound if the token is unknown, expired or revoked.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise portal_link_not_found()
    visitor = _find_visitor(runtime, match[1], hash_token(token))
    with tenancy.account_scope(visitor.account_id), runtime.db.write() as session:
        session.execute(
            update(PortalLink).where(col(PortalLink.id) == visitor.link_id).values(last_used_at=database_now())
        )
        record_act(session, visitor.account_id, visitor.actor, Action.PORTAL_OPENED, visitor.partner_id)
    return visitor


def find_visitor(runtime: Runtime, link_id: str) -> PortalVisitor:
    """Return the visitor of a link that was opened before. Raises NotFound if it has expired or was revoked."""
    return _find_visitor(runtime, link_id, None)


def record_link_use(runtime: Runtime, visitor: PortalVisitor) -> None:
    """Set the link's last use to now, unless that is less than a minute old. If the database is busy, only log it."""
    long_ago = or_(
        col(PortalLink.last_used_at).is_(None),
        col(PortalLink.last_used_at) <= database_now(-LAST_USED_PRECISION_SECONDS),
    )
    try:
        with tenancy.account_scope(visitor.account_id), runtime.db.write() as session:
            session.execute(
                update(PortalLink)
                .where(col(PortalLink.id) == visitor.link_id, long_ago)
                .values(last_used_at=database_now())
            )
    except Retryable as error:
        log.warning("portal_link_use_not_recorded", link_id=visitor.link_id, reason=str(error))


def portal_link_not_found() -> NotFound:
    """Return the same NotFound for every cause, so that callers cannot probe links."""
    return NotFound("this link is not valid or has expired; ask the exporter for a new one")


def _find_visitor(runtime: Runtime, link_id: str, token_hash: str | None) -> PortalVisitor:
    is_partner = (col(Partner.account_id) == PortalLink.account_id) & (col(Partner.id) == PortalLink.partner_id)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        found = session.execute(
            select(PortalLink, col(Partner.test))
            .join(Partner, is_partner)
            .where(col(PortalLink.id) == link_id, *is_valid_link())
        ).first()
    known = hash_token("unknown") if found is None else found[0].token_hash
    if token_hash is not None and not hmac.compare_digest(known, token_hash):
        raise portal_link_not_found()
    if found is None:
        raise portal_link_not_found()
    row, test = found
    return PortalVisitor(row.account_id, row.partner_id, test, row.id, row.expires_at)


def _revoke(
    runtime: Runtime,
    account_id: str,
    partner_id: str,
    wanted: Sequence[ColumnElement[bool]],
    revoked_by: str,
    *,
    test_only: bool,
    with_reply_links: bool = False,
) -> list[PortalLinkView]:
    """Revoke the wanted links that are not revoked yet. Return all wanted links."""
    with runtime.db.write() as session:
        partner = lock_partner(session, account_id, partner_id, test_only=test_only)
        if with_reply_links:
            partner.reply_links_revoked += 1
            record_act(session, account_id, revoked_by, Action.REPLY_LINKS_REVOKED, partner_id)
        rows = session.scalars(
            select(PortalLink)
            .where(*is_of_partner(account_id, partner_id), *wanted)
            .order_by(col(PortalLink.id).desc())
            .limit(MAX_LINKS_SHOWN)
        ).all()
        still_valid = [row.id for row in rows if row.revoked_at is None]
        session.execute(
            update(PortalLink)
            .where(col(PortalLink.id).in_(still_valid))
            .values(revoked_at=database_now())
            .execution_options(synchronize_session=False)
        )
        session.expire_all()
        revoked = [build_view(row) for row in rows]
        for link_id in still_valid:
            detail = {"linkId": link_id}
            record_act(session, account_id, revoked_by, Action.PORTAL_LINK_REVOKED, partner_id, detail)
        return revoked


def is_of_partner(account_id: str, partner_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that a link is of this partner."""
    return col(PortalLink.account_id) == account_id, col(PortalLink.partner_id) == partner_id


def is_valid_link() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that a link has not expired and was not revoked."""
    return col(PortalLink.revoked_at).is_(None), col(PortalLink.expires_at) > database_now()


def build_view(row: PortalLink) -> PortalLinkView:
    """Return a link's row as its view."""
    return PortalLinkView(
        id=row.id,
        partner_id=row.partner_id,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
