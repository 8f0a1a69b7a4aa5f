"""Rulesets are the same where their files are, however often they were loaded."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from pipeline.customs.ruleset import load_ruleset

MANIFEST = Path(str(files("config") / "rules" / "ruleset.yaml"))


def test_ruleset_is_told_by_its_content_hash_alone() -> None:
    one, other = load_ruleset(MANIFEST), load_ruleset(MANIFEST)
    assert one == other
    assert hash(one) == hash(other)
    # Were rows compared as well, each look into what is remembered of a ruleset would cost a comparison of them all.
    assert one == replace(other, rows=())
    assert one != replace(other, content_hash="sha256:another")
