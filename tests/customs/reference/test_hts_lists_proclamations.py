"""A new proclamation needs only a change of data: rows, lists and weight tests of changed rules decide lines."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from pipeline.core.money import to_decimal
from pipeline.customs.chapter99.facts import LineFacts, MetalFacts
from pipeline.customs.chapter99.section232 import data_needed
from pipeline.customs.chapter99.stack import decide_headings
from pipeline.customs.reference.bundle import load_rules
from pipeline.customs.reference.content import RULES
from pipeline.customs.reference.diff import diff_days, diff_rulesets
from pipeline.customs.reference.ruleset import Ruleset, ruleset
from tests.support.rules_id import read_id

EVE, DAY = date(2027, 2, 28), date(2027, 3, 1)
PAN, SPOON, HINGE = "7323930045", "8215993000", "8302416015"

HEADINGS = """
- defaults: {program: S232_METALS, basis: full_value, effective_from: 2027-03-01, effective_to: null,
    source: "Proclamation 12000 (2027-02-15)", confidence: high, status: confirmed}
  rows:
    - {heading: "9903.82.30", description: "Kitchen ware of Canada", rate_percent: "5",
        when: {origins: [CA], lists: ["16(c)(xii)"]}}
"""


def facts(hts_code: str, on: date, kg: str = "0.9") -> LineFacts:
    steel = MetalFacts("steel", to_decimal(kg), melt_and_pour="CA", us_percent=to_decimal("0"))
    return LineFacts(hts_code, "CA", on, None, to_decimal("1"), (steel,))


def metals_heading(rules: Ruleset, hts_code: str, on: date, kg: str = "0.9") -> str | None:
    choice = decide_headings(facts(hts_code, on, kg), rules).find_choice("S232_METALS")
    return choice.certain.heading if choice is not None and choice.certain is not None else None


@pytest.fixture
def rules_after_proclamation(tmp_path: Path) -> Ruleset:
    """The rules after a proclamation that gives pans and spoons their own list and heading, and raises the weight test."""
    folder = Path(shutil.copytree(RULES, tmp_path / "rules"))
    sheet = folder / "headings" / "section232-metals.yaml"
    # The first row that fits decides, so the new rows must come before the old ones.
    sheet.write_text(HEADINGS + sheet.read_text(encoding="utf-8"), encoding="utf-8")

    file = folder / "lists" / "section232-metals.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    source = {"source": "Proclamation 12000, annex", "confidence": "high", "status": "confirmed"}
    (seventh,) = (listed for listed in document["lists"] if listed["id"] == "16(c)(vii)")
    after = seventh["versions"].pop()  # the rows that begin in 2028
    seventh["versions"][-1]["effective_to"] = "2027-02-28"
    seventh["versions"] += [
        {"effective_from": "2027-03-01", "effective_to": "2027-12-31", "remove": ["7323.93.00"], **source},
        after,
    ]
    document["lists"].append(
        {
            "id": "16(c)(xii)", "title": "Kitchen ware", "metal": "steel", "kind": "derivative", "chapters": ["73", "82"],
            "versions": [{"effective_from": "2027-03-01", "codes": ["7323.93.00", "8215.99.30"], **source}],
        }
    )  # fmt: skip
    file.write_text(json.dumps(document), encoding="utf-8")

    needs = folder / "section232.yaml"
    text = needs.read_text(encoding="utf-8")
    old = text[text.index("  - heading: ") : text.index("# The data needed for each metal")]
    new = old.replace('"15"', '"25"').replace("2026-04-06", "2027-03-01")
    ended = old.replace("effective_from: 2026-04-06", "effective_from: 2026-04-06\n    effective_to: 2027-02-28")
    needs.write_text(text.replace(old, ended + new), encoding="utf-8")

    manifest = folder / "ruleset.yaml"
    old, as_of = read_id()
    head = f"id: us-ca-2027-03-01\nas_of: 2027-03-01\npredecessors: [{old}, "
    text = manifest.read_text(encoding="utf-8").replace(f"id: {old}\nas_of: {as_of}\npredecessors: [", head)
    manifest.write_text(text, encoding="utf-8")
    changed = manifest.read_text(encoding="utf-8").replace(
        'headings: ["9903.82.20-9903.82.26"], program: S232_METALS',
        'headings: ["9903.82.20-9903.82.30"], program: S232_METALS',
    )
    manifest.write_text(changed, encoding="utf-8")
    return load_rules(manifest)[0]


def test_new_heading_and_list_apply_from_first_day(rules_after_proclamation: Ruleset) -> None:
    assert [metals_heading(rules_after_proclamation, PAN, on) for on in (EVE, DAY)] == ["9903.82.09", "9903.82.30"]
    assert [metals_heading(rules_after_proclamation, SPOON, on) for on in (EVE, DAY)] == [
        metals_heading(ruleset(), SPOON, EVE),
        "9903.82.30",
    ]
    assert metals_heading(ruleset(), PAN, DAY) == "9903.82.09"


def test_needed_metal_data_follows_list(rules_after_proclamation: Ruleset) -> None:
    assert data_needed(SPOON, "CA", DAY, ruleset()) == data_needed(SPOON, "CA", EVE, rules_after_proclamation)
    (need,) = data_needed(SPOON, "CA", DAY, rules_after_proclamation)
    assert need.fields[-1] == "the country of melt and pour (or OTH)"


def test_new_weight_test_applies_from_first_day(rules_after_proclamation: Ruleset) -> None:
    assert [metals_heading(rules_after_proclamation, HINGE, on, "0.2") for on in (EVE, DAY)] == [
        "9903.82.09",
        "9903.82.03",
    ]


def test_difference_is_described_in_words(rules_after_proclamation: Ruleset) -> None:
    changes = {(change.kind, change.name): change for change in diff_rulesets(ruleset(), rules_after_proclamation)}
    assert changes["heading", "9903.82.30 from 2027-03-01"].what == "began"
    assert changes["list", "16(c)(xii) from 2027-03-01"].details == "+ 7323.93.00, 8215.99.30"
    assert changes["weight test", "9903.82.03 from 2026-04-06"].details.endswith("from 2026-04-06 to 2027-02-28")
    assert changes["weight test", "9903.82.03 from 2027-03-01"].details.startswith("below 25 % of the weight")
    assert [name for kind, name in changes if kind == "family"] == [
        "Section 232, metals, mobile equipment and parts for equipment from 2026-06-08"
    ]
    days = {(change.kind, change.name): change for change in diff_days(rules_after_proclamation, EVE, DAY)}
    assert days["weight test", "9903.82.03"].details.startswith("below 15 % of the weight, outside chapters")
    assert days["list", "16(c)(vii)"].details == "- 7323.93.00"
    assert rules_after_proclamation.predecessors == (ruleset().id, *ruleset().predecessors)
    assert rules_after_proclamation.content_hash != ruleset().content_hash
