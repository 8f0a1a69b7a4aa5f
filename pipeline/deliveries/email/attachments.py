"""The list of documents in an e-mail: which are attached, and where to fetch the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.deliveries.channels.email import Attachments, attachment_filename
from pipeline.deliveries.channels.protocol import Attachment


@dataclass(frozen=True)
class EmailDocument:
    """A document: its size as text, and where to fetch it if it is not attached."""

    name: str
    size: str
    sha256: str
    url: str


@dataclass(frozen=True)
class EmailDocuments:
    """The attached and the linked documents, and how many more of each the e-mail does not list."""

    attached: Sequence[EmailDocument] = ()
    more_attached: int = 0
    linked: Sequence[EmailDocument] = ()
    more_linked: int = 0
    linked_until: str = ""


def describe_documents(documents: Attachments, limit: int, linked_until: str) -> EmailDocuments:
    """Return the list of an e-mail's documents: up to `limit` attached and `limit` linked ones by name."""
    return EmailDocuments(
        attached=[_describe_document(each) for each in documents.attached[:limit]],
        more_attached=max(0, len(documents.attached) - limit),
        linked=[_describe_document(each) for each in documents.linked[:limit]],
        more_linked=max(0, len(documents.linked) - limit),
        linked_until=linked_until,
    )


def _describe_document(document: Attachment) -> EmailDocument:
    return EmailDocument(
        attachment_filename(document), f"{-(-document.size // 1000):,} kB", document.sha256, document.download_url
    )
