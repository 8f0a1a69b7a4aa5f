"""Letters: what a message says, as people read it in an e-mail; its words stand here once, for plain text and HTML alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from config.settings import Settings
from pipeline.core.money import format_plain
from pipeline.core.templating import render
from pipeline.deliveries import email_replies, links
from pipeline.deliveries.channels.email import data_filename, split_attachments
from pipeline.deliveries.channels.protocol import Attachment, EmailBody
from pipeline.deliveries.email_attachments import EmailDocuments, describe_documents
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox import OPERATOR
from pipeline.deliveries.schemas.messages import (
    MESSAGES,
    CustomsPackageRef,
    DeliveryDead,
    ExportCancelled,
    ExportExecuted,
    ExportFailed,
    ExportMessage,
    HandedUnit,
    HandoffAnswered,
    HandoffOverdue,
    HandoffReady,
    HandoffSuperseded,
    MessageType,
)

#: How many customs packages and documents an e-mail names one by one; all of them are in the message as JSON.
MAX_PACKAGES: Final = 20
MAX_DOCUMENTS: Final = 60
MAX_FIELDS: Final = 40

_MAX_NUMBERS: Final = 3
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[._]")


@dataclass(frozen=True)
class Section:
    """Facts under a title: names and what is to be said of each."""

    title: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ReplyUrl:
    """The link to answer by, and until when it is good."""

    url: str
    ends_at: str


@dataclass(frozen=True)
class EmailContent:
    """An e-mail's words, in the order of reading."""

    subject: str
    heading: str
    opening: Sequence[str]
    sections: Sequence[Section] = ()
    documents: EmailDocuments = field(default_factory=EmailDocuments)
    reply: ReplyUrl | None = None
    instructions: Sequence[str] = ()  # what to do, step by step
    page: tuple[str, str] | None = None  # where more is to be seen: words and address


def build_email_body(
    settings: Settings,
    notification: Notification,
    attachments: Sequence[Attachment],
    *,
    sent_at: datetime | None = None,
) -> EmailBody:
    """Return the notification as an e-mail, the same at every try; its links are good when it is sent, at `sent_at`."""
    message = MESSAGES[MessageType(notification.event_type)].model_validate_json(notification.data)
    if isinstance(message, HandoffReady):
        content = _build_handoff(settings, notification, message, attachments, sent_at or notification.created_at)
    else:
        content = _build_content(settings, notification, message)
    facts: dict[str, Any] = {
        "content": content,
        "about": message,
        "machine_readable": data_filename(notification.event_type),
    }
    subject = f"[TEST] {content.subject}" if message.test else content.subject
    return EmailBody(
        # A header holds printable characters alone.
        subject="".join(c if c.isprintable() else " " for c in subject),
        text=render("email/message.txt", **facts),
        html=render("email/message.html", **facts),
    )


def build_handoff_subject(batch_id: str, invoice_numbers: Sequence[str]) -> str:
    """Return what a handoff is called: the batch and its first invoices."""
    more = f" and {len(invoice_numbers) - _MAX_NUMBERS} more" if len(invoice_numbers) > _MAX_NUMBERS else ""
    named = ", ".join(invoice_numbers[:_MAX_NUMBERS])
    return f"Export {batch_id}: invoice{'s' if len(invoice_numbers) > 1 else ''} {named}{more}"


def _build_content(settings: Settings, notification: Notification, message: ExportMessage) -> EmailContent:
    page = ("The export in the console", f"{settings.public_url.rstrip('/')}/console/exports/{message.export_id}")
    match message:
        case HandoffSuperseded():
            return _build_superseded(message)
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
        case HandoffOverdue():
            return EmailContent(
                f"Export {message.batch_id}: {message.partner_id} is late to answer",
                "A customs broker is late to answer",
                [
                    (
                        f"The handoff to {message.partner_id} stands at “{message.submission_status}” and should have gone on by"
                        f" {_format_moment(message.deadline_at)}. Goods may be on their way with nobody at work on their entry."
                    )
                ],
                [
                    Section(
                        "The handoff",
                        [
                            ("Customs broker", message.partner_id),
                            ("Told by", message.channel),
                            ("Stands at", message.submission_status),
                            ("Was due", _format_moment(message.deadline_at)),
                            ("Submission", message.submission_id),
                        ],
                    )
                ],
                instructions=[
                    "Call the customs broker and ask whether the handoff can be read, and when it is answered."
                ],
                page=page,
            )
        case _:
            title = _split_words(notification.event_type.removeprefix("exports.").rpartition(".v")[0])
            return EmailContent(
                f"Export {message.batch_id}: {title}",
                title.capitalize(),
                ["There is news of an export. All of it is attached as data."],
                [Section("What is said", _list_facts(message))],
                page=page,
            )


