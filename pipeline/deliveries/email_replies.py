"""Answers by the reply link of an e-mail. The link's holder may read one handoff and answer it once, until it ends."""

from __future__ import annotations

import hmac
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from sqlalchemy import select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.core import tenancy
from pipeline.core.errors import NotFound, Purged, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.core.text_safety import make_legible
from pipeline.deliveries import links, submissions
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Notification
from pipeline.deliveries.schemas.messages import (
    AcknowledgementBody,
    AcknowledgementReceipt,
    FieldAnswer,
    HandedUnit,
    HandoffReady,
    MessageType,
)
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState

#: The answers that a link allows. `received` does not use up the link.
REPLY_STATUSES: Final = ("received", "accepted", "rejected", "query")

#: With more lines than this, the list of fields names whole lines, not their fields.
MAX_DETAILED_LINES: Final = 60

MAX_MESSAGE: Final = 1000

# The notification's id (16 bytes), the end in seconds since 1970 (4) and a signature over both (16).
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{48}")
_ENTRY_NUMBER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_POINTER: Final = re.compile(r"(/[^/]*)+")


@dataclass(frozen=True)
class ReplyLink:
    """The link that answers one handoff, and its end."""

    notification_id: str
    ends_at: datetime
    token: str


def build_reply_link(settings: Settings, notification: Notification, *, sent_at: datetime | None = None) -> ReplyLink:
    """Return the link that answers a handoff's notification. It is the same at each attempt around `sent_at`."""
    written_at = notification.created_at
    ends_at = links.link_expiry(written_at, settings.reply_link_days, sent_at or written_at)
    payload = uuid.UUID(notification.id).bytes + int(ends_at.timestamp()).to_bytes(4, "big")
    return ReplyLink(notification.id, ends_at, urlsafe_b64encode(payload + _sign(settings, payload)[0]).decode())


def parse_reply_link(settings: Settings, token: str) -> ReplyLink:
    """Return the link of the token. Raises NotFound if the token is not ours. It does not check the end."""
    if not _TOKEN.fullmatch(token):
        raise NotFound("there is no such link")
    raw = urlsafe_b64decode(token)
    payload, signature = raw[:20], raw[20:]
    # Compare with all signatures, so that the time taken reveals nothing.
    if not sum(hmac.compare_digest(signature, each) for each in _sign(settings, payload)):
        raise NotFound("there is no such link")
    ends_at = datetime.fromtimestamp(int.from_bytes(payload[16:], "big"), UTC)
    return ReplyLink(str(uuid.UUID(bytes=payload[:16])), ends_at, token)


def _sign(settings: Settings, payload: bytes) -> list[bytes]:
    """Return the valid signatures, one per secret key, newest first: a link stays valid after its key is replaced."""
    keys = secrets.build_secret_box(settings).tokens("answer-links")
    return [hmac.digest(key.encode(), payload, "sha256")[:16] for key in keys]


@dataclass(frozen=True)
class PreviousReply:
    """An earlier answer, by any channel."""

    status: str
    at: datetime
    message: str | None
    entry_number: str | None
    fields: Sequence[FieldAnswer]


@dataclass(frozen=True)
class Handoff:
    """A handoff as the link's holder sees it."""

    account_id: str
    submission_id: str
    partner_id: str
    replaced: str | None  # superseded or cancelled: an answer is not needed any more
    message: HandoffReady
    previous_replies: Sequence[PreviousReply]  # in order of receipt
    final_reply: PreviousReply | None  # the answer that this link was used for

    @property
    def field_pointers(self) -> Mapping[str, str]:
        """The fields that an answer may name: JSON Pointers by readable name."""
        return dict(_iterate_fields(self.message.units))


def load_handoff(runtime: Runtime, given: ReplyLink) -> Handoff:
    """Return the link's handoff. Raises NotFound and Purged."""
    # The link is the credential. It is valid only for this notification.
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(Notification, given.notification_id)
        if row is None or row.event_type != MessageType.HANDOFF_READY:
            raise NotFound("the handoff does not exist")
        export = session.get_one(Export, row.export_id)
        if export.purged_at is not None:
            raise Purged.for_export(export.id, "it cannot be answered any more")
        message = HandoffReady.model_validate_json(row.data)
        submission = session.get(BrokerSubmission, message.submission_id)
        if submission is None:
            raise NotFound("the handoff does not exist")
        rows = session.scalars(
            select(Acknowledgement)
            .where(col(Acknowledgement.submission_id) == submission.id)
            .order_by(col(Acknowledgement.received_at), col(Acknowledgement.id))
        ).all()
    final = next((each for each in rows if each.id == _build_answer_id(given, final=True)), None)
    ended = (ExportState.SUPERSEDED.value, ExportState.CANCELLED.value)
    return Handoff(
        account_id=submission.account_id,
        submission_id=submission.id,
        partner_id=submission.partner_id,
        replaced=export.state if export.state in ended else None,
        message=message,
        previous_replies=[_to_previous_reply(each) for each in rows],
        final_reply=None if final is None else _to_previous_reply(final),
    )


@dataclass(frozen=True)
class ReplyForm:
    """The filled-in form, unchecked. `fields` are pairs of a field and what is said about it.

    An entry number counts only with `accepted`, fields only with `rejected` and `query`.
    """

    status: str = ""
    message: str = ""
    entry_number: str = ""
    fields: Sequence[tuple[str, str]] = ()


