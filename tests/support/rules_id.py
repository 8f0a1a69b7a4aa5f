"""Gives the customs rules another id, in their manifest and in all files that name it. Run by `make rules-id`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MANIFEST = "config/rules/ruleset.yaml"
#: Where files name the rules of this version.
PLACES = ("docs", "examples/plans", "templates/plans", "pipeline/interfaces/contracts/examples")
KINDS = ("*.md", "*.json", "*.jsonc")


def read_id(root: Path = ROOT) -> tuple[str, str]:
    """Return the id of the rules, and the day on which they were true."""
    found = re.search(r"^id: (\S+)\nas_of: (\S+)$", (root / MANIFEST).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{MANIFEST} has no id with as_of below it"
    return found[1], found[2]


def rename_rules(root: Path, to: str, as_of: str | None = None) -> list[str]:
    """Return the changed files. The old id becomes a predecessor; without `as_of`, the day stays."""
    old, day = read_id(root)
    manifest = root / MANIFEST
    head = f"id: {to}\nas_of: {as_of or day}\npredecessors: [{old}, "
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace(f"id: {old}\nas_of: {day}\npredecessors: [", head), encoding="utf-8")
    changed = [MANIFEST]
    for file in sorted(path for place in PLACES for kind in KINDS for path in (root / place).rglob(kind)):
        text = file.read_text(encoding="utf-8")
        named = re.sub(rf'("{re.escape(old)}",\s*"asOf": ")[0-9-]+', rf"\g<1>{as_of or day}", text).replace(old, to)
        if named != text:
            file.write_text(named, encoding="utf-8")
            changed.append(file.relative_to(root).as_posix())
    return changed


if __name__ == "__main__":
    print("\n".join(rename_rules(ROOT, *sys.argv[1:])))  # noqa: T201
