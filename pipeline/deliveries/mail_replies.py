"""Records e-mails that answer those of the service as remarks in the conversation about a handoff."""

import json
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import recipients
from pipeline.core import heartbeats, installation, tenancy
from pipeline.core.errors import (
    ChannelUnavailable,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Refused,
    Retryable,
    StoreUnavailable,
    ValidationFailed,
)
from pipeline.core.metrics import count
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.channels.imap_mailbox import Mailbox, open_mailbox, parse_mailbox
from pipeline.deliveries.email.replies import MailReply, parse_reply
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.outbox.outbox import BROKER
from pipeline.deliveries.schemas.answers import MAX_ATTACHMENTS, AcknowledgementBody
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import broker_answers
from pipeline.deliveries.submissions.attachments import NewFile, attach_files, check_file
from pipeline.exports.metrics import LEFT, MAIL_REPLIES, RECORDED, REPEATED

log = structlog.get_logger(__name__)

MAILBOX: Final = "mailbox"
_MAX_TEXT: Final = 1000
_LONGER: Final = "\n(The e-mail is longer; the mailbox has all of it.)"
_NO_TEXT: Final = "(An e-mail without a text of its own.)"


@dataclass(frozen=True)
class _Answered:
    """The handoff that an e-mail answers, and the id of the message to the customs broker, if it answers one."""

    submission_id: str
    export_id: str
    account_id: str
    partner_id: str
    message_id: str | None


def take_turn(runtime: Runtime) -> bool:
    """Return whether the mailbox is due; then no other process gets the turn until an interval after the last e-mail."""
    if runtime.settings.imap_url is None or not installation.may_send(runtime):
        return False
    return heartbeats.take_turn(runtime, MAILBOX, runtime.settings.partner_poll_seconds)


def read_mailbox(runtime: Runtime) -> None:
    """Record the e-mails that wait in the mailbox. Raises only DatabaseBusy: then they wait.

    An e-mail that answers no handoff, or that is not from its customs broker, is flagged and left. An e-mail that was
    recorded but not marked is recorded again without effect.
    """
    settings = runtime.settings
    if settings.imap_url is None:
        return
    try:
        with open_mailbox(parse_mailbox(settings.imap_url), settings.sftp_timeout_seconds) as mailbox:
            for uid in mailbox.list_waiting():
                _take_mail(runtime, mailbox, uid)
                heartbeats.record(runtime, MAILBOX)
    except (ChannelUnavailable, StoreUnavailable) as error:
        log.warning("mailbox_not_read", reason=str(error))


def check_mailbox(settings: Settings) -> str:
    """Return what the mailbox holds. Raises ChannelUnavailable."""
    if settings.imap_url is None:
        return "none is set; answers by e-mail are not read"
    place = parse_mailbox(settings.imap_url)
    with open_mailbox(place, settings.delivery_timeout_seconds) as mailbox:
        left = mailbox.count_left()
    return f"opened {place.folder} at {place.host}:{place.port}; e-mails left to a person: {left}"


def _take_mail(runtime: Runtime, mailbox: Mailbox, uid: str) -> None:
    try:
        raw = mailbox.read_mail(uid)
        if raw is None:
            raise InvalidRequest("it is too large")
        result = RECORDED if _record_mail(runtime, raw) else REPEATED
    except Retryable:
        raise
    except Refused as refused:
        log.warning("mail_left", uid=uid, reason=str(refused))
        mailbox.mark_left(uid)
        result = LEFT
    except Exception:
        # A hostile e-mail that raises another error must not stop those after it.
        log.exception("mail_raised", uid=uid)
        mailbox.mark_left(uid)
        result = LEFT
    else:
        mailbox.mark_taken(uid)
    count(MAIL_REPLIES, result)


def _record_mail(runtime: Runtime, raw: bytes) -> bool:
    """Record the e-mail; return whether it is new. Raises Refused if it is left to a person."""
    domain = (runtime.settings.mail_from or "").rpartition("@")[2].rstrip(">")
    reply = parse_reply(raw, domain, runtime.settings.imap_trusted_server)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        answered = _find_answered(session, reply)
    actor = f"partner:{answered.partner_id}"
    with tenancy.account_scope(answered.account_id):
        files, untaken = _check_files(answered, reply)
        views = attach_files(runtime, files, actor)
        answer = AcknowledgementBody(
            id=f"mail:{reply.key}",
            status="remark",
            message=_build_text(reply.text, untaken),
            in_reply_to=answered.message_id,
            attachments=[each.id for each in views],
        )
        return broker_answers.receive_answer(runtime, answered.submission_id, answer, actor).recorded


def _find_answered(session: Session, reply: MailReply) -> _Answered:
    """Return the handoff whose customs broker has the sender's address. Raises NotFound."""
    for each in reply.answers:
        found = session.execute(
            select(BrokerSubmission, col(Notification.event_type), col(Notification.data))
            .join(Notification, col(Notification.export_id) == col(BrokerSubmission.export_id))
            .where(col(Notification.id) == each, col(Notification.audience) == BROKER)
        ).all()
        for row, event_type, data in found:
            if reply.sender in _read_addresses(session, row.account_id, row.partner_id):
                replied = event_type == MessageType.HANDOFF_REPLIED and data
                message_id = json.loads(data).get("messageId") if replied else None
                return _Answered(row.id, row.export_id, row.account_id, row.partner_id, message_id)
    raise NotFound("it answers no handoff to an address of its sender")


def _read_addresses(session: Session, account_id: str, partner_id: str) -> set[str]:
    targets = recipients.list_sealed_targets(session, account_id, partner_id)
    endpoints = [each.endpoint.endpoint for each in targets if each.endpoint is not None]
    return {address.lower() for each in endpoints for address in each.get("addresses", ())}


def _check_files(answered: _Answered, reply: MailReply) -> tuple[list[NewFile], list[str]]:
    """Return the files that are taken, and the names of the others."""
    files: dict[str, NewFile] = {}
    untaken: list[str] = []
    for each in reply.files:
        try:
            file = check_file(answered.export_id, answered.partner_id, each.name, each.body)
        except (ValidationFailed, PayloadTooLarge):
            untaken.append(each.name[:80])
            continue
        if len(files) < MAX_ATTACHMENTS:
            files[file.id] = file
        else:
            untaken.append(each.name[:80])
    return list(files.values()), untaken


def _build_text(text: str, untaken: list[str]) -> str:
    note = f"\n(Files that were not taken: {', '.join(untaken)}.)"[:400] if untaken else ""
    text = text or _NO_TEXT
    if len(text) + len(note) > _MAX_TEXT:
        text = text[: _MAX_TEXT - len(note) - len(_LONGER)] + _LONGER
    return text + note
