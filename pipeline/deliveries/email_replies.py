"""Answers by the link in an e-mail: whoever holds it may see one handoff and answer it, once, until the link ends."""

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

#: What may be answered by a link; the first is no more than a sign of life and leaves the link good.
REPLY_STATUSES: Final = ("received", "accepted", "rejected", "query")

#: Beyond so many lines the list of fields names lines, not the fields of each.
MAX_DETAILED_LINES: Final = 60

MAX_MESSAGE: Final = 1000

# A notification's id (16 bytes), the end in seconds since 1970 (4) and a signature over both (16).
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{48}")
_ENTRY_NUMBER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_POINTER: Final = re.compile(r"(/[^/]*)+")


@dataclass(frozen=True)
class ReplyLink:
    """The way to answer one handoff, and until when it is good."""

    notification_id: str
    ends_at: datetime
    token: str


def build_reply_link(settings: Settings, notification: Notification, *, sent_at: datetime | None = None) -> ReplyLink:
    """Return the link that answers a handoff's notification: the same one at every try; `sent_at` is when it goes out."""
    written_at = notification.created_at
    ends_at = links.link_expiry(written_at, settings.reply_link_days, sent_at or written_at)
    payload = uuid.UUID(notification.id).bytes + int(ends_at.timestamp()).to_bytes(4, "big")
    return ReplyLink(notification.id, ends_at, urlsafe_b64encode(payload + _sign(settings, payload)[0]).decode())


def parse_reply_link(settings: Settings, token: str) -> ReplyLink:
    """Return what the token stands for; raises NotFound where it is none of ours. Whether it has ended is not judged."""
    if not _TOKEN.fullmatch(token):
        raise NotFound("there is no such link")
    raw = urlsafe_b64decode(token)
    payload, signature = raw[:20], raw[20:]
    # All are compared, so that the time it takes tells nothing.
    if not sum(hmac.compare_digest(signature, each) for each in _sign(settings, payload)):
        raise NotFound("there is no such link")
    ends_at = datetime.fromtimestamp(int.from_bytes(payload[16:], "big"), UTC)
    return ReplyLink(str(uuid.UUID(bytes=payload[:16])), ends_at, token)


def _sign(settings: Settings, payload: bytes) -> list[bytes]:
    """Return the signatures that count, one a secret key, the newest first: a link outlives the key it was made with."""
    keys = secrets.build_secret_box(settings).tokens("answer-links")
    return [hmac.digest(key.encode(), payload, "sha256")[:16] for key in keys]


@dataclass(frozen=True)
class PreviousReply:
    """An answer that was given before, by whatever way."""

    status: str
    at: datetime
    message: str | None
    entry_number: str | None
    fields: Sequence[FieldAnswer]


@dataclass(frozen=True)
class Handoff:
    """A handoff as whoever was sent the link sees it."""

    account_id: str
    submission_id: str
    partner_id: str
    replaced: str | None  # superseded or cancelled: there is nothing to answer any more
    message: HandoffReady
    previous_replies: Sequence[PreviousReply]  # in the order of their coming
    final_reply: PreviousReply | None  # the answer that this link was used for

    @property
    def field_pointers(self) -> Mapping[str, str]:
        """The fields that an answer may name: JSON Pointers by what people call them."""
        return dict(_iterate_fields(self.message.units))


def load_handoff(runtime: Runtime, given: ReplyLink) -> Handoff:
    """Return the handoff that the link is for; raises NotFound, and Purged."""
    # The link is the credential, and speaks for the one notification.
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        row = session.get(Notification, given.notification_id)
        if row is None or row.event_type != MessageType.HANDOFF_READY:
            raise NotFound("there is no such handoff")
        export = session.get_one(Export, row.export_id)
        if export.purged_at is not None:
            raise Purged.for_export(export.id, "nothing is left to be answered")
        message = HandoffReady.model_validate_json(row.data)
        submission = session.get(BrokerSubmission, message.submission_id)
        if submission is None:
            raise NotFound("there is no such handoff")
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
    """What was written into the form, as it was written; `fields` are pairs of a place and what is said of it.

    An entry number counts with `accepted`, fields with `rejected` and `query`.
    """

    status: str = ""
    message: str = ""
    entry_number: str = ""
    fields: Sequence[tuple[str, str]] = ()


def record_reply(runtime: Runtime, given: ReplyLink, handoff: Handoff, form: ReplyForm) -> AcknowledgementReceipt:
    """Record what the form says, in the name of the partner; `recorded` is false where the link had been used before.

    Raises ValidationFailed, with a sentence for whoever filled it in, and Purged where the handoff was meanwhile.
    """
    body = _build_answer(given, handoff, form)
    with tenancy.account_scope(handoff.account_id):
        return submissions.receive_answer(runtime, handoff.submission_id, body, f"partner:{handoff.partner_id}")


def _build_answer(given: ReplyLink, handoff: Handoff, form: ReplyForm) -> AcknowledgementBody:
    if form.status not in REPLY_STATUSES:
        raise ValidationFailed("Choose one of the answers.")
    # What does not go with the answer may be left over from another choice, and out of sight.
    message = make_legible(form.message).strip()
    entry_number = form.entry_number.strip() if form.status == "accepted" else ""
    fields = _parse_fields(handoff, form) if form.status in ("rejected", "query") else []
    if len(message) > MAX_MESSAGE:
        raise ValidationFailed(f"The message has more than {MAX_MESSAGE:,} characters; shorten it.")
    if entry_number and not _ENTRY_NUMBER.fullmatch(entry_number):
        raise ValidationFailed("An entry number has letters, digits and hyphens, as in ABC-1234567-8.")
    if form.status in ("rejected", "query") and not (message or fields):
        raise ValidationFailed("Say what is wrong or what you ask, in the message or at a field.")
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
            raise ValidationFailed(f"Say which field this is about: {message[:80]}")
        pointer = pointers.get(place, place)
        if not _POINTER.fullmatch(pointer) or len(pointer) > 256:
            raise ValidationFailed(f"“{place[:80]}” is no field of this handoff; choose one from the list.")
        if not message or len(message) > MAX_MESSAGE:
            raise ValidationFailed(
                f"Say of “{place[:80]}” what is wrong or asked, in at most {MAX_MESSAGE:,} characters."
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
