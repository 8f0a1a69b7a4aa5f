"""What a letter says of its documents: which are attached, and where the others can be fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.deliveries.channels.email import Enclosed, paper_name
from pipeline.deliveries.channels.protocol import Attachment


@dataclass(frozen=True)
class Paper:
    """A document: its size in words, and where to fetch it where it is not attached."""

    name: str
    size: str
    sha256: str
    url: str


@dataclass(frozen=True)
class Papers:
    """What is attached, what is only linked to, and how many more there are that the letter does not name."""

    attached: Sequence[Paper] = ()
    more_attached: int = 0
    linked: Sequence[Paper] = ()
    more_linked: int = 0
    linked_until: str = ""


def named(documents: Enclosed, most: int, linked_until: str) -> Papers:
    """Return what is to be said of the documents of a letter, each kind up to `most` of them by name."""
    return Papers(
        attached=[_paper(each) for each in documents.attached[:most]],
        more_attached=max(0, len(documents.attached) - most),
        linked=[_paper(each) for each in documents.linked[:most]],
        more_linked=max(0, len(documents.linked) - most),
        linked_until=linked_until,
    )


def _paper(document: Attachment) -> Paper:
    return Paper(paper_name(document), f"{-(-document.size // 1000):,} kB", document.sha256, document.download_url)
