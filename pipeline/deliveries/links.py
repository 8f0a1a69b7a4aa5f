"""Links to documents: whoever holds one may fetch one document, without a key, for a while and in the name of its holder."""

from __future__ import annotations

import hmac
import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import api_keys, secrets
from pipeline.accounts.api_keys import READ, Caller
from pipeline.core import tenancy
from pipeline.core.errors import InsufficientRole, InvalidApiKey, NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.messages import ArtifactLink, HandoffReady, MessageType
from pipeline.deliveries.schemas.views import DocumentLink
from pipeline.deliveries.submissions import SubmissionOwner
from pipeline.documents import repository
from pipeline.exports import queries
from pipeline.exports.models import Artifact

#: What a link may be used for; signed with it, so that a later kind of link could not pass for this one.
METHOD: Final = "GET"

_PURPOSE: Final = "document-links"
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{16,700})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class LinkClaims:
    """What a link says: which document of which account, for whom, and until when; `key_id` is the secret key's."""

    key_id: str
    account_id: str
    artifact_id: str
    holder: str  # partner:ID or key:ID; with what the holder may read ends what the link opens
    ends_at: datetime


def partner_holder(partner_id: str) -> str:
    """Return the holder of links that are sent to a partner."""
    return f"partner:{partner_id}"


def key_holder(key_id: str) -> str:
    """Return the holder of links that are made for whoever has an API key; they end with it."""
    return f"key:{key_id}"


def build_link_url(settings: Settings, account_id: str, artifact_id: str, holder: str, ends_at: datetime) -> str:
    """Return the address that `holder` may fetch the document at until `ends_at`: the same one at every call."""
    key_id, key = next(iter(_load_keys(settings).items()))
    claims = json.dumps([key_id, account_id, artifact_id, holder, int(ends_at.timestamp())], separators=(",", ":"))
    payload = _encode(claims.encode())
    return f"{settings.public_url.rstrip('/')}/documents/{payload}.{_encode(_sign(key, payload))}"


def verify_token(settings: Settings, token: str, now: datetime) -> LinkClaims:
    """Return what a token of ours says; raises NotFound where it is none, was changed, or has ended."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise link_not_found()
    payload, given = match[1], match[2]
    # All are compared, so that the time it takes tells nothing.
    matching_keys = [
        key_id
        for key_id, key in _load_keys(settings).items()
        if hmac.compare_digest(_encode(_sign(key, payload)), given)
    ]
    if not matching_keys:
        raise link_not_found()
    key_id, account_id, artifact_id, holder, until = json.loads(_decode(payload))
    claims = LinkClaims(key_id, account_id, artifact_id, holder, datetime.fromtimestamp(until, UTC))
    if matching_keys != [key_id] or now >= claims.ends_at:
        raise link_not_found()
    return claims


def find_linked_document(runtime: Runtime, claims: LinkClaims) -> Artifact:
    """Return the document of a link; raises NotFound where it is gone, or its holder may not read it any more."""
    try:
        with tenancy.account_scope(claims.account_id):
            with runtime.db.read() as session:
                handed = repository.find_artifact(session, claims.account_id, claims.artifact_id)
            kind, _, holder = claims.holder.partition(":")
            if kind == "partner":
                caller = Caller(claims.account_id, "", "live", frozenset({claims.holder}))
            else:
                caller = api_keys.find_caller_by_key_id(runtime, holder)
            if caller.account_id != claims.account_id:
                raise link_not_found()
            check_may_read(caller, handed.broker_id, "")
    except (NotFound, InvalidApiKey, InsufficientRole):
        raise link_not_found() from None
    return handed.artifact


def check_may_read(caller: Caller, broker_id: str, missing: str) -> None:
    """Let those pass who may read the account's documents, and the customs broker that this one was made for.

    Raises InsufficientRole, and NotFound with the sentence `missing` to another partner, who learns nothing of it.
    """
    if caller.has_role(READ) or broker_id in caller.partner_ids:
        return
    if caller.partner_ids:
        raise NotFound(missing)
    raise InsufficientRole(
        f"this call needs a key with the role {READ}, or the role of the partner it was handed to. {caller.describe_key_creation(READ)}"
    )


def create_key_link(settings: Settings, caller: Caller, row: Artifact, now: datetime) -> DocumentLink:
    """Return a link to a document that whoever has the key may read; it is good for minutes, and ends with the key."""
    return _build_link(settings, key_holder(caller.key_id), row.account_id, row, now)


def create_handoff_links(
    session: Session, settings: Settings, submission: SubmissionOwner, holder: str, now: datetime
) -> list[DocumentLink]:
    """Return links to all documents that a handoff names, in its order; raises NotFound where it was purged."""
    message = session.scalars(
        select(col(Notification.data)).where(
            col(Notification.export_id) == submission.export_id,
            col(Notification.event_type) == MessageType.HANDOFF_READY.value,
        )
    ).first()
    export = queries.find_export(session, submission.account_id, submission.export_id)
    if message is None or export.purged_at is not None:
        raise NotFound(f"the documents of broker submission {submission.id} were purged when their retention ended")
    ready = HandoffReady.model_validate_json(message)
    named = {link.id: link for unit in ready.units for link in (unit.invoice_data, *unit.artifacts) if link}
    return [_build_link(settings, holder, submission.account_id, link, now) for link in named.values()]


def add_signed_links(
    settings: Settings, notification: Notification, partner_id: str, data: dict[str, Any]
) -> dict[str, Any]:
    """Return the data of a handoff's message with a link beside the address of each document, the same at every call."""
    ends_at = (notification.created_at + timedelta(seconds=settings.document_link_seconds)).replace(microsecond=0)
    until = ends_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    for link in _iterate_links(data):
        link["signedUrl"] = build_link_url(
            settings, notification.account_id, link["id"], partner_holder(partner_id), ends_at
        )
        link["signedUntil"] = until
    return data


