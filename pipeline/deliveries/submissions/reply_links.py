"""The link in a handoff's e-mail: it opens one handoff, to answer it without an account, until it is revoked."""

import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.accounts.models import Partner
from pipeline.accounts.portal_links import PartnerVisitor
from pipeline.core import tenancy
from pipeline.core.errors import NO_LINK, InvalidState, NotFound
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import decode_token, encode_token
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.schemas.messages import MessageType

_PURPOSE: Final = "answer-links"


@dataclass(frozen=True)
class ReplyLink:
    """The link to one handoff. It ends when the partner's links are `revoked` once more."""

    notification_id: str
    revoked: int
    token: str


def build_reply_link(settings: Settings, notification_id: str, revoked: int = 0) -> ReplyLink:
    """Return the link to a handoff, the same at each call; `revoked` is how often the partner's links were revoked."""
    payload = uuid.UUID(notification_id).bytes + revoked.to_bytes(4, "big")
    token = encode_token(secrets.build_secret_box(settings), _PURPOSE, payload)
    return ReplyLink(notification_id, revoked, token)


def parse_reply_link(settings: Settings, token: str) -> ReplyLink:
    """Return the link of the token. Raises NotFound if the token is not ours. It may be revoked."""
    payload = decode_token(secrets.build_secret_box(settings), _PURPOSE, token)
    if payload is None:
        raise NotFound(NO_LINK)
    return ReplyLink(str(uuid.UUID(bytes=payload[:16])), int.from_bytes(payload[16:], "big"), token)


def open_reply_link(runtime: Runtime, link: ReplyLink) -> tuple[PartnerVisitor, str]:
    """Return the holder of the link, and the id of its handoff's submission. Raises NotFound, InvalidState if revoked."""
    is_partner = (col(Partner.account_id) == BrokerSubmission.account_id) & (
        col(Partner.id) == BrokerSubmission.partner_id
    )
    # The link is the credential.
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        found = session.execute(
            select(BrokerSubmission, col(Partner.test), col(Partner.reply_links_revoked))
            .join(Partner, is_partner)
            .join(Notification, col(Notification.export_id) == col(BrokerSubmission.export_id))
            .where(
                col(Notification.id) == link.notification_id,
                col(Notification.event_type) == MessageType.HANDOFF_READY.value,
            )
        ).first()
    if found is None:
        raise NotFound(NO_LINK)
    submission, test, revoked = found
    if link.revoked != revoked:
        raise InvalidState("this link was revoked; ask for the handoff to be sent again")
    return PartnerVisitor(submission.account_id, submission.partner_id, test), submission.id
