"""The link in a handoff's e-mail: it opens one handoff, to answer it without an account, until it is revoked."""

import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.accounts.models import Partner
from pipeline.accounts.portal_links import PartnerVisitor
from pipeline.core import tenancy
from pipeline.core.errors import InvalidState, NotFound
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures, sign_text
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.schemas.messages import MessageType

# The notification's id (16 bytes), how often the partner's links were revoked before (4) and a signature over both (16).
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{48}")


@dataclass(frozen=True)
class ReplyLink:
    """The link to one handoff. It ends when the partner's links are `revoked` once more."""

    notification_id: str
    revoked: int
    token: str


def build_reply_link(settings: Settings, notification_id: str, revoked: int = 0) -> ReplyLink:
    """Return the link to a handoff, the same at each call; `revoked` is how often the partner's links were revoked."""
    payload = uuid.UUID(notification_id).bytes + revoked.to_bytes(4, "big")
    return ReplyLink(notification_id, revoked, _encode(payload, _sign(settings, payload).newest))


def parse_reply_link(settings: Settings, token: str) -> ReplyLink:
    """Return the link of the token. Raises NotFound if the token is not ours. It may be revoked."""
    if not _TOKEN.fullmatch(token):
        raise _no_link()
    raw = urlsafe_b64decode(token)
    payload, signature = raw[:20], raw[20:]
    if _sign(settings, payload).find_key(signature.hex()) is None:
        raise _no_link()
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
        raise _no_link()
    submission, test, revoked = found
    if link.revoked != revoked:
        raise InvalidState("this link was revoked; ask for the handoff to be sent again")
    return PartnerVisitor(submission.account_id, submission.partner_id, test), submission.id


def _no_link() -> NotFound:
    return NotFound("there is no such link")  # the same for every cause, so that callers cannot probe links


def _encode(payload: bytes, signature: str) -> str:
    return urlsafe_b64encode(payload + bytes.fromhex(signature)).decode()


def _sign(settings: Settings, payload: bytes) -> Signatures:
    return sign_text(secrets.build_secret_box(settings), "answer-links", payload, lambda raw: raw[:16].hex())