def mail_link_expiry(settings: Settings, notification: Notification, sent_at: datetime) -> datetime:
    """Return when the links in an e-mail end: it is read when somebody comes to it, not within minutes."""
    return link_expiry(notification.created_at, settings.mail_link_days, sent_at)


def _iterate_links(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for unit in data["units"]:
        yield from unit["artifacts"]
        if unit["invoiceData"] is not None:
            yield unit["invoiceData"]


def _build_link(
    settings: Settings, holder: str, account_id: str, document: Artifact | ArtifactLink, now: datetime
) -> DocumentLink:
    ends_at = (now + timedelta(seconds=settings.document_link_seconds)).replace(microsecond=0)
    return DocumentLink(
        id=document.id,
        artifact_type=document.artifact_type,
        filename=document.filename,
        media_type=document.media_type,
        size=document.size,
        sha256=document.sha256,
        signed_url=build_link_url(settings, account_id, document.id, holder, ends_at),
        signed_until=ends_at,
    )


def _load_keys(settings: Settings) -> dict[str, bytes]:
    """Return the keys that count, the newest first: a link outlives the key it was made with until that is taken away."""
    return {
        key_id: token.encode() for key_id, token in secrets.build_secret_box(settings).named_tokens(_PURPOSE).items()
    }


def _sign(key: bytes, payload: str) -> bytes:
    return hmac.digest(key, f"exports link v1\n{METHOD}\n{payload}".encode(), "sha256")


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def link_not_found() -> NotFound:
    """Return the one refusal for all causes: what is wrong with a link is told to nobody."""
    return NotFound("this link leads nowhere, or its time is over; ask for a new one")


def link_expiry(written_at: datetime, days: int, sent_at: datetime) -> datetime:
    """Return when links end in an e-mail about what was written at `timestamp_column`: after `days`, or as many times that as it takes.

    At least half of `days` is left when it is sent. So all tries of one sending say the same, as far as they lie within the
    other half, and an e-mail that a person has sent again after weeks is one that can be answered.
    """
    age = (sent_at - written_at) / timedelta(days=days)
    return (written_at + max(1, math.ceil(age + 0.5)) * timedelta(days=days)).replace(microsecond=0)
