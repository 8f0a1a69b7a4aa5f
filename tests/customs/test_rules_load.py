"""A ruleset loads whole or not at all: each kind of slip in its data is named, and a new proclamation is data alone."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from pipeline.customs.ruleset import RulesetInvalid, load_ruleset, ruleset

RULES = Path(__file__).parents[2] / "config" / "rules"
METALS = "headings/section232-metals.yaml"
CANADA = "headings/section338-canada.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the rules that a test may spoil."""
    return Path(shutil.copytree(RULES, tmp_path / "rules"))


def edited(folder: Path, name: str, old: str, new: str) -> Path:
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder / "ruleset.yaml"


def wrong_with(manifest: Path) -> list[str]:
    with pytest.raises(RulesetInvalid) as refused:
        load_ruleset(manifest)
    return refused.value.errors


def test_the_rules_load_once_and_cannot_be_changed() -> None:
    rules = ruleset()
    assert ruleset() is rules
    assert (rules.id, rules.as_of) == ("us-ca-2026-10-07", date(2026, 10, 7))
    with pytest.raises(AttributeError):
        rules.id = "another"  # type: ignore[misc]


def test_every_row_has_a_source_a_confidence_a_status_and_a_first_day() -> None:
    rules = ruleset()
    rows = [*rules.rows, *rules.bans, *rules.families, *rules.exclusive, *rules.companions]
    rows += [held.version for held in rules.held]
    assert len(rows) > 250
    for row in rows:
        assert row.source
        assert row.effective_from is not None


def test_the_content_hash_is_of_the_content(folder: Path) -> None:
    assert load_ruleset(folder / "ruleset.yaml").content_hash == ruleset().content_hash
    changed = edited(folder, METALS, 'rate_percent: "50"', 'rate_percent: "51"')
    assert load_ruleset(changed).content_hash != ruleset().content_hash


@pytest.mark.parametrize(
    ("name", "old", "new", "error"),
    [
        (
            METALS,
            'heading: "9903.82.09"',
            'heading: "9903.82.9"',
            f"{METALS}: heading: Value error, '9903.82.9' is no heading of chapter 99 such as 9903.82.09",
        ),
        (
            METALS,
            'heading: "9903.82.09"',
            'heading: "7323.93.00"',
            f"{METALS}: heading: Value error, '7323.93.00' is no heading of chapter 99 such as 9903.82.09",
        ),
        (METALS, "program: S232_METALS,", "program: S999,", "heading 9903.82.01 names program S999, which is not defined"),
        (METALS, '{lists: ["16(c)(i)"]', '{lists: ["16(z)"]', "heading 9903.85.67 names list 16(z), which is not defined"),
        (METALS, 'heading: "9903.82.09"', 'heading: "9903.82.02"', "heading 9903.82.02 has rows whose windows overlap"),
        (METALS, "countries: [RU]", "countrys: [RU]", f"{METALS}: when.metal_from.countries: Field required"),
        (METALS, "share: any", "share: most", f"{METALS}: when.metal_from.share: Input should be 'any' or 'all'"),
        (METALS, "status: confirmed", "status: sure", f"{METALS}: status: Input should be 'confirmed', 'probable' or 'check'"),
        (METALS, "effective_from: 2026-04-06", "effective_from: spring", f"{METALS}: effective_from: Input should be a valid date"),
        (METALS, "effective_to: 2027-12-31", "effective_to: 2025-12-31", "heading 9903.82.17 ends on 2025-12-31, before it begins on 2026-04-06"),
        (METALS, "origins: [RU]", "origins: [RUSSIA]", "heading 9903.82.15 names the group of countries RUSSIA, which is not defined"),
        (METALS, "origins: [RU]", "origins: [ru]", "'ru' is neither a country nor the name of a group"),
        (METALS, '      source: "HTSUS 2026 Revision 6, U.S. note 16(c)"\n', "", f"{METALS}: source: Field required"),
        (CANADA, "list: ban-dairy", "list: ban-cheese", "a ban names list ban-cheese, which is not defined"),
        ("ruleset.yaml", "program: S122, name", "program: S123, name", "family Section 122 import surcharge names program S123, which is not defined"),
        ("ruleset.yaml", '"9903.82.02-9903.82.26"', '"9903.82.26-9903.82.02"', "is no range of headings such as 9903.82.04-9903.82.26"),
        ("ruleset.yaml", "lists/section232-metals.json", "lists/none.json", "lists/none.json: "),
        ("lists/section338-canada.json", '"8711.50.00"', '"9811.50.00"', "holds 9811.50.00, which is of none of its chapters"),
        ("lists/section338-canada.json", '"lists"', '"list"', "lists/section338-canada.json: lists: Field required"),
        ("lists/section232-metals.json", "{", "", "lists/section232-metals.json: "),
    ],
)  # fmt: skip
def test_a_slip_in_the_data_is_a_load_error(folder: Path, name: str, old: str, new: str, error: str) -> None:
    errors = wrong_with(edited(folder, name, old, new))
    assert any(error in said for said in errors), errors


def test_a_row_without_a_first_day_is_refused(folder: Path) -> None:
    manifest = edited(folder, CANADA, "      effective_from: 2026-08-22\n", "")
    assert wrong_with(manifest) == ["heading 9903.03.16 has no first day"]


def test_all_that_is_wrong_is_said_at_once(folder: Path) -> None:
    edited(folder, METALS, "share: any", "share: most")
    errors = wrong_with(edited(folder, CANADA, "list: ban-dairy", "list: ban-cheese"))
    assert sorted(error.split(":")[0] for error in errors) == [
        "a ban names list ban-cheese, which is not defined",
        METALS,
    ]


def test_a_window_between_two_others_of_its_heading_is_refused(folder: Path) -> None:
    manifest = edited(folder, METALS, "      effective_to: 2026-06-07\n", "      effective_to: 2026-06-08\n")
    assert wrong_with(manifest) == ["heading 9903.82.15 has rows whose windows overlap"]


def test_a_new_proclamation_is_data_and_no_code(folder: Path) -> None:
    file = folder / METALS
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text
        + """
- defaults: {program: S232_METALS, basis: full_value, effective_from: 2027-03-01, effective_to: null,
    source: "a proclamation", confidence: high, status: confirmed}
  rows:
    - {heading: "9903.82.30", description: "Kitchen ware", rate_percent: "5", when: {origins: [CA], lists: ["16(c)(vii)"]}}
""",
        encoding="utf-8",
    )
    rules = load_ruleset(folder / "ruleset.yaml")
    row = rules.row("9903.82.30", date(2027, 3, 1))
    assert row is not None
    assert (str(row.rate_percent), rules.row("9903.82.30", date(2027, 2, 28))) == ("5", None)
