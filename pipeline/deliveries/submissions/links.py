"""Links to documents. A link allows one document to be fetched without an API key, for a limited time."""

import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import api_keys, secrets
from pipeline.accounts.api_keys import READ, Caller
from pipeline.accounts.people import PERSON_PREFIX, find_member_caller
from pipeline.core import tenancy
from pipeline.core.clock import format_utc
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import InsufficientRole, InvalidApiKey, NotFound
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures, sign_text
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import ArtifactLink, HandedUnit, HandoffReady
from pipeline.deliveries.schemas.views import DocumentLink
from pipeline.deliveries.submissions import attachments
from pipeline.deliveries.submissions.submissions import SubmissionOwner
from pipeline.documents import repository
from pipeline.exports import queries
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Artifact, Export

#: What a link may be used for. It is part of the signature, so another kind of link cannot replace this one.
METHOD: Final = "GET"

_PURPOSE: Final = "document-links"
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{16,700})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class StoredFile:
    """A document, or a file of a conversation."""

    id: str
    account_id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True)
class LinkClaims:
    """The content of a link: document, account, holder and end. `key_id` is the id of the secret key."""

    key_id: str
    account_id: str
    artifact_id: str
    #: partner:ID or key:ID, also for a person. The link is valid only while the holder may read the document.
    holder: str
    ends_at: datetime


def partner_holder(partner_id: str) -> str:
    """Return the holder of links for a partner."""
    return f"partner:{partner_id}"


def key_holder(key_id: str) -> str:
    """Return the holder of links for an API key or a person. They end with the key, or the membership."""
    return f"key:{key_id}"


def build_link_url(settings: Settings, account_id: str, artifact_id: str, holder: str, ends_at: datetime) -> str:
    """Return the URL where `holder` may fetch the document until `ends_at`. Each call returns the same URL."""
    box = secrets.build_secret_box(settings)
    claims = json.dumps([box.key_id, account_id, artifact_id, holder, int(ends_at.timestamp())], separators=(",", ":"))
    payload = _encode(claims.encode())
    return f"{settings.public_url}/documents/{payload}.{_sign(box, payload).newest}"


def verify_token(settings: Settings, token: str, now: datetime) -> LinkClaims:
    """Return the content of a token. Raises NotFound if it is not ours, was changed, or has ended."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise link_not_found()
    payload, given = match[1], match[2]
    signer = _sign(secrets.build_secret_box(settings), payload).find_key(given)
    if signer is None:
        raise link_not_found()
    key_id, account_id, artifact_id, holder, until = json.loads(_decode(payload))
    claims = LinkClaims(key_id, account_id, artifact_id, holder, datetime.fromtimestamp(until, UTC))
    if signer != key_id or now >= claims.ends_at:
        raise link_not_found()
    return claims


def find_linked_document(runtime: Runtime, claims: LinkClaims) -> StoredFile:
    """Return the document of a link. Raises NotFound if it is gone, or its holder may not read it any more."""
    try:
        with tenancy.account_scope(claims.account_id):
            kind, _, holder = claims.holder.partition(":")
            if kind == "partner":
                caller = Caller(claims.account_id, "", "live", frozenset({claims.holder}))
            elif holder.startswith(PERSON_PREFIX):
                caller = find_member_caller(runtime, claims.account_id, holder)
            else:
                caller = api_keys.find_caller_by_key_id(runtime, holder)
            if caller.account_id != claims.account_id:
                raise link_not_found()
            with runtime.db.read() as session:
                return find_readable(session, caller, claims.artifact_id)
    except (NotFound, InvalidApiKey, InsufficientRole):
        raise link_not_found() from None


def find_readable(session: Session, caller: Caller, artifact_id: str) -> StoredFile:
    """Return a document or a file of the conversation that the caller may read.

    A customs broker may read those that its messages name, and its own. Raises NotFound and InsufficientRole.
    """
    if artifact_id.startswith(attachments.PREFIX):
        return _find_readable_file(session, caller, artifact_id)
    found = repository.find_artifact(session, caller.account_id, artifact_id)
    missing = f"there is no artifact {artifact_id} in this account"
    check_may_read(caller, found.broker_id, missing)
    if not caller.has_role(READ):
        message = _load_message(session, found.artifact.export_id)
        if message is None or artifact_id not in list_documents(HandoffReady.model_validate_json(message).units):
            raise NotFound(missing)
    return _describe_artifact(found.artifact)


def _find_readable_file(session: Session, caller: Caller, attachment_id: str) -> StoredFile:
    missing = NotFound(f"there is no file {attachment_id} in this account")
    row = session.get(ConversationFile, attachment_id)
    if row is None or row.account_id != caller.account_id or row.filename is None:
        raise missing
    if not caller.has_role(READ):
        broker_id = session.get_one(Export, row.export_id).broker_id
        check_may_read(caller, broker_id, missing.message)
        if row.id not in {each.id for each in attachments.list_readable(session, row.export_id, broker_id)}:
            raise missing
    return _describe_attachment(row)


def _describe_artifact(row: Artifact) -> StoredFile:
    return StoredFile(row.id, row.account_id, row.artifact_type, row.filename, row.media_type, row.size, row.sha256)


def _describe_attachment(row: ConversationFile) -> StoredFile:
    kind, name = attachments.ARTIFACT_TYPE, row.filename or ""
    return StoredFile(row.id, row.account_id, kind, name, row.media_type, row.size, row.sha256)


def list_documents(units: Iterable[HandedUnit]) -> dict[str, ArtifactLink]:
    """Return the documents that the message to a customs broker names in these units, by their ids."""
    return {link.id: link for unit in units for link in (unit.invoice_data, *unit.artifacts) if link}


def _load_message(session: Session, export_id: str) -> str | None:
    """Return the JSON of the message to the customs broker. None before the handoff."""
    return session.scalars(
        select(col(Notification.data)).where(
            col(Notification.export_id) == export_id, col(Notification.event_type) == MessageType.HANDOFF_READY.value
        )
    ).first()


def check_may_read(caller: Caller, broker_id: str, missing: str) -> None:
    """Allow callers that may read the account's documents, and the customs broker of this export.

    Raises InsufficientRole. For another partner, raises NotFound with the sentence `missing`, to reveal nothing.
    """
    if caller.has_role(READ) or broker_id in caller.partner_ids:
        return
    if caller.partner_ids:
        raise NotFound(missing)
    raise InsufficientRole(
        f"this call needs a key with the role {READ}, or with the role of the partner of the handoff. {caller.describe_key_creation(READ)}"
    )


def create_key_link(settings: Settings, caller: Caller, row: StoredFile, now: datetime) -> DocumentLink:
    """Return a link to a document that the caller's key may read. It is valid for minutes, and ends with the key."""
    return _build_link(settings, key_holder(caller.actor), row.account_id, row, now)


