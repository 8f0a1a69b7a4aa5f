"""Citations of the customs rules as links: a source names laws and bulletins, and most of them have a public address."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.customs.reference.base import ReferenceRow


@dataclass(frozen=True)
class CitationPart:
    """A part of a source; without a `link` it is plain text."""

    text: str
    link: str = ""


@dataclass(frozen=True)
class ShownSource:
    """The source of a rule: what it says, how certain it is, and when it is in force."""

    name: str
    parts: list[CitationPart]
    status: str
    mark: str
    period: str


_STATUS_WORDS: Final = {
    "confirmed": "confirmed: the primary text was read",
    "probable": "probable: known at second hand",
    "check": "check: known at second hand, so it only warns",
}
_STATUS_MARKS: Final = {"confirmed": "good", "probable": "over", "check": "busy"}


def _link_bulletin(found: re.Match[str]) -> str:
    # CBP's bulletins have the number of the message in hexadecimal.
    return f"https://content.govdelivery.com/accounts/USDHSCBP/bulletins/{int(found['bulletin']):x}"


_LINKS: Final[dict[str, Callable[[re.Match[str]], str]]] = {
    "notice": lambda found: f"https://www.federalregister.gov/d/{found['notice']}",
    "section": lambda found: f"https://www.ecfr.gov/current/title-{found['title']}/section-{found['section']}",
    "bulletin": _link_bulletin,
}
_CITATION: Final = re.compile(
    r"FR (?P<notice>20\d\d-\d{5})\b"
    r"|(?P<title>\d{1,2}) CFR (?P<section>\d{1,4}\.\d{1,4})\b"
    r"|(?<![\d.-])(?P<bulletin>\d{8})(?![\d.-])"
)


def link_citations(source: str) -> list[CitationPart]:
    """Return the parts of a source; Federal Register notices, CFR sections and CSMS messages become links.

    Numbers of eight digits are messages only in a source that names CSMS.
    """
    parts, at = [], 0
    for found in _CITATION.finditer(source):
        kind = next(name for name in _LINKS if found[name])
        if kind == "bulletin" and "CSMS" not in source:
            continue
        parts += [CitationPart(source[at : found.start()]), CitationPart(found[0], _LINKS[kind](found))]
        at = found.end()
    return [part for part in (*parts, CitationPart(source[at:])) if part.text]


def show_source(name: str, row: ReferenceRow) -> ShownSource:
    """Return the source of a row of the rules."""
    return ShownSource(
        name,
        link_citations(row.source),
        _STATUS_WORDS[row.status],
        _STATUS_MARKS[row.status],
        f"{f'from {row.effective_from} ' if row.effective_from else ''}until {row.effective_to or 'further notice'}",
    )


def show_evidence(name: str, source: str, status: str) -> ShownSource:
    """Return the source of a decision, which has no period of its own."""
    return ShownSource(
        name, link_citations(source), _STATUS_WORDS.get(status, status), _STATUS_MARKS.get(status, "over"), ""
    )


def link_tariff(code: str) -> str:
    """Return the address of a tariff number or heading in the official schedule."""
    return f"https://hts.usitc.gov/search?query={code}"
