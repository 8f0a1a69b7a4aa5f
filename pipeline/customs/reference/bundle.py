"""Loads all rules: the ruleset of chapter 99 and the other rules. An error in one file rejects all of them."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import ReferenceData
from pipeline.customs.reference.chapter98 import Chapter98Rules
from pipeline.customs.reference.chapter99 import RulesetManifest
from pipeline.customs.reference.content import RulesContent, parse_file, read_folder, rules_in_use, use_rules
from pipeline.customs.reference.entry import AttributeRules, DescriptionRules, EntryRules, MidRules
from pipeline.customs.reference.filing import FilingRules
from pipeline.customs.reference.loader import RulesReader
from pipeline.customs.reference.pga import PgaRules
from pipeline.customs.reference.pga_layouts import RecordRules
from pipeline.customs.reference.ports import PortRules
from pipeline.customs.reference.ruleset import MANIFEST, Ruleset, parse_ruleset, ruleset
from pipeline.customs.reference.transport import TransportRules
from pipeline.customs.reference.units import UnitRules
from pipeline.customs.reference.valuation import ValuationRules

#: By file name: the kind of its rows, and its model.
REFERENCE: Final[Mapping[str, tuple[str, type[ReferenceData]]]] = MappingProxyType(
    {
        "entry.yaml": ("entry", EntryRules),
        "mid.yaml": ("MID", MidRules),
        "descriptions.yaml": ("descriptions", DescriptionRules),
        "attributes.yaml": ("attributes", AttributeRules),
        "pga.yaml": ("agencies", PgaRules),
        "pga_records.yaml": ("agency records", RecordRules),
        "valuation.yaml": ("values and fees", ValuationRules),
        "units.yaml": ("units", UnitRules),
        "chapter98.yaml": ("chapter 98", Chapter98Rules),
        "filing.yaml": ("filing", FilingRules),
        "transport.yaml": ("transport", TransportRules),
        "ports.yaml": ("ports and modes of transport", PortRules),
    }
)


def load_rules(manifest: Path | None = None) -> tuple[Ruleset, Mapping[str, ReferenceData]]:
    """Return the ruleset of the manifest, and by name the content of the files of REFERENCE in the same folder.

    Without a manifest they are those of the rules in use. Raises RulesInvalid with the errors of all files.
    """
    if manifest is None:
        return rules_in_use().parse_once(parse_rules)
    return parse_rules(read_folder(manifest.parent), manifest.name)


def parse_rules(
    content: RulesContent, manifest: str = MANIFEST, *, complete: bool = True
) -> tuple[Ruleset, Mapping[str, ReferenceData]]:
    """Return the ruleset of the manifest, and by name the content of the files of REFERENCE.

    Rules of an older version need not be `complete`: they lack the files that later versions added. Raises RulesInvalid with the errors of all files.
    """
    errors: list[str] = []
    rules: Ruleset | None = None
    try:
        if manifest == MANIFEST:
            with use_rules(content):
                rules = ruleset()  # the copy that judges is the one that is checked
        else:
            rules = parse_ruleset(content, manifest)
    except RulesInvalid as error:
        errors += error.errors
    reader = RulesReader(content.files)
    rules_manifest = reader.read_as(RulesetManifest, manifest)
    named_files = REFERENCE.keys() & (rules_manifest.reference if rules_manifest is not None else ())
    if rules_manifest is not None:
        errors += [
            f"{manifest}: the service does not read {name}. Remove it from `reference`."
            for name in rules_manifest.reference
            if name not in REFERENCE
        ]
        errors += [
            f"{manifest}: `reference` does not name {name}. Add it."
            for name in sorted(REFERENCE.keys() - named_files if complete else ())
        ]
    reader.errors.clear()  # the ruleset has already reported the errors of the manifest
    reference: dict[str, ReferenceData] = {}
    for name in (each for each in REFERENCE if each in named_files and reader.read_text(each) is not None):
        try:
            # The copy that judges is the one that is checked.
            reference[name] = parse_file(content, REFERENCE[name][1], name)
        except RulesInvalid as error:
            reader.errors += error.errors
    errors += [message for message in reader.errors if message not in errors]
    if rules is None or errors:
        raise RulesInvalid(errors)
    return rules, MappingProxyType(reference)
