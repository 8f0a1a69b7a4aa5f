"""The parts of an e-mail's text, and the texts of replies and about late answers and rechecked plans."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pipeline.core.findings import Finding
from pipeline.deliveries.arrivals import describe_arrival
from pipeline.deliveries.channels.email import Attachments
from pipeline.deliveries.email.attachments import EmailDocuments, describe_documents
from pipeline.deliveries.schemas.cloudevent import ExportMessage
from pipeline.deliveries.schemas.to_broker import HandoffReplied
from pipeline.deliveries.schemas.to_operator import (
    EntriesMessage,
    EntryProgressed,
    ExportRechecked,
    ExportSettled,
    HandoffOverdue,
    PlanRechecked,
)

#: How many customs packages, documents and fields an e-mail lists. The JSON message has all of them.
MAX_PACKAGES: Final = 20
MAX_DOCUMENTS: Final = 60
MAX_FIELDS: Final = 40

_REASON: Final = "new rules or editions change what is found"

#: The most entries that an e-mail lists.
MAX_ENTRIES: Final = 20

#: What an e-mail says if the service reads answers to it.
REPLY: Final = "Or reply to this e-mail: the sender gets your text and your files as a remark, which changes no status."


@dataclass(frozen=True)
class Section:
    """Facts under a title: pairs of name and text."""

    title: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class EmailContent:
    """The text of an e-mail, in reading order."""

    subject: str
    heading: str
    opening: Sequence[str]
    sections: Sequence[Section] = ()
    documents: EmailDocuments = field(default_factory=EmailDocuments)
    reply_url: str = ""
    instructions: Sequence[str] = ()  # what to do, step by step
    page: tuple[str, str] | None = None  # a page with more: label and address


def build_overdue(message: HandoffOverdue, page: tuple[str, str]) -> EmailContent:
    """Return the text about a customs broker that has not answered in time; `page` is the export's in the console."""
    arrivals: list[tuple[str, str]] = []
    title, risk = "has not answered in time", "The shipment may arrive before an entry is filed."
    if message.arrives_at is not None:
        arrivals = [("Arrival by the plan", format_moment(message.arrives_at))]
        risk = f"By the plan, {describe_arrival(message.arrives_at, arrived=message.arrived)}."
        title = "reports no release, and the goods have arrived" if message.arrived else title
    what, ask = "The next status", "Ask whether the handoff can be read, and when the answer comes."
    if message.summary:
        title, risk = "has not filed the entry summary in time", "Customs may claim liquidated damages."
        what, ask = "The entry summary", "Ask whether it is filed, and to answer `summary_filed`."
    return EmailContent(
        f"Export {message.batch_id}: {message.partner_id} {title}",
        f"A customs broker {title}",
        [
            (
                f"The handoff to {message.partner_id} has the status “{message.submission_status}”. {what}"
                f" was due by {format_moment(message.deadline_at)}. {risk}"
            )
        ],
        [
            Section(
                "The handoff",
                [
                    ("Customs broker", message.partner_id),
                    ("Channel", message.channel),
                    ("Status", message.submission_status),
                    (f"{what.removeprefix('The ').capitalize()} due", format_moment(message.deadline_at)),
                    *arrivals,
                    ("Submission", message.submission_id),
                ],
            )
        ],
        instructions=[f"Call the customs broker. {ask}"],
        page=page,
    )


def build_progressed(message: EntriesMessage, page: tuple[str, str]) -> EmailContent:
    """Return the text about entries that an answer moved, or about the last open one that it closed; `page` as above."""
    moved = message.entries[:MAX_ENTRIES] if isinstance(message, EntryProgressed) else []
    heading = "Entries progressed" if isinstance(message, EntryProgressed) else "No entry is open any more"
    rows = [
        (each.customs_package_number, ", ".join(filter(None, (each.headline.replace("_", " "), each.entry_number))))
        for each in moved
    ]
    moment = format_moment(message.at)
    happened = f"Customs broker {message.partner_id} answered at {moment}"
    if isinstance(message, ExportSettled) and message.answer_id is None:
        happened = f"It was withdrawn at {moment}, before customs broker {message.partner_id} had the handoff"
    return EmailContent(
        f"Export {message.batch_id}: {message.summary}",
        heading,
        [f"{happened}. Now: {message.summary}."],
        [Section("Entries", rows)] if rows else [],
        page=page,
    )


