"""The docs page for customs brokers names exactly the documents, columns and fields that exist."""

import re
from pathlib import Path

from pipeline.documents import broker_profile
from pipeline.documents.formats.columns import LINE_COLUMNS
from pipeline.documents.registry import ARTIFACT_TYPES, KINDS, MANIFEST
from pipeline.documents.schemas.profile import BrokerProfile, ProfileColumn
from tests.support.doc_tables import read_yaml, with_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, PROFILES = (with_tables((DOCS / name).read_text("utf-8")) for name in ("customs.md", "broker-profiles.md"))


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def listed_names(text: str) -> list[str]:
    rows = [line.split(": ")[0] for line in text.splitlines() if line.startswith("- `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_document_kind_is_documented() -> None:
    assert sorted(listed_names(section("The files"))) == sorted([*ARTIFACT_TYPES, broker_profile.ARTIFACT_TYPE])
    for kind, filename in [*((kind.artifact_type, kind.filename) for kind in KINDS), MANIFEST[:2]]:
        assert f"- `{kind}`: {filename}: " in PAGE


def test_every_column_is_documented_once() -> None:
    assert sorted(listed_names(section("The table, field by field"))) == sorted(LINE_COLUMNS)


def test_every_profile_field_and_setting_is_documented() -> None:
    named = listed_names(PROFILES)
    settings = {field.alias or name for name, field in BrokerProfile.model_fields.items()} - {"name"}
    assert sorted(named) == sorted([*(broker_profile.FIELDS_OF_ROWS["lines"] - LINE_COLUMNS.keys()), *settings])
    of_columns = {field.alias or name for name, field in ProfileColumn.model_fields.items()}
    assert of_columns <= set(re.findall(r"`([^`]+)`", PROFILES))


def test_every_documented_rule_exists() -> None:
    rules = {rule for row in read_yaml("docs/findings.yaml") for rule in row.split(", ")}
    assert set(re.findall(r"\b[VT][0-9]{2}(?:-[A-Z]+)?\b", PAGE)) <= rules


def test_page_fits_two_pages() -> None:
    """US Letter, 8.5 points and 12 mm margins, printed by a browser: the measured number of characters fits two pages."""
    assert len(PAGE.replace("<!-- -->\n", "")) < 9_000
