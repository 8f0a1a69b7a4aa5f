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
from pipeline.deliveries.submissions import Submission
from pipeline.documents import repository
from pipeline.exports import queries
from pipeline.exports.models import Artifact

#: What a link may be used for; signed with it, so that a later kind of link could not pass for this one.
METHOD: Final = "GET"

_PURPOSE: Final = "document-links"
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{16,700})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Claim:
    """What a link says: which document of which account, for whom, and until when; `key_id` is the secret key's."""

    key_id: str
    account_id: str
    artifact_id: str
    holder: str  # partner:ID or key:ID; with what the holder may read ends what the link opens
    ends_at: datetime


def of_partner(partner_id: str) -> str:
    """Return the holder of links that are sent to a partner."""
    return f"partner:{partner_id}"


def of_key(key_id: str) -> str:
    """Return the holder of links that are made for whoever has an API key; they end with it."""
    return f"key:{key_id}"


def address(settings: Settings, account_id: str, artifact_id: str, holder: str, ends_at: datetime) -> str:
    """Return the address that `holder` may fetch the document at until `ends_at`: the same one at every call."""
    key_id, key = next(iter(_keys(settings).items()))
    said = json.dumps([key_id, account_id, artifact_id, holder, int(ends_at.timestamp())], separators=(",", ":"))
    payload = _written(said.encode())
    return f"{settings.public_url.rstrip('/')}/documents/{payload}.{_written(_signature(key, payload))}"


def opened(settings: Settings, token: str, now: datetime) -> Claim:
    """Return what a token of ours says; raises NotFound where it is none, was changed, or has ended."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise nothing()
    payload, given = match[1], match[2]
    # All are compared, so that the time it takes tells nothing.
    good = [
        key_id
        for key_id, key in _keys(settings).items()
        if hmac.compare_digest(_written(_signature(key, payload)), given)
    ]
    if not good:
        raise nothing()
    key_id, account_id, artifact_id, holder, until = json.loads(_read(payload))
    claim = Claim(key_id, account_id, artifact_id, holder, datetime.fromtimestamp(until, UTC))
    if good != [key_id] or now >= claim.ends_at:
        raise nothing()
    return claim


def document(runtime: Runtime, claim: Claim) -> Artifact:
    """Return the document of a link; raises NotFound where it is gone, or its holder may not read it any more."""
    try:
        with tenancy.account_scope(claim.account_id):
            with runtime.db.read() as session:
                handed = repository.find_artifact(session, claim.account_id, claim.artifact_id)
            kind, _, holder = claim.holder.partition(":")
            if kind == "partner":
                caller = Caller(claim.account_id, "", "live", frozenset({claim.holder}))
            else:
                caller = api_keys.caller_of_key(runtime, holder)
            if caller.account_id != claim.account_id:
                raise nothing()
            may_read(caller, handed.broker_id, "")
    except (NotFound, InvalidApiKey, InsufficientRole):
        raise nothing() from None
    return handed.artifact


def may_read(caller: Caller, broker_id: str, missing: str) -> None:
    """Let those pass who may read the account's documents, and the customs broker that this one was made for.

    Raises InsufficientRole, and NotFound with the sentence `missing` to another partner, who learns nothing of it.
    """
    if caller.may(READ) or broker_id in caller.partner_ids:
        return
    if caller.partner_ids:
        raise NotFound(missing)
    raise InsufficientRole(
        f"this call needs a key with the role {READ}, or the role of the partner it was handed to. {caller.to_get(READ)}"
    )


def for_key(settings: Settings, caller: Caller, row: Artifact, now: datetime) -> DocumentLink:
    """Return a link to a document that whoever has the key may read; it is good for minutes, and ends with the key."""
    return _link(settings, of_key(caller.key_id), row.account_id, row, now)


def of_handoff(
    session: Session, settings: Settings, submission: Submission, holder: str, now: datetime
) -> list[DocumentLink]:
    """Return links to all documents that a handoff names, in its order; raises NotFound where it was purged."""
    said = session.scalars(
        select(col(Notification.data)).where(
            col(Notification.export_id) == submission.export_id,
            col(Notification.event_type) == MessageType.HANDOFF_READY.value,
        )
    ).first()
    export = queries.find_export(session, submission.account_id, submission.export_id)
    if said is None or export.purged_at is not None:
        raise NotFound(f"the documents of broker submission {submission.id} were purged when their retention ended")
    ready = HandoffReady.model_validate_json(said)
    named = {link.id: link for unit in ready.units for link in (unit.invoice_data, *unit.artifacts) if link}
    return [_link(settings, holder, submission.account_id, link, now) for link in named.values()]


def signed(settings: Settings, said: Notification, partner_id: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a handoff's message with a link beside the address of each document, the same at every call."""
    ends_at = (said.created_at + timedelta(seconds=settings.document_link_seconds)).replace(microsecond=0)
    until = ends_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    for link in _named(data):
        link["signedUrl"] = address(settings, said.account_id, link["id"], of_partner(partner_id), ends_at)
        link["signedUntil"] = until
    return data


def mailed(settings: Settings, said: Notification, sent_at: datetime) -> datetime:
    """Return when the links in a letter end: it is read when somebody comes to it, not within minutes."""
    return until(said.created_at, settings.mail_link_days, sent_at)


def _named(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for unit in data["units"]:
        yield from unit["artifacts"]
        if unit["invoiceData"] is not None:
            yield unit["invoiceData"]


def _link(
    settings: Settings, holder: str, account_id: str, about: Artifact | ArtifactLink, now: datetime
) -> DocumentLink:
    ends_at = (now + timedelta(seconds=settings.document_link_seconds)).replace(microsecond=0)
    return DocumentLink(
        id=about.id,
        artifact_type=about.artifact_type,
        filename=about.filename,
        media_type=about.media_type,
        size=about.size,
        sha256=about.sha256,
        signed_url=address(settings, account_id, about.id, holder, ends_at),
        signed_until=ends_at,
    )


def _keys(settings: Settings) -> dict[str, bytes]:
    """Return the keys that count, the newest first: a link outlives the key it was made with until that is taken away."""
    return {key_id: token.encode() for key_id, token in secrets.box(settings).named_tokens(_PURPOSE).items()}


def _signature(key: bytes, payload: str) -> bytes:
    return hmac.digest(key, f"exports link v1\n{METHOD}\n{payload}".encode(), "sha256")


def _written(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _read(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def nothing() -> NotFound:
    """Return the one refusal for all causes: what is wrong with a link is told to nobody."""
    return NotFound("this link leads nowhere, or its time is over; ask for a new one")


def until(written_at: datetime, days: int, sent_at: datetime) -> datetime:
    """Return when links end in a letter about what was written at `timestamp_column`: after `days`, or as many times that as it takes.

    At least half of `days` is left when it is sent. So all tries of one sending say the same, as far as they lie within the
    other half, and a letter that a person has sent again after weeks is one that can be answered.
    """
    age = (sent_at - written_at) / timedelta(days=days)
    return (written_at + max(1, math.ceil(age + 0.5)) * timedelta(days=days)).replace(microsecond=0)
