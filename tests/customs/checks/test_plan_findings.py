"""Each finding has a known rule id, a place in the plan, a sentence, a remedy and a source; one page names all rules."""

import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core.findings import Finding
from tests.customs.cases import BREACHES, findings, with_changes
from tests.customs.filing_cases import FILINGS
from tests.customs.intake_cases import INTAKE
from tests.support.doc_tables import read_yaml
from tests.support.factories import Json, plan, read_pointer

ROOT = Path(__file__).parents[3]

#: Rules of the service, not of customs: the characters of its fonts, and the characters that it accepts.
OURS = {"D01", "D02"}


@cache
def list_findings() -> list[tuple[Json, Finding]]:
    return [*every_finding()]


def every_finding() -> Iterator[tuple[Json, Finding]]:
    for changes, _ in (*BREACHES.values(), *INTAKE.values(), *FILINGS.values()):
        changed = with_changes(*changes)
        for finding in findings(changed):
            yield changed, finding
    for finding in findings(plan(), on=date(2027, 3, 1)):
        yield plan(), finding


def read_rules_on_page() -> set[str]:
    listed = [rule.strip() for row in read_yaml("docs/findings.yaml") for rule in row.split(",")]
    named = set(listed)
    assert len(listed) == len(named), "two rows of the page have one rule id"
    (packing,) = (rule for rule in named if rule.startswith("P01-P"))
    return (named - {packing}) | {f"P{number:02}" for number in range(1, int(packing.removeprefix("P01-P")) + 1)}


def read_rules_in_code() -> set[str]:
    ids = re.compile(r'"((?:[ABDEFHPQRTV][0-9]|C[01])[0-9](?:-[A-Z]+)?)"')
    files = (ROOT / "pipeline").rglob("*.py")
    return {rule for file in files for rule in ids.findall(file.read_text(encoding="utf-8"))}


def test_every_rule_has_a_case() -> None:
    assert {f"V{number:02}" for number in range(1, 28)} <= {finding.rule for _, finding in list_findings()}


def test_every_rule_is_documented() -> None:
    assert {finding.rule for _, finding in list_findings()} <= read_rules_on_page()
    assert read_rules_in_code() == read_rules_on_page()


def test_every_finding_has_sentence_remedy_and_source() -> None:
    for _, finding in list_findings():
        assert re.fullmatch(r"[^a-z].*[.]", finding.message), finding
        assert re.fullmatch(r"[A-Z].*[.]", finding.remedy), finding
        assert "None" not in finding.message + finding.remedy
        assert finding.source or finding.rule in OURS, finding


def test_every_finding_points_into_plan() -> None:
    for changed, finding in list_findings():
        way, _, last = finding.pointer.rpartition("/")
        place: Any = read_pointer(changed, way) if way else changed
        # The pointer of a missing value names the place where it belongs.
        belongs = last in place or finding.rule.startswith(("V14-", "F")) or finding.rule == "V35"
        assert belongs if isinstance(place, dict) else int(last) < len(place), finding
