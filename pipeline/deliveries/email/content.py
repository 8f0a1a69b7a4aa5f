"""The text of e-mails, built once for plain text and HTML."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from config.settings import Settings
from pipeline.core.templating import render
from pipeline.deliveries.channels.email import data_filename, split_attachments
from pipeline.deliveries.channels.protocol import Attachment, EmailBody
from pipeline.deliveries.email.attachments import describe_documents
from pipeline.deliveries.email.earlier import describe_earlier, describe_purpose, list_changes
from pipeline.deliveries.email.packages import build_package, format_count
from pipeline.deliveries.email.text import (
    MAX_DOCUMENTS,
    MAX_FIELDS,
    MAX_PACKAGES,
    REPLY,
    EmailContent,
    Section,
    build_overdue,
    build_plan_rechecked,
    build_progressed,
    build_rechecked,
    build_replied,
    describe_origin,
    format_moment,
)
from pipeline.deliveries.entries.facets import FACETS, MEANINGS, AnswerStatus
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox.outbox import OPERATOR
from pipeline.deliveries.schemas.cloudevent import CustomsPackageRef, ExportMessage
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady, HandoffReplied, HandoffSuperseded, HandoffWithdrawn
from pipeline.deliveries.schemas.to_operator import (
    DeliveryDead,
    EntriesMessage,
    ExportCancelled,
    ExportExecuted,
    ExportFailed,
    ExportRechecked,
    HandoffAnswered,
    HandoffOverdue,
    PlanRechecked,
)
from pipeline.deliveries.submissions import links, reply_links
from pipeline.exports.field_text import describe_field

_MAX_NUMBERS: Final = 3
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[._]")


def build_email_body(
    settings: Settings,
    notification: Notification,
    attachments: Sequence[Attachment],
    *,
    sent_at: datetime | None = None,
    revoked: int = 0,
) -> EmailBody:
    """Return the notification as an e-mail, the same each time. Its links are valid when it is sent, at `sent_at`.

    `revoked` is how often the recipient's reply links were revoked before.
    """
    message = MessageType(notification.event_type).model.model_validate_json(notification.data)
    if isinstance(message, HandoffReady):
        content = _build_handoff(
            settings, notification, message, attachments, sent_at or notification.created_at, revoked
        )
    elif isinstance(message, HandoffReplied):
        files = split_attachments(attachments, settings.mail_attach_max_bytes)
        now = sent_at or notification.created_at
        until = format_moment(links.mail_link_expiry(settings, notification, now)) if files.linked else ""
        content = build_replied(message, files, until, reads_replies=settings.imap_url is not None)
    elif isinstance(message, PlanRechecked):
        content = build_plan_rechecked(message)
    else:
        content = _build_content(settings, notification, message)
    facts: dict[str, Any] = {
        "content": content,
        "test": message.test,
        "origin": describe_origin(message),
        "machine_readable": data_filename(notification.event_type),
    }
    subject = f"[TEST] {content.subject}" if message.test else content.subject
    return EmailBody(
        # A header must contain only printable characters.
        subject="".join(c if c.isprintable() else " " for c in subject),
        text=render("email/message.txt", **facts),
        html=render("email/message.html", **facts),
    )


def build_handoff_subject(batch_id: str, invoice_numbers: Sequence[str]) -> str:
    """Return the subject of a handoff: the batch and its first invoices."""
    more = f" and {len(invoice_numbers) - _MAX_NUMBERS} more" if len(invoice_numbers) > _MAX_NUMBERS else ""
    named = ", ".join(invoice_numbers[:_MAX_NUMBERS])
    return f"Export {batch_id}: invoice{'s' if len(invoice_numbers) > 1 else ''} {named}{more}"


def _build_content(settings: Settings, notification: Notification, message: ExportMessage) -> EmailContent:
    page = ("The export in the console", f"{settings.public_url}/console/exports/{message.export_id}")
    match message:
        case HandoffSuperseded():
            return _build_superseded(message)
        case HandoffWithdrawn():
            return _build_withdrawn(message, page if notification.audience == OPERATOR else None)
        case ExportExecuted():
            return _build_executed(message, page)
        case ExportCancelled():
            return _build_cancelled(message, page if notification.audience == OPERATOR else None)
        case ExportFailed():
            return _build_failed(message, page)
        case DeliveryDead():
            return _build_dead(message, page)
        case HandoffAnswered():
            return _build_answered(message, page)
        case ExportRechecked():
            return build_rechecked(message, page)
        case HandoffOverdue():
            return build_overdue(message, page)
        case EntriesMessage():
            return build_progressed(message, page)
        case _:
            kind = MessageType(notification.event_type)
            return EmailContent(
                f"Export {message.batch_id}: {kind.label.lower()}",
                kind.label,
                [kind.purpose, "The attached data has all of it."],
                [Section("Message", _list_facts(message))],
                page=page,
            )


def _build_handoff(
    settings: Settings,
    notification: Notification,
    message: HandoffReady,
    attachments: Sequence[Attachment],
    sent_at: datetime,
    revoked: int,
) -> EmailContent:
    link = reply_links.build_reply_link(settings, notification.id, revoked)
    documents = split_attachments(attachments, settings.mail_attach_max_bytes)
    until = format_moment(links.mail_link_expiry(settings, notification, sent_at))
    units = message.units
    seller = units[0].parties.seller.name
    count = "one customs package" if len(units) == 1 else f"{len(units)} customs packages, each with its own entry"
    title, does = describe_purpose(message)
    opening = [f"{seller} {does} with US customs: {count}."]
    if len(units) > MAX_PACKAGES:
        opening.append(f"This e-mail lists the first {MAX_PACKAGES}. The attached data has all of them.")
    opening += describe_earlier(message)
    if message.test:
        opening.insert(0, "This is a test. Do not file it.")
    return EmailContent(
        build_handoff_subject(message.batch_id, [unit.invoice.number for unit in units]),
        f"{title}: export {message.batch_id}",
        opening,
        [*list_changes(message), *(build_package(unit) for unit in units[:MAX_PACKAGES])],
        describe_documents(documents, MAX_DOCUMENTS, until),
        f"{settings.public_url}/answers/{link.token}",
        instructions=[
            "Check that the documents can be read and are complete.",
            (
                "Use the link above to accept the handoff, reject it, or ask a question. Name the fields that you reject or"
                " ask about. Until you answer, the sender assumes that the handoff was not read."
            ),
            (
                "Use the same link to say later that the entry is filed, that customs holds the goods, or that it released"
                " them."
            ),
            *([REPLY] if settings.imap_url is not None else ()),
        ],
    )


def _build_superseded(message: HandoffSuperseded) -> EmailContent:
    return EmailContent(
        f"Export {message.batch_id}: do not file revision {message.revision}",
        f"Do not file revision {message.revision} of export {message.batch_id}",
        [
            (
                "This handoff is no longer valid. "
                + (
                    f"Another customs broker files revision {message.superseded_by.revision}, which replaces it."
                    if message.reassigned
                    else f"Revision {message.superseded_by.revision} replaces it and follows in a separate e-mail."
                )
            )
        ],
        [_list_packages("Do not file", message.customs_packages)],
        instructions=[
            "Stop work on it." if message.reassigned else "Stop work on it, and wait for the new handoff.",
            "If you filed an entry already, call the sender at once.",
        ],
    )


def _build_withdrawn(message: HandoffWithdrawn, page: tuple[str, str] | None) -> EmailContent:
    return EmailContent(
        f"Export {message.batch_id} is withdrawn: do not file",
        f"Export {message.batch_id} is withdrawn",
        [f"Its handoff is no longer valid: {message.reason}"],
        [_list_packages("Do not file", message.customs_packages)],
        page=page,
        instructions=[]
        if page
        else [
            "Stop work on it, and answer the handoff with `withdrawn`.",
            "If you filed an entry already, call the sender at once.",
        ],
    )


def _build_cancelled(message: ExportCancelled, page: tuple[str, str] | None) -> EmailContent:
    opening = ["It was stopped before it was handed off. Do not file or ship any of it."]
    if message.supersedes is not None:
        opening.append(f"It was to replace revision {message.supersedes.revision}, which is no longer valid either.")
    return EmailContent(
        f"Export {message.batch_id} was cancelled", f"Export {message.batch_id} was cancelled", opening, page=page
    )


def _build_executed(message: ExportExecuted, page: tuple[str, str]) -> EmailContent:
    packages = message.customs_packages
    return EmailContent(
        f"Export {message.batch_id} is executed",
        "An export is executed",
        [
            (
                f"All steps are done: {format_count(len(packages), 'customs package')} with"
                f" {format_count(message.package_count, 'package')}. The messages to customs broker and warehouse are"
                " delivered or pending."
            ),
            "You need not do anything. You get a message if the customs broker does not answer in time.",
        ],
        [_list_packages("Customs packages", packages)],
        page=page,
    )


def _list_packages(title: str, packages: Sequence[CustomsPackageRef]) -> Section:
    rows = [(each.unit_ref, each.package_number) for each in packages[:MAX_PACKAGES]]
    if len(packages) > MAX_PACKAGES:
        rows.append(("and", f"{len(packages) - MAX_PACKAGES} more"))
    return Section(title, rows)


def _build_dead(message: DeliveryDead, page: tuple[str, str]) -> EmailContent:
    return EmailContent(
        f"Export {message.batch_id}: a message to {message.partner_id} could not be delivered",
        "A message could not be delivered",
        [
            (
                f"{message.partner_id} did not take a message by {message.channel}, in"
                f" {format_count(message.attempts, 'attempt')}. It is kept. It is not retried until a person resends it."
            )
        ],
        [
            Section(
                "The message",
                [
                    ("To", f"{message.partner_id} ({_split_words(message.audience)})"),
                    ("Channel", message.channel),
                    ("Message", message.event_type),
                    ("Last error", message.reason),
                    ("Delivery", message.delivery_id),
                ],
            )
        ],
        instructions=[
            "Ask the partner why the message was not taken, or set another channel for the partner.",
            f"Then resend it: POST {message.resend}, or on the command line: `exports deliveries resend {message.delivery_id}`",
        ],
        page=page,
    )


_ANSWERS: Final = {
    "rejected": (
        "rejects the handoff",
        "Correct the plan, have it approved, and replace the export with it: POST {inspect}/amend",
    ),
    "query": (
        "asks about the handoff",
        "Reply to the customs broker: POST {inspect}/messages. If the plan must change, amend the export: POST {inspect}/amend",
    ),
    "held": (
        "says that customs holds the goods",
        "Call the customs broker. Ask what customs needs, and who provides it.",
    ),
}


def _build_answered(message: HandoffAnswered, page: tuple[str, str]) -> EmailContent:
    says, remedy = _ANSWERS[message.status]
    if message.status == "held" and message.answer_status not in (None, "held"):
        status = AnswerStatus(message.answer_status)
        says = f"says: {MEANINGS[FACETS[status]][status].partition(';')[0]}"
    opening = [f"{message.partner_id} {says}."]
    if message.submission_status != message.status:
        opening.append(f"The handoff has a newer status: “{message.submission_status}”.")
    rows = [
        ("Customs broker", message.partner_id),
        ("Message", message.message or ""),
        ("Reference", message.reference or ""),
        ("Submission", message.submission_id),
    ]
    fields = [(describe_field(each.pointer), each.message) for each in message.fields[:MAX_FIELDS]]
    if len(message.fields) > MAX_FIELDS:
        fields.append(("and", f"{len(message.fields) - MAX_FIELDS} more"))
    return EmailContent(
        f"Export {message.batch_id}: {message.partner_id} {says}",
        f"A customs broker {says}",
        opening,
        [
            Section("The answer", [(name, value) for name, value in rows if value]),
            *([Section("Fields of the plan", fields)] if fields else []),
        ],
        instructions=[remedy.format(inspect=message.inspect)],
        page=page,
    )


def _list_facts(message: ExportMessage) -> list[tuple[str, str]]:
    """Return the facts of a message type that has no e-mail text of its own, without the fields of the export."""
    facts: Mapping[str, Any] = message.model_dump(mode="json", by_alias=True)
    about = {field.alias for field in ExportMessage.model_fields.values()}
    return [
        (_split_words(name).capitalize(), str(value))
        for name, value in facts.items()
        if name not in about and isinstance(value, str | int)
    ]


def _build_failed(message: ExportFailed, page: tuple[str, str]) -> EmailContent:
    step = _split_words(message.step)
    if message.quarantined:
        subject, heading = f"Export {message.batch_id} is quarantined and needs you", "An export is quarantined"
        explanation = (
            f"The step “{step}” killed its worker or raised an unknown error, {message.attempts} times. The export is"
            " quarantined, so it does not block other work. Nothing is lost: the results of earlier steps are kept."
        )
        first = "Look at the export and at the workers' logs. This is probably a bug in the program: report it."
    else:
        subject, heading = f"Export {message.batch_id} failed and needs you", "An export failed and needs you"
        explanation = f"The step “{step}” cannot be done. Nothing is lost: the results of earlier steps are kept."
        first = "Look at the export and fix the cause."
    return EmailContent(
        subject,
        heading,
        [explanation],
        [Section("Failure", [("Step", step), ("Reason", message.reason)])],
        instructions=[first, f"Then retry it: POST {message.inspect}/retry"],
        page=page,
    )


def _split_words(name: str) -> str:
    return _WORD.sub(" ", name).lower()
