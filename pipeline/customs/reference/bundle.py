"""All of config/rules at once: the ruleset of chapter 99 and the rules beside it, loaded whole or refused with all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import RULES, ReferenceData
from pipeline.customs.reference.chapter99 import RulesetManifest
from pipeline.customs.reference.entry import AttributeRules, DescriptionRules, EntryRules, MidRules
from pipeline.customs.reference.loader import RulesReader
from pipeline.customs.reference.pga import PgaRules
from pipeline.customs.reference.pga_layouts import RecordRules
from pipeline.customs.reference.ruleset import MANIFEST, Ruleset, load_ruleset, ruleset

#: The kind of rows of each file, its name, and its shape.
REFERENCE: Final[Mapping[str, tuple[str, type[ReferenceData]]]] = MappingProxyType(
    {
        "entry.yaml": ("entry", EntryRules),
        "mid.yaml": ("MID", MidRules),
        "descriptions.yaml": ("descriptions", DescriptionRules),
        "attributes.yaml": ("attributes", AttributeRules),
        "pga.yaml": ("agencies", PgaRules),
        "pga_records.yaml": ("agency records", RecordRules),
    }
)


def load_rules(manifest: Path = RULES / MANIFEST) -> tuple[Ruleset, Mapping[str, ReferenceData]]:
    """Return the ruleset of the manifest, and what each of the files of REFERENCE beside it holds.

    Raises RulesInvalid, with everything that is wrong in any of the files.
    """
    errors: list[str] = []
    rules: Ruleset | None = None
    try:
        rules = ruleset() if manifest == RULES / MANIFEST else load_ruleset(manifest)
    except RulesInvalid as error:
        errors += error.errors
    reader = RulesReader(manifest.parent)
    rules_manifest = reader.read_as(RulesetManifest, manifest.name)
    named_files = REFERENCE.keys() & (rules_manifest.reference if rules_manifest is not None else ())
    if rules_manifest is not None:
        errors += [
            f"{manifest.name}: {name} holds no rules that are read. Take it out of `reference`."
            for name in rules_manifest.reference
            if name not in REFERENCE
        ]
        errors += [
            f"{manifest.name}: `reference` does not name {name}. Add it."
            for name in sorted(REFERENCE.keys() - named_files)
        ]
    reader.errors.clear()  # the manifest's own errors were said with the ruleset's
    reference = {
        name: read for name in REFERENCE if name in named_files and (read := reader.read_as(REFERENCE[name][1], name))
    }
    errors += [message for message in reader.errors if message not in errors]
    if rules is None or errors:
        raise RulesInvalid(errors)
    return rules, MappingProxyType(reference)