def _build_handoff(
    settings: Settings,
    notification: Notification,
    message: HandoffReady,
    attachments: Sequence[Attachment],
    sent_at: datetime,
) -> EmailContent:
    link = email_replies.build_reply_link(settings, notification, sent_at=sent_at)
    documents = split_attachments(attachments, settings.mail_attach_max_bytes)
    until = _format_moment(links.mail_link_expiry(settings, notification, sent_at))
    units = message.units
    seller = units[0].parties.seller.name
    count = "one customs package" if len(units) == 1 else f"{len(units)} customs packages, each an entry of its own"
    opening = [f"{seller} hands you an export that is ready to be filed with US customs: {count}."]
    if len(units) > MAX_PACKAGES:
        opening.append(f"The first {MAX_PACKAGES} are named here; all of them are in the attached data.")
    if message.supersedes is not None:
        opening.append(f"It takes the place of revision {message.supersedes.revision}: file nothing of that one.")
    if message.test:
        opening.insert(0, "This is a test. File nothing of it.")
    return EmailContent(
        build_handoff_subject(message.batch_id, [unit.invoice.number for unit in units]),
        f"Ready to be filed: export {message.batch_id}",
        opening,
        [_build_package(unit) for unit in units[:MAX_PACKAGES]],
        describe_documents(documents, MAX_DOCUMENTS, until),
        ReplyUrl(f"{settings.public_url.rstrip('/')}/answers/{link.token}", _format_moment(link.ends_at)),
        instructions=[
            "See whether the documents can be read and are complete.",
            (
                "Say by the link above that you accept the handoff, reject it, or have a question; name the fields that it is"
                " about. Until you do, the sender takes it that nobody has looked."
            ),
        ],
    )


def _build_package(unit: HandedUnit) -> Section:
    invoice, entry, totals = unit.invoice, unit.entry, unit.totals
    importer = unit.parties.importer_of_record
    carrier = [entry.carrier_scac, entry.shipment_control_number]
    rows = [
        ("Invoice", f"{invoice.number} of {invoice.date}"),
        (
            "Total",
            f"{format_plain(totals.invoice_total)} {invoice.currency}, {invoice.incoterm} {invoice.incoterm_place}",
        ),
        ("Importer of record", f"{importer.name or unit.parties.buyer.name}, {importer.masked_number}"),
        ("Entry", f"type {entry.type}, port {entry.port_of_entry}, by {entry.mode_of_transport}"),
        ("Carrier, shipment", ", ".join(each for each in carrier if each)),
        ("Leaves on", str(entry.export_date)),
        ("Expected at", "" if entry.estimated_arrival_at is None else _format_moment(entry.estimated_arrival_at)),
        ("Goods", f"{_format_count(totals.line_count, 'line')} in {_format_count(totals.package_count, 'package')}"),
        ("Weight", f"{format_plain(totals.gross_weight_kg)} kg gross, {format_plain(totals.net_weight_kg)} kg net"),
        ("Treatment digest", unit.treatment_digest),
    ]
    return Section(f"Customs package {unit.package_number}", [(name, value) for name, value in rows if value])


def _build_superseded(message: HandoffSuperseded) -> EmailContent:
    return EmailContent(
        f"Export {message.batch_id}: do not file revision {message.revision}",
        f"Do not file revision {message.revision} of export {message.batch_id}",
        [
            (
                "The handoff that you were sent no longer holds. "
                f"Revision {message.superseded_by.revision} takes its place and follows in an e-mail of its own."
            )
        ],
        [_list_packages("No longer to be filed", message.customs_packages)],
        instructions=[
            "Stop the work on it, and wait for the new one.",
            "If an entry was filed already, call the sender at once.",
        ],
    )