def record_reply(runtime: Runtime, given: ReplyLink, handoff: Handoff, form: ReplyForm) -> AcknowledgementReceipt:
    """Record the form's answer as the partner's. `recorded` is false if the link was used before.

    Raises ValidationFailed with a sentence for the person who filled in the form, and Purged if the handoff was purged.
    """
    body = _build_answer(given, handoff, form)
    with tenancy.account_scope(handoff.account_id):
        return submissions.receive_answer(runtime, handoff.submission_id, body, f"partner:{handoff.partner_id}")


def _build_answer(given: ReplyLink, handoff: Handoff, form: ReplyForm) -> AcknowledgementBody:
    if form.status not in REPLY_STATUSES:
        raise ValidationFailed("Choose one of the answers.")
    # Ignore inputs that do not belong to the chosen answer: they may be hidden leftovers of another choice.
    message = make_legible(form.message).strip()
    entry_number = form.entry_number.strip() if form.status == "accepted" else ""
    fields = _parse_fields(handoff, form) if form.status in ("rejected", "query") else []
    if len(message) > MAX_MESSAGE:
        raise ValidationFailed(f"The message has more than {MAX_MESSAGE:,} characters; shorten it.")
    if entry_number and not _ENTRY_NUMBER.fullmatch(entry_number):
        raise ValidationFailed("An entry number must have only letters, digits and hyphens, for example ABC-1234567-8.")
    if form.status in ("rejected", "query") and not (message or fields):
        raise ValidationFailed("Write what is wrong or what you ask, in the message or at a field.")
    return AcknowledgementBody(
        id=_build_answer_id(given, final=form.status != "received"),
        status=cast(Any, form.status),
        message=message or None,
        entry_number=entry_number or None,
        fields=fields,
    )


def _parse_fields(handoff: Handoff, form: ReplyForm) -> list[FieldAnswer]:
    pointers = handoff.field_pointers
    fields = []
    for place, message in ((place.strip(), make_legible(message).strip()) for place, message in form.fields):
        if not place and not message:
            continue
        if not place:
            raise ValidationFailed(f"Choose the field that this is about: {message[:80]}")
        pointer = pointers.get(place, place)
        if not _POINTER.fullmatch(pointer) or len(pointer) > 256:
            raise ValidationFailed(f"“{place[:80]}” is not a field of this handoff; choose one from the list.")
        if not message or len(message) > MAX_MESSAGE:
            raise ValidationFailed(
                f"Write what is wrong or asked about “{place[:80]}”, in at most {MAX_MESSAGE:,} characters."
            )
        fields.append(FieldAnswer(pointer=pointer, message=message))
    return fields


def _iterate_fields(units: Sequence[HandedUnit]) -> Iterator[tuple[str, str]]:
    detailed = sum(len(unit.lines or ()) for unit in units) <= MAX_DETAILED_LINES
    for number, unit in enumerate(units):
        unit_pointer, prefix = f"/units/{number}", f"{unit.unit_ref}, " if len(units) > 1 else ""
        for name, pointer in _UNIT_FIELDS.items():
            yield f"{prefix}{name}", f"{unit_pointer}{pointer}"
        for position, line in enumerate(unit.lines or ()):
            label = f"{prefix}line {position + 1} ({line.sku})"
            yield label, f"{unit_pointer}/lines/{position}"
            if detailed:
                for name, pointer in _LINE_FIELDS.items():
                    yield f"{label}: {name}", f"{unit_pointer}/lines/{position}{pointer}"


_UNIT_FIELDS: Final = {
    "invoice number": "/invoice/number",
    "invoice date": "/invoice/date",
    "currency": "/invoice/currency",
    "terms of delivery": "/invoice/incoterm",
    "invoice total": "/invoice/total",
    "charges": "/invoice/charges",
    "seller": "/parties/seller",
    "buyer": "/parties/buyer",
    "ship to": "/parties/shipTo",
    "importer of record": "/parties/importerOfRecord",
    "manufacturers": "/parties/manufacturers",
    "entry type": "/entry/type",
    "port of entry": "/entry/portOfEntry",
    "carrier": "/entry/carrierScac",
    "shipment control number": "/entry/shipmentControlNumber",
    "arrival": "/entry/estimatedArrivalAt",
    "packages": "/packages",
    "certificates of origin": "/usmcaCertificates",
}
_LINE_FIELDS: Final = {
    "description": "/description",
    "HTS code": "/htsCode",
    "country of origin": "/countryOfOrigin",
    "manufacturer": "/manufacturerRef",
    "quantity": "/quantity",
    "value": "/lineValue",
    "weight": "/netWeightKg",
    "preference": "/spi",
    "chapter 99": "/treatment/chapter99",
    "metals (section 232)": "/treatment/section232",
    "agencies (PGA)": "/treatment/pga",
}


def _build_answer_id(given: ReplyLink, *, final: bool) -> str:
    return f"link:{given.notification_id}" + ("" if final else ":received")


def _to_previous_reply(row: Acknowledgement) -> PreviousReply:
    return PreviousReply(
        status=row.status,
        at=row.received_at,
        message=row.message,
        entry_number=row.entry_number,
        fields=[FieldAnswer.model_validate(each) for each in row.fields],
    )
