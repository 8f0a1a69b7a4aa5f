"""A new id of the rules stands in all files that name them."""

import json
import shutil
from datetime import date
from pathlib import Path

from pipeline.customs.reference.bundle import load_rules
from tests.support.rules_id import MANIFEST, PLACES, ROOT, read_id, rename_rules


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
