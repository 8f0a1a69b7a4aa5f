"""The page for customs brokers names every document, column and field that there is, and none besides."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.documents.formats import broker_profile
from pipeline.documents.registry import ARTIFACT_TYPES, KINDS, MANIFEST
from pipeline.documents.schemas.profile import BrokerProfile, ProfileColumn

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, PROFILES = ((DOCS / name).read_text(encoding="utf-8") for name in ("customs.md", "broker-profiles.md"))


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_cells(text: str) -> list[str]:
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_kind_of_document_is_named_with_its_file() -> None:
    assert sorted(first_cells(section("The files"))) == sorted([*ARTIFACT_TYPES, broker_profile.ARTIFACT_TYPE])
    for kind, filename in [*((kind.artifact_type, kind.filename) for kind in KINDS), MANIFEST[:2]]:
        assert f"| `{kind}` | {filename} |" in PAGE


def test_every_column_is_named_once() -> None:
    assert sorted(first_cells(section("The table, field by field"))) == sorted(broker_profile.LINE_FIELDS)


def test_every_field_and_setting_of_a_profile_is_named() -> None:
    named = first_cells(PROFILES)
    settings = {field.alias or name for name, field in BrokerProfile.model_fields.items()} - {"name"}
    assert sorted(named) == sorted([*broker_profile.OTHER_FIELDS, *settings])
    of_columns = {field.alias or name for name, field in ProfileColumn.model_fields.items()}
    assert of_columns <= set(re.findall(r"`([^`]+)`", PROFILES))


def test_every_rule_that_the_page_names_is_one_of_the_rules() -> None:
    rules = (Path(__file__).resolve().parents[2] / "config" / "rules" / "README.md").read_text()
    for rule in set(re.findall(r"\b[VT][0-9]{2}(?:-[A-Z]+)?\b", PAGE)):
        assert f"| {rule}" in rules or f", {rule}" in rules, rule


def test_the_page_is_two_pages() -> None:
    """Of letter size, in 8.5 points with 12 mm of margin, as a browser prints it: by so many signs, as was measured."""
    assert len(PAGE) < 9_000
