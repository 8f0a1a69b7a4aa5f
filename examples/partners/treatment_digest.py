"""Print the treatment digests of a plan: treatment_digest.py PLAN.json."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def without_empty(value: Any) -> Any:
    """Return the value without members that are null or empty, from the inside out."""
    if isinstance(value, dict):
        kept = {name: without_empty(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner not in (None, [], {})}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


def digest(value: Any) -> str:
    """Return the digest of the value's canonical form."""
    canonical = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


units = []
for unit in json.loads(Path(sys.argv[1]).read_bytes())["units"]:
    lines = []
    for line in unit["lines"]:
        facts = {name: line[name] for name in ("htsCode", "countryOfOrigin", "treatment")}
        lines.append([line["lineRef"], digest(without_empty(facts))])
        print("line", unit["unitRef"], *lines[-1])
    units.append([unit["unitRef"], digest(lines)])
    print("unit", *units[-1])
print("export", digest(units))
