"""Inconsistent reference data and malformed ids are rejected; the message names the row and the reason."""

import json
import shutil
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.customs.reference.base import ReferenceData
from pipeline.customs.reference.bundle import load_rules
from pipeline.customs.reference.entry import AttributeRules, DescriptionRules, EntryRules, MidRules
from tests.support.rules_id import MANIFEST, PLACES, ROOT, read_id, rename_rules

MODELS: dict[str, type[ReferenceData]] = {
    "entry": EntryRules,
    "mid": MidRules,
    "descriptions": DescriptionRules,
    "attributes": AttributeRules,
}


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((files("config") / "rules" / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def put(value: Any, pointer: str, new: object) -> None:
    *way, last = pointer.split("/")
    for step in way:
        value = value[int(step)] if isinstance(value, list) else value[step]
    value[int(last) if isinstance(value, list) else last] = new


@pytest.mark.parametrize("name", MODELS)
def test_shipped_data_is_consistent(name: str) -> None:
    assert isinstance(MODELS[name].model_validate(document(name)), MODELS[name])


@pytest.mark.parametrize(
    ("name", "pointer", "value", "message"),
    [
        ("entry", "informal/limt_usd", "2500", "informal.limt_usd"),
        ("entry", "informal/status", "certain", "informal.status"),
        ("entry", "informal/confidence", "sure", "informal.confidence"),
        ("entry", "informal/limit_usd", "2,500", "informal.limit_usd"),
        ("entry", "foreign_importer/effective_from", "2026-11-31", "foreign_importer.effective_from"),
        ("entry", "invoice_number/pattern", "^[A-Z", "invoice_number.pattern"),
        ("entry", "importer_numbers/forms/0/pattern", "(", "importer_numbers.forms.0.pattern"),
        (
            "entry",
            "exchange_rates/usual/CAD",
            {"least": "1", "most": "0.5"},
            "least must be less than most; it has 1 and 0.5",
        ),
        ("entry", "exchange_rates/quarters/0/known_to", "2026-06-30", "need effective_from, and known_to on that day"),
        ("entry", "sale/source", None, "sale.source"),
        ("entry", "weights/status", None, "weights.status"),
        ("entry", "clock/zone", "America/Buffalo", "is not a time zone such as America/New_York"),
        ("entry", "incoterms/confidence", None, "incoterms.confidence"),
        (
            "entry",
            "ended_entry_types",
            [{"type": "86", "name": "a", "source": "b", "confidence": "low", "status": "check"}] * 2,
            "ended_entry_types has rows for 86 whose periods overlap",
        ),
        ("entry", "schema", 2, "schema"),
        ("mid", "longest", "fifteen", "longest"),
        ("mid", "textiles/chapters", "50", "textiles.chapters"),
        ("mid", "textiles/chapters/0", "77", "'77' is not a chapter of goods"),
        ("descriptions", "min_words", None, "min_words"),
        ("descriptions", "words", "gift", "words"),
        ("attributes", "rows/0/prefixes", ["73.23"], "rows.0.prefixes.0"),
        ("attributes", "rows/0/prefixes", ["00"], "rows.0.prefixes.0"),
        ("attributes", "rows/0/prefixes", [], "rows.0.prefixes"),
        ("attributes", "rows/0/keys", [], "rows.0.keys"),
        ("attributes", "rows/0/mentioned", "*", "rows.0.mentioned"),
        ("attributes", "rows/1/name", "fibre", "attribute fibre has rows whose periods overlap"),
    ],
)
def test_mistake_is_reported(name: str, pointer: str, value: object, message: str) -> None:
    changed = document(name)
    put(changed, pointer, value)
    with pytest.raises(ValidationError) as refused:
        MODELS[name].model_validate(changed)
    assert message in str(refused.value)


def test_row_with_status_check_only_warns() -> None:
    rules = EntryRules.model_validate(document("entry"))
    for row in (rules.foreign_importer, rules.foreign_importer_formal, rules.usmca_statement):
        assert (row.status, row.severity) == ("check", "warn")
    attributes = AttributeRules.model_validate(document("attributes")).rows
    assert {row.severity for row in attributes if row.status == "check"} == {"warn"}


def test_new_id_reaches_all_files_that_name_the_old_one(tmp_path: Path) -> None:
    for place in ("config/rules", *PLACES):
        shutil.copytree(ROOT / place, tmp_path / place)
    old, _ = read_id()
    changed = rename_rules(tmp_path, "of-2027", "2027-01-02")
    assert {"docs/rules.md", "examples/plans/cookware.json", "templates/plans/plan.jsonc"} < {*changed}
    naming = [path for path in tmp_path.rglob("*.*") if old.encode() in path.read_bytes()]
    assert naming == [tmp_path / MANIFEST]
    rules, _ = load_rules(tmp_path / MANIFEST)
    assert (rules.id, rules.as_of, rules.predecessors[0]) == ("of-2027", date(2027, 1, 2), old)
    for plan in (tmp_path / "examples/plans").rglob("*.json"):
        assert json.loads(plan.read_text(encoding="utf-8"))["ruleset"] == {"id": "of-2027", "asOf": "2027-01-02"}