def create_handoff_links(
    session: Session, settings: Settings, submission: SubmissionOwner, holder: str, now: datetime
) -> list[DocumentLink]:
    """Return links to all documents of a handoff, in its order, then to the files. Raises NotFound if it was purged."""
    message = _load_message(session, submission.export_id)
    export = queries.find_export(session, submission.account_id, submission.export_id)
    if message is None or export.purged_at is not None:
        raise NotFound(f"the documents of broker submission {submission.id} were purged when their retention ended")
    named = list_documents(HandoffReady.model_validate_json(message).units)
    files = attachments.list_readable(session, submission.export_id, submission.partner_id)
    stored: list[StoredFile | ArtifactLink] = [*named.values(), *map(_describe_attachment, files)]
    return [_build_link(settings, holder, submission.account_id, each, now) for each in stored]


def add_signed_links(
    settings: Settings, notification: Notification, partner_id: str, data: dict[str, Any]
) -> dict[str, Any]:
    """Return the data of a handoff's message with a signed link for each document, the same at each call."""
    ends_at = (notification.created_at + timedelta(seconds=settings.document_link_seconds)).replace(microsecond=0)
    until = format_utc(ends_at)
    for link in _iterate_links(data):
        link["signedUrl"] = build_link_url(
            settings, notification.account_id, link["id"], partner_holder(partner_id), ends_at
        )
        link["signedUntil"] = until
    return data


def mail_link_expiry(settings: Settings, notification: Notification, sent_at: datetime) -> datetime:
    """Return when the links in an e-mail end: after days, because e-mails are not read within minutes."""
    return link_expiry(notification.created_at, settings.mail_link_days, sent_at)


def _iterate_links(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from data.get("attachments", ())
    for unit in data.get("units", ()):
        yield from unit["artifacts"]
        if unit["invoiceData"] is not None:
            yield unit["invoiceData"]


def _build_link(
    settings: Settings, holder: str, account_id: str, document: StoredFile | ArtifactLink, now: datetime
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


def _sign(box: SecretBox, payload: str) -> Signatures:
    """Return the valid signatures. A link is valid as long as its key is configured."""
    text = f"exports link v1\n{METHOD}\n{payload}".encode()
    return sign_text(box, _PURPOSE, text, _encode)


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def link_not_found() -> NotFound:
    """Return the same NotFound for every cause, so that callers cannot probe links."""
    return NotFound("this link is not valid or has expired; ask for a new one")


def link_expiry(written_at: datetime, days: int, sent_at: datetime) -> datetime:
    """Return when links in an e-mail end: `days` after `written_at`, or a multiple of `days` if sent later.

    At least half of `days` is left at `sent_at`. So attempts within the other half use the same end, and an e-mail that
    is resent after weeks can still be answered.
    """
    age = (sent_at - written_at) / timedelta(days=days)
    return (written_at + max(1, math.ceil(age + 0.5)) * timedelta(days=days)).replace(microsecond=0)
