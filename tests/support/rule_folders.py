"""Folders of customs rules that differ from those of this version."""

import shutil
from pathlib import Path

from pipeline.customs.reference.content import RULES, packaged_rules
from pipeline.customs.reference.ruleset import ruleset

#: The id of the rules of this version.
PACKAGED_ID = ruleset().id
PACKAGED_HASH = packaged_rules().content_hash


def write_rules(folder: Path, name: str, *changes: tuple[str, str, str]) -> Path:
    """Write the rules of this version into the folder under another id; a change is a file, its old and its new text."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(RULES, folder)
    replace_text(folder, "ruleset.yaml", f"id: {PACKAGED_ID}", f"id: {name}")
    replace_text(folder, "ruleset.yaml", "predecessors: [", f"predecessors: [{PACKAGED_ID}, ")
    for file, old, new in changes:
        replace_text(folder, file, old, new)
    return folder


def replace_text(folder: Path, file: str, old: str, new: str) -> None:
    """Replace a text that the file has."""
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text, (file, old)
    path.write_text(text.replace(old, new), encoding="utf-8")
