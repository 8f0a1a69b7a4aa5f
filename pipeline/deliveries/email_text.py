"""The parts of an e-mail's text, and the text about an export whose plan was checked by new rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.core.findings import Finding
from pipeline.deliveries.email_attachments import EmailDocuments
from pipeline.deliveries.schemas.messages import ExportRechecked


@dataclass(frozen=True)
class Section:
    """Facts under a title: pairs of name and text."""

    title: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ReplyUrl:
    """The reply link and its end."""

    url: str
    ends_at: str


@dataclass(frozen=True)
class EmailContent:
    """The text of an e-mail, in reading order."""

    subject: str
    heading: str
    opening: Sequence[str]
    sections: Sequence[Section] = ()
    documents: EmailDocuments = field(default_factory=EmailDocuments)
    reply: ReplyUrl | None = None
    instructions: Sequence[str] = ()  # what to do, step by step
    page: tuple[str, str] | None = None  # a page with more: label and address


def build_rechecked(message: ExportRechecked, page: tuple[str, str]) -> EmailContent:
    """Return the text about an export in whose plan new rules find something else; `page` is its page in the console."""
    sections = (("New findings", message.appeared), ("Findings that are gone", message.gone))
    return EmailContent(
        f"Export {message.batch_id}: new customs rules change what is found in its plan",
        "New customs rules change what is found in a plan",
        [
            f"Ruleset {message.ruleset} was put in force after this export was accepted. Its goods have not crossed.",
            "Its documents stay as they are.",
        ],
        [Section(title, [_describe_finding(each) for each in found]) for title, found in sections if found],
        instructions=["Ask the customs broker about the new findings. If the plan must change, amend the export."],
        page=page,
    )


def _describe_finding(finding: Finding) -> tuple[str, str]:
    return f"{finding.rule}, {finding.severity}", f"{finding.message} {finding.remedy}"
