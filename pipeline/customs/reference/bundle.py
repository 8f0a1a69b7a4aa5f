"""All of config/rules at once: the ruleset of chapter 99 and the rules beside it, loaded whole or refused with all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import RULES, Data
from pipeline.customs.reference.chapter99 import Manifest
from pipeline.customs.reference.entry import AttributeRules, EntryRules, MidRules, Vague
from pipeline.customs.reference.loader import Reader
from pipeline.customs.reference.pga import PgaRules
from pipeline.customs.reference.pga_layouts import RecordRules
from pipeline.customs.reference.ruleset import MANIFEST, Ruleset, load_ruleset, ruleset

#: The kind of rows of each file, its name, and its shape.
REFERENCE: Final[Mapping[str, tuple[str, type[Data]]]] = MappingProxyType(
    {
        "entry.yaml": ("entry", EntryRules),
        "mid.yaml": ("MID", MidRules),
        "descriptions.yaml": ("descriptions", Vague),
        "attributes.yaml": ("attributes", AttributeRules),
        "pga.yaml": ("agencies", PgaRules),
        "pga_records.yaml": ("agency records", RecordRules),
    }
)


def load_rules(manifest: Path = RULES / MANIFEST) -> tuple[Ruleset, Mapping[str, Data]]:
    """Return the ruleset of the manifest, and what each of the files of REFERENCE beside it holds.

    Raises RulesInvalid, with everything that is wrong in any of the files.
    """
    wrong: list[str] = []
    rules: Ruleset | None = None
    try:
        rules = ruleset() if manifest == RULES / MANIFEST else load_ruleset(manifest)
    except RulesInvalid as error:
        wrong += error.errors
    reader = Reader(manifest.parent)
    head = reader.read(Manifest, manifest.name)
    named = REFERENCE.keys() & (head.reference if head is not None else ())
    if head is not None:
        wrong += [
            f"{manifest.name}: {name} holds no rules that are read. Take it out of `reference`."
            for name in head.reference
            if name not in REFERENCE
        ]
        wrong += [
            f"{manifest.name}: `reference` does not name {name}. Add it." for name in sorted(REFERENCE.keys() - named)
        ]
    reader.wrong.clear()  # the manifest's own errors were said with the ruleset's
    found = {name: read for name in REFERENCE if name in named and (read := reader.read(REFERENCE[name][1], name))}
    wrong += [said for said in reader.wrong if said not in wrong]
    if rules is None or wrong:
        raise RulesInvalid(wrong)
    return rules, MappingProxyType(found)