def build_rechecked(message: ExportRechecked, page: tuple[str, str]) -> EmailContent:
    """Return the text about an export in whose plan a recheck finds something else; `page` is its page in the console."""
    return EmailContent(
        f"Export {message.batch_id}: {_REASON} in its plan",
        f"{_REASON.capitalize()} in a plan",
        [*_name_judges(message), "The goods of this export have not crossed. Its documents stay as they are."],
        _list_changed(message),
        instructions=["Ask the customs broker about the new findings. If the plan must change, amend the export."],
        page=page,
    )


def build_plan_rechecked(message: PlanRechecked) -> EmailContent:
    """Return the same text about a plan that is only registered."""
    return EmailContent(
        f"Plan of batch {message.batch_id}: {_REASON} in it",
        f"{_REASON.capitalize()} in a plan",
        [
            *_name_judges(message),
            "This plan is not executed yet. Its execution is judged by the rules and editions that are in force then.",
        ],
        _list_changed(message),
        instructions=[
            "Look at the findings. If the plan must change, register the changed plan, and execute that one."
        ],
    )


def describe_origin(message: ExportMessage | PlanRechecked) -> list[str]:
    """Return the lines at the end of an e-mail that name what it is about."""
    if isinstance(message, PlanRechecked):
        return [f"Plan {message.plan_id}, batch {message.batch_id}"]
    return [
        f"Export {message.export_id}, batch {message.batch_id}, revision {message.revision}",
        f"Treatment digest {message.treatment_digest}",
    ]


def _name_judges(message: ExportRechecked | PlanRechecked) -> list[str]:
    """Return what checked the plan, and what checked it before as far as that is known and differs."""
    before = message.ruleset_before
    rules = "" if before in {None, message.ruleset} else f"; before it was {before}"
    said = [f"Checked by ruleset {message.ruleset}{rules}."]
    if message.editions != message.editions_before and (message.editions or message.editions_before):
        earlier = "" if message.editions_before is None else f"; before: {', '.join(message.editions_before) or 'none'}"
        said.append(f"Checked by editions: {', '.join(message.editions) or 'none'}{earlier}.")
    return said


def _list_changed(message: ExportRechecked | PlanRechecked) -> list[Section]:
    sections = (("New findings", message.appeared), ("Findings that are gone", message.gone))
    return [Section(title, [_describe_finding(each) for each in found]) for title, found in sections if found]


def _describe_finding(finding: Finding) -> tuple[str, str]:
    return f"{finding.rule}, {finding.severity}", f"{finding.message} {finding.remedy}"


def format_moment(at: datetime) -> str:
    """Return the instant in UTC, by the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def build_replied(message: HandoffReplied, files: Attachments, until: str, *, reads_replies: bool) -> EmailContent:
    """Return the e-mail with a message to the customs broker; its subject is that of the handoff's e-mail.

    The links to files that are too large are valid `until` then. `reads_replies`: the service reads answers by e-mail.
    """
    packages = message.customs_package_numbers
    named = ", ".join(packages[:MAX_PACKAGES]) + (" and more" if len(packages) > MAX_PACKAGES else "")
    rows = [
        ("Message", message.text),
        ("Customs packages", named),
        ("In reply to", message.in_reply_to or ""),
        ("Submission", message.submission_id),
    ]
    return EmailContent(
        f"Re: {message.subject}",
        f"A message about the handoff of export {message.batch_id}",
        ["The sender of the handoff writes to you."],
        [Section("The message", [(name, value) for name, value in rows if value])],
        describe_documents(files, MAX_DOCUMENTS, until),
        instructions=["Answer by the link in the e-mail of the handoff.", *([REPLY] if reads_replies else ())],
    )
