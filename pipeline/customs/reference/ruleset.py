"""The ruleset of chapter 99: read once, immutable, known by an id and its content, and refused whole where it cannot be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import RULES, load_once
from pipeline.customs.reference.chapter99 import (
    Ban,
    Companions,
    CountryGroup,
    Exclusive,
    Family,
    HeadingRow,
    HeadingSheet,
    Manifest,
    Program,
    Reporting,
    Review,
    When,
    within,
)
from pipeline.customs.reference.hts_lists import Held, HtsList, Listed, ListFile, held_versions, lists_of
from pipeline.customs.reference.loader import RulesReader
from pipeline.customs.reference.metals import MetalRules
from pipeline.customs.reference.validation import Parts, contradictions

MANIFEST: Final = "ruleset.yaml"


@dataclass(frozen=True, eq=False)
class Ruleset:
    """The rules as loaded: immutable, named by `id`, and known by the content of its files.

    What is found is kept by ruleset. Two that were loaded from the same files share nothing: each has programs of its own.
    """

    id: str
    as_of: date
    content_hash: str
    predecessors: tuple[str, ...]
    programs: tuple[Program, ...]
    country_groups: tuple[CountryGroup, ...]
    rows: tuple[HeadingRow, ...]
    bans: tuple[Ban, ...]
    lists: tuple[HtsList, ...]
    held: tuple[Held, ...]
    metals: MetalRules
    reporting: Reporting
    review: Review
    exclusive: tuple[Exclusive, ...]
    companions: tuple[Companions, ...]
    families: tuple[Family, ...]

    @cached_property
    def by_heading(self) -> Mapping[str, tuple[HeadingRow, ...]]:
        """Every heading's rows, oldest first."""
        found: dict[str, tuple[HeadingRow, ...]] = {}
        for row in self.rows:
            found[row.heading] = (*found.get(row.heading, ()), row)
        return MappingProxyType(found)

    @cached_property
    def program_of_id(self) -> Mapping[str, Program]:
        """The programs by their ids."""
        return MappingProxyType({program.id: program for program in self.programs})

    @cached_property
    def reported_order(self) -> str:
        """The programs in the order in which their headings stand on a line, in words."""
        ranked: dict[int, list[str]] = {}
        for program in sorted(self.programs, key=lambda program: program.rank):
            ranked.setdefault(program.rank, []).append(program.name.split(",", 1)[0])
        return ", ".join(" or ".join(dict.fromkeys(names)) for names in ranked.values())

    def row(self, heading: str, on: date) -> HeadingRow | None:
        """Return the row of the heading that is in force on the day."""
        return next((row for row in self.by_heading.get(heading, ()) if row.in_force(on)), None)

    def too_old_by(self, on: date) -> int:
        """Return by how many days the rules are too old for an entry on the day; 0 where they are not."""
        return max((on - self.as_of).days - self.review.within_days, 0)

    def family(self, heading: str) -> Family | None:
        """Return the family that the heading belongs to."""
        return _family(self, heading)

    def program(self, heading: str) -> Program | None:
        """Return the program that the heading belongs to."""
        rows = self.by_heading.get(heading)
        family = None if rows else self.family(heading)
        name = rows[0].program if rows else family.program if family else None
        return self.program_of_id[name] if name else None

    def lists_of(self, hts_code: str, on: date) -> tuple[Listed, ...]:
        """Return the lists that the ten digits are on on the day, the longest matching code first."""
        return _lists_of(self, hts_code, on)

    def bans_of(self, hts_code: str, origin: str, on: date) -> tuple[Ban, ...]:
        """Return what excludes goods of the ten digits and the origin from import on the day."""
        on_lists = {listed.list.id for listed in self.lists_of(hts_code, on)}
        return tuple(ban for ban in self.bans if ban.list in on_lists and origin in ban.origins and ban.in_force(on))


@lru_cache(maxsize=4096)
def _family(rules: Ruleset, heading: str) -> Family | None:
    return next((family for family in rules.families if within(heading, family.headings)), None)


@lru_cache(maxsize=20_000)
def _lists_of(rules: Ruleset, hts_code: str, on: date) -> tuple[Listed, ...]:
    return lists_of(rules.held, hts_code, on)


@load_once
def ruleset() -> Ruleset:
    """Return the ruleset of config/rules."""
    return load_ruleset(RULES / MANIFEST)


def load_ruleset(manifest: Path) -> Ruleset:
    """Return the ruleset of a manifest and the files that it names beside it.

    Raises RulesInvalid, with everything that is wrong, where the rules contradict their schema or one another.
    """
    reader = RulesReader(manifest.parent)
    head = reader.read_as(Manifest, manifest.name)
    if head is None:
        raise RulesInvalid(reader.errors)
    files = {name: reader.read_as(ListFile, name) for name in head.lists}
    lists = tuple((name, listed) for name, file in files.items() if file for listed in file.lists)
    sheets = tuple(
        (name, sheet) for name in head.headings for sheet in reader.read_as(tuple[HeadingSheet, ...], name) or ()
    )
    metals = reader.read_as(MetalRules, head.metals)
    for name in head.reference:
        reader.read_text(name)
    held, broken = held_versions(tuple(listed for _, listed in lists))
    parts = Parts(manifest.name, head, sheets, lists, held, tuple(broken), metals)
    reader.errors += contradictions(parts)
    reader.errors += _unnamed(reader.folder, manifest.name, head)
    if reader.errors or metals is None:
        raise RulesInvalid(reader.errors)
    return Ruleset(
        id=head.id,
        as_of=head.as_of,
        content_hash=reader.content_hash,
        predecessors=head.predecessors,
        programs=head.programs,
        country_groups=head.country_groups,
        rows=tuple(_spread(row, head.country_groups) for _, sheet in sheets for row in sheet.rows),
        bans=tuple(ban for _, sheet in sheets for ban in sheet.bans),
        lists=tuple(listed for _, listed in lists),
        held=held,
        metals=metals,
        reporting=head.reporting,
        review=head.review,
        exclusive=head.exclusive,
        companions=head.companions,
        families=head.families,
    )


def named_files(head: Manifest) -> frozenset[str]:
    """Return the files that make up the ruleset, beside its manifest."""
    return frozenset((*head.headings, *head.lists, head.metals, *head.reference))


def _unnamed(folder: Path, manifest: str, head: Manifest) -> list[str]:
    # A file that nothing reads would seem to hold rules, and hold none.
    found = {
        file.relative_to(folder).as_posix()
        for ending in ("yaml", "yml", "json")
        for file in folder.rglob(f"*.{ending}")
    }
    return [
        f"{name}: {manifest} does not name this file. Name it there, or delete it."
        for name in sorted(found - named_files(head) - {manifest})
    ]


def _spread(row: HeadingRow, groups: tuple[CountryGroup, ...]) -> HeadingRow:
    when = row.when
    named = {group.name: group.countries for group in groups if row.lies_within(group)}
    if not (when.origins | when.not_origins) & named.keys():
        return row
    return row.model_copy(update={"when": _with_countries(when, named)})


def _with_countries(when: When, groups: Mapping[str, tuple[str, ...]]) -> When:
    spread = {
        name: frozenset(country for named in names for country in groups.get(named, (named,)))
        for name, names in (("origins", when.origins), ("not_origins", when.not_origins))
    }
    return when.model_copy(update=spread)
