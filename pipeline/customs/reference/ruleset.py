"""The ruleset of chapter 99: read once, immutable, and identified by an id and a content hash."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final, TypeVar

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import ReferenceRow
from pipeline.customs.reference.chapter99 import (
    CompanionHeadings,
    CountryGroup,
    DutyProgram,
    ExclusiveHeadings,
    HeadingFamily,
    HeadingRow,
    Origin,
    ReportingOrder,
    ReviewPeriod,
    RulesetManifest,
    in_ranges,
)
from pipeline.customs.reference.content import RulesContent, load_once
from pipeline.customs.reference.hts_lists import (
    HtsList,
    ListFile,
    ListMatch,
    ResolvedList,
    find_matching_lists,
    resolve_versions,
)
from pipeline.customs.reference.loader import RulesReader
from pipeline.customs.reference.metals import MetalRules
from pipeline.customs.reference.rows import GoodsRule, HeadingSheet, ImportBan, OpenDuty, Question
from pipeline.customs.reference.validation import RulesetParts, find_contradictions

MANIFEST: Final = "ruleset.yaml"

Goods = TypeVar("Goods", bound=GoodsRule)


@dataclass(frozen=True, eq=False)
class Ruleset:
    """The loaded rules: immutable, named by `id`, and identified by the hash of their files.

    Lookups are cached per ruleset object. Two rulesets from the same files share no objects: each has its own programs.
    """

    id: str
    as_of: date
    content_hash: str
    predecessors: tuple[str, ...]
    programs: tuple[DutyProgram, ...]
    country_groups: tuple[CountryGroup, ...]
    rows: tuple[HeadingRow, ...]
    bans: tuple[ImportBan, ...]
    open_duties: tuple[OpenDuty, ...]
    questions: tuple[Question, ...]
    lists: tuple[HtsList, ...]
    resolved_lists: tuple[ResolvedList, ...]
    metals: MetalRules
    reporting: ReportingOrder
    review: ReviewPeriod
    exclusive: tuple[ExclusiveHeadings, ...]
    companions: tuple[CompanionHeadings, ...]
    families: tuple[HeadingFamily, ...]

    @cached_property
    def by_heading(self) -> Mapping[str, tuple[HeadingRow, ...]]:
        """The rows of each heading, oldest first."""
        found: dict[str, tuple[HeadingRow, ...]] = {}
        for row in self.rows:
            found[row.heading] = (*found.get(row.heading, ()), row)
        return MappingProxyType(found)

    @cached_property
    def begins_on(self) -> date:
        """The first day on which a heading is in force; before it, no answer of these rules means anything."""
        return min(row.effective_from for row in self.rows if row.effective_from is not None)

    @cached_property
    def programs_by_id(self) -> Mapping[str, DutyProgram]:
        """The programs by their ids."""
        return MappingProxyType({program.id: program for program in self.programs})

    @cached_property
    def reported_order(self) -> str:
        """The order of reporting of the programs, in words."""
        ranked: dict[int, list[str]] = {}
        for program in sorted(self.programs, key=lambda program: program.rank):
            ranked.setdefault(program.rank, []).append(program.name.split(",", 1)[0])
        return ", ".join(" or ".join(dict.fromkeys(names)) for names in ranked.values())

    def find_row(self, heading: str, on: date) -> HeadingRow | None:
        """Return the row of the heading that is in force on the day, or None."""
        return next((row for row in self.by_heading.get(heading, ()) if row.in_force(on)), None)

    def days_old(self, on: date) -> int:
        """Return how many days have passed on the day since the law of these rules was read."""
        return max((on - self.as_of).days, 0)

    def days_too_old(self, on: date) -> int:
        """Return by how many days the rules are too old for an entry on the day; 0 if they are not too old."""
        return max((on - self.as_of).days - self.review.within_days, 0)

    def find_family(self, heading: str) -> HeadingFamily | None:
        """Return the family of the heading, or None."""
        return _find_family(self, heading)

    def find_program(self, heading: str) -> DutyProgram | None:
        """Return the program of the heading, or None if the rules do not know it."""
        rows = self.by_heading.get(heading)
        family = None if rows else self.find_family(heading)
        name = rows[0].program if rows else family.program if family else None
        return self.programs_by_id[name] if name else None

    def list_unknown(self, headings: Iterable[str]) -> list[str]:
        """Return those of the headings that the rules do not know."""
        return [heading for heading in headings if self.find_program(heading) is None]

    def find_lists(self, hts_code: str, on: date) -> tuple[ListMatch, ...]:
        """Return the lists that the HTS code is on, on the day `on`, the longest matching provision first."""
        return _find_lists(self, hts_code, on)

    def find_bans(self, hts_code: str, origin: str, on: date) -> tuple[ImportBan, ...]:
        """Return the import bans for goods of the HTS code and the origin that are in force on the day."""
        on_lists = {listed.list.id for listed in self.find_lists(hts_code, on)}
        return tuple(ban for ban in self.bans if ban.list in on_lists and origin in ban.origins and ban.in_force(on))

    def find_open_duties(self, hts_code: str, origin: str, on: date) -> tuple[OpenDuty, ...]:
        """Return the duties without a heading that goods of the code and the origin take on the day, one of each program."""
        return _find_open_duties(self, hts_code, origin, on)

    def find_questions(self, hts_code: str, origin: str, on: date) -> tuple[Question, ...]:
        """Return the open questions about goods of the code and the origin on the day."""
        return _find_questions(self, hts_code, origin, on)


@lru_cache(maxsize=20_000)
def _find_open_duties(rules: Ruleset, hts_code: str, origin: str, on: date) -> tuple[OpenDuty, ...]:
    found: dict[str, OpenDuty] = {}
    for row in rules.open_duties:
        if row.covers(hts_code, origin, on):
            found.setdefault(row.program, row)
    return tuple(found.values())


@lru_cache(maxsize=20_000)
def _find_questions(rules: Ruleset, hts_code: str, origin: str, on: date) -> tuple[Question, ...]:
    return tuple(row for row in rules.questions if row.covers(hts_code, origin, on))


@lru_cache(maxsize=4096)
def _find_family(rules: Ruleset, heading: str) -> HeadingFamily | None:
    return next((family for family in rules.families if in_ranges(heading, family.headings)), None)


@lru_cache(maxsize=20_000)
def _find_lists(rules: Ruleset, hts_code: str, on: date) -> tuple[ListMatch, ...]:
    return find_matching_lists(rules.resolved_lists, hts_code, on)


@load_once
def ruleset(rules: RulesContent) -> Ruleset:
    """Return the ruleset of chapter 99 by which this context judges."""
    return parse_ruleset(rules)


def parse_ruleset(rules: RulesContent, manifest: str = MANIFEST) -> Ruleset:
    """Return the ruleset of a manifest and of the files that it names.

    Raises RulesInvalid with all errors if the rules do not match their schema, or contradict one another.
    """
    reader = RulesReader(rules.files)
    content = reader.read_as(RulesetManifest, manifest)
    if content is None:
        raise RulesInvalid(reader.errors)
    files = {name: reader.read_as(ListFile, name) for name in content.lists}
    lists = tuple((name, listed) for name, file in files.items() if file for listed in file.lists)
    sheets = tuple(
        (name, sheet) for name in content.headings for sheet in reader.read_as(tuple[HeadingSheet, ...], name) or ()
    )
    metals = reader.read_as(MetalRules, content.metals)
    for name in content.reference:
        reader.read_text(name)
    resolved, list_errors = resolve_versions(tuple(listed for _, listed in lists))
    parts = RulesetParts(manifest, content, sheets, lists, resolved, tuple(list_errors), metals)
    reader.errors += find_contradictions(parts)
    reader.errors += _find_unreferenced_files(rules, manifest, content)
    if reader.errors or metals is None:
        raise RulesInvalid(reader.errors)
    return Ruleset(
        id=content.id,
        as_of=content.as_of,
        content_hash=rules.content_hash,
        predecessors=content.predecessors,
        programs=content.programs,
        country_groups=content.country_groups,
        rows=tuple(_expand_groups(row, content.country_groups) for _, sheet in sheets for row in sheet.rows),
        bans=tuple(ban for _, sheet in sheets for ban in sheet.bans),
        open_duties=tuple(_expand_origins(row, content.country_groups) for _, sheet in sheets for row in sheet.open),
        questions=tuple(_expand_origins(row, content.country_groups) for _, sheet in sheets for row in sheet.questions),
        lists=tuple(listed for _, listed in lists),
        resolved_lists=resolved,
        metals=metals,
        reporting=content.reporting,
        review=content.review,
        exclusive=content.exclusive,
        companions=content.companions,
        families=content.families,
    )


def referenced_files(manifest: RulesetManifest) -> frozenset[str]:
    """Return the names of the files of the ruleset, without its manifest."""
    return frozenset((*manifest.headings, *manifest.lists, manifest.metals, *manifest.reference))


def _find_unreferenced_files(rules: RulesContent, manifest: str, content: RulesetManifest) -> list[str]:
    # A file that is not read would look like rules in force.
    return [
        f"{name}: {manifest} does not name this file. Name it there, or delete it."
        for name in sorted(rules.files.keys() - referenced_files(content) - {manifest})
    ]


def _expand_groups(row: HeadingRow, groups: tuple[CountryGroup, ...]) -> HeadingRow:
    when = row.when
    expanded = {
        name: _list_countries(row, names, groups)
        for name, names in (("origins", when.origins), ("not_origins", when.not_origins))
    }
    if expanded == {"origins": when.origins, "not_origins": when.not_origins}:
        return row
    return row.model_copy(update={"when": when.model_copy(update=expanded)})


def _expand_origins(row: Goods, groups: tuple[CountryGroup, ...]) -> Goods:
    return row.model_copy(update={"origins": _list_countries(row, row.origins, groups)})


def _list_countries(row: ReferenceRow, names: frozenset[Origin], groups: tuple[CountryGroup, ...]) -> frozenset[Origin]:
    countries = {group.name: group.countries for group in groups if row.lies_within(group)}
    return frozenset(country for named in names for country in countries.get(named, (named,)))
