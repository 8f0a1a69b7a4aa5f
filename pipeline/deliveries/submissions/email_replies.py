"""Answers by the reply link of an e-mail. The link's holder may read one handoff and answer it once, until it ends."""

import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts import secrets
from pipeline.core import tenancy
from pipeline.core.errors import NotFound, Purged
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures, sign_text
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Notification
from pipeline.deliveries.schemas.answers import FieldAnswer
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady
from pipeline.deliveries.schemas.views import AcknowledgementReceipt
from pipeline.deliveries.submissions import answer_forms, broker_answers, links
from pipeline.deliveries.submissions.answer_forms import AnswerableUnit, AnswerForm
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState

#: The answers that a link allows. `received` does not use up the link.
REPLY_STATUSES: Final = ("received", "accepted", "rejected", "query")

# The notification's id (16 bytes), the end in seconds since 1970 (4) and a signature over both (16).
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{48}")


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
    return ReplyLink(notification.id, ends_at, _encode(payload, _sign(settings, payload).newest))


def parse_reply_link(settings: Settings, token: str) -> ReplyLink:
    """Return the link of the token. Raises NotFound if the token is not ours. It does not check the end."""
    if not _TOKEN.fullmatch(token):
        raise NotFound("there is no such link")
    raw = urlsafe_b64decode(token)
    payload, signature = raw[:20], raw[20:]
    if _sign(settings, payload).find_key(signature.hex()) is None:
        raise NotFound("there is no such link")
    ends_at = datetime.fromtimestamp(int.from_bytes(payload[16:], "big"), UTC)
    return ReplyLink(str(uuid.UUID(bytes=payload[:16])), ends_at, token)


def _encode(payload: bytes, signature: str) -> str:
    return urlsafe_b64encode(payload + bytes.fromhex(signature)).decode()


def _sign(settings: Settings, payload: bytes) -> Signatures:
    return sign_text(secrets.build_secret_box(settings), "answer-links", payload, lambda raw: raw[:16].hex())


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
        units = [
            AnswerableUnit(place, unit.unit_ref, [line.sku for line in unit.lines or ()])
            for place, unit in enumerate(self.message.units)
        ]
        return answer_forms.list_fields(units, alone=len(units) == 1, detailed=answer_forms.can_detail(units))


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


def record_reply(runtime: Runtime, given: ReplyLink, handoff: Handoff, form: AnswerForm) -> AcknowledgementReceipt:
    """Record the form's answer as the partner's. `recorded` is false if the link was used before.

    Raises ValidationFailed with a sentence for the person who filled in the form, and Purged if the handoff was purged.
    """
    answer_id = _build_answer_id(given, final=form.status != "received")
    body = answer_forms.check_form(form, handoff.field_pointers, REPLY_STATUSES, answer_id)
    with tenancy.account_scope(handoff.account_id):
        return broker_answers.receive_answer(runtime, handoff.submission_id, body, f"partner:{handoff.partner_id}")


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
