"""Views of findings: each with the link that waives it, or the waiver that accepts it already."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter, ValidationError

from pipeline.accounts.api_keys import ADMIN, Caller
from pipeline.core.findings import Finding
from pipeline.customs.schemas import Scope

_OPEN_FINDINGS: Final = 3
_MAX_FINDINGS: Final = 20
_SCOPE: Final[TypeAdapter[str]] = TypeAdapter(Scope)


@dataclass(frozen=True)
class ShownFinding:
    """A finding on a page. The links are empty if its reader may not waive it, or if it is not waived."""

    finding: Finding
    waive_link: str
    waiver_link: str


@dataclass(frozen=True)
class ShownFindings:
    """The `first` findings, the `folded` ones, and how many there are in all; `all_link` is empty if these are all."""

    first: Sequence[ShownFinding]
    folded: Sequence[ShownFinding]
    total: int
    all_link: str


def fold_findings(findings: Iterable[Finding], reader: Caller, all_link: str) -> ShownFindings:
    """Return findings for a page, the first ones open; the page at `all_link` has all."""
    found = [*findings]
    shown = show_findings(found[:_MAX_FINDINGS], reader)
    return ShownFindings(
        shown[:_OPEN_FINDINGS], shown[_OPEN_FINDINGS:], len(found), all_link if len(found) > len(shown) else ""
    )


def show_findings(findings: Iterable[Finding], reader: Caller) -> list[ShownFinding]:
    """Return findings for a page that this person reads."""
    waives = reader.has_role(ADMIN) and not reader.test
    return [_show_finding(each, waives=waives) for each in findings]


def _show_finding(finding: Finding, *, waives: bool) -> ShownFinding:
    waive_link = waiver_link = ""
    if waives and finding.waived_by is not None:
        waiver_link = f"/console/waivers/{quote(finding.waived_by, safe='')}"
    elif waives and finding.severity != "block" and _is_scope(finding.pointer):
        waive_link = "/console/waivers/new?" + urlencode({"rule": finding.rule, "pointer": finding.pointer})
    return ShownFinding(finding, waive_link, waiver_link)


def _is_scope(pointer: str) -> bool:
    """Return whether a waiver can be limited to this place; an empty one is the whole plan."""
    if not pointer:
        return True
    try:
        _SCOPE.validate_python(pointer)
    except ValidationError:
        return False
    return True