def _build_cancelled(message: ExportCancelled, page: tuple[str, str] | None) -> EmailContent:
    opening = ["It was stopped before it was handed off. Nothing of it is to be filed or shipped."]
    if message.supersedes is not None:
        opening.append(f"Revision {message.supersedes.revision}, whose place it was to take, no longer holds either.")
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
                f"Every step is done: {_format_count(len(packages), 'customs package')} with"
                f" {_format_count(message.package_count, 'package')}. Customs broker and warehouse were told, or are owed it."
            ),
            "There is nothing to do. You are told if the customs broker is late to answer.",
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
        f"Export {message.batch_id}: {message.partner_id} could not be told",
        "A partner could not be told",
        [
            (
                f"{message.partner_id} did not take a message by {message.channel}, in"
                f" {_format_count(message.attempts, 'attempt')}. It is kept, and not tried again until somebody sends it."
            )
        ],
        [
            Section(
                "The message",
                [
                    ("To", f"{message.partner_id} ({_split_words(message.audience)})"),
                    ("By", message.channel),
                    ("Message", message.event_type),
                    ("Last failure", message.reason),
                    ("Delivery", message.delivery_id),
                ],
            )
        ],
        instructions=[
            "Find out with the partner why it was not taken, or give the partner another channel.",
            f"Then send it again: POST {message.resend}, or on the command line: `exports deliveries resend {message.delivery_id}`",
        ],
        page=page,
    )


_ANSWERS: Final = {
    "rejected": (
        "rejects the handoff",
        "Correct the plan, have it approved, and let it take the export's place: POST {inspect}/amend",
    ),
    "query": (
        "asks about the handoff",
        "Answer the customs broker. Where the plan has to change, amend the export: POST {inspect}/amend",
    ),
    "held": (
        "says that customs holds the goods",
        "Call the customs broker: ask what customs wants, and who brings it.",
    ),
}


def _build_answered(message: HandoffAnswered, page: tuple[str, str]) -> EmailContent:
    says, remedy = _ANSWERS[message.status]
    opening = [f"{message.partner_id} {says}."]
    if message.submission_status != message.status:
        opening.append(f"The handoff has gone on since: it stands at “{message.submission_status}”.")
    rows = [
        ("Customs broker", message.partner_id),
        ("Says", message.message or ""),
        ("Reference", message.reference or ""),
        ("Submission", message.submission_id),
    ]
    fields = [(each.pointer, each.message) for each in message.fields[:MAX_FIELDS]]
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
    """Return what a message says beside its export, of a type that no e-mail was written for."""
    facts: Mapping[str, Any] = message.model_dump(mode="json", by_alias=True)
    about = {field.alias for field in ExportMessage.model_fields.values()}
    return [
        (_split_words(name).capitalize(), str(value))
        for name, value in facts.items()
        if name not in about and isinstance(value, str | int)
    ]


def _format_count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _build_failed(message: ExportFailed, page: tuple[str, str]) -> EmailContent:
    step = _split_words(message.step)
    if message.quarantined:
        subject, heading = f"Export {message.batch_id} is quarantined and needs you", "An export is quarantined"
        explanation = (
            f"The step “{step}” broke what worked on it, {message.attempts} times. It is set aside so that nothing else has to"
            " wait for it. Nothing is lost: what was done before it is kept."
        )
        first = "Look at the export and at the workers' logs; this is most likely a fault of the program, so report it."
    else:
        subject, heading = f"Export {message.batch_id} failed and needs you", "An export failed and needs you"
        explanation = f"The step “{step}” cannot be done. Nothing is lost: what was done before it is kept."
        first = "Look at the export and mend the cause."
    return EmailContent(
        subject,
        heading,
        [explanation],
        [Section("What went wrong", [("Step", step), ("Reason", message.reason)])],
        instructions=[first, f"Then have it go on: POST {message.inspect}/retry"],
        page=page,
    )


def _split_words(name: str) -> str:
    return _WORD.sub(" ", name).lower()


def _format_moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
