"""Finds contradictions between rules that match their schema: undefined names, missing first days, overlapping periods."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.customs.reference.base import ReferenceRow
from pipeline.customs.reference.chapter99 import (
    HeadingFamily,
    HeadingRangeRow,
    HeadingRanges,
    HeadingRow,
    Origin,
    RulesetManifest,
    in_ranges,
)
from pipeline.customs.reference.hts_lists import HtsList, ResolvedList
from pipeline.customs.reference.metals import MetalNeeds, MetalRules, WeightTest
from pipeline.customs.reference.rows import GoodsRule, HeadingSheet

_OVERLAP_REMEDY = "End the older row on the day before the newer row begins."
_UNDEFINED_REMEDY = "Define it, or correct the name."


@dataclass(frozen=True, slots=True)
class RulesetParts:
    """The parts of a ruleset, each with the name of its file; `list_errors` are the errors of lists by list id."""

    manifest: str
    manifest_content: RulesetManifest
    sheets: tuple[tuple[str, HeadingSheet], ...]
    lists: tuple[tuple[str, HtsList], ...]
    resolved: tuple[ResolvedList, ...]
    list_errors: tuple[tuple[str, str], ...]
    metals: MetalRules | None


def find_contradictions(parts: RulesetParts) -> Iterator[str]:
    """Yield each contradiction as text with the file, the row, what is wrong and the remedy."""
    files = {listed.id: file for file, listed in parts.lists}
    yield from (f"{files[name]}: list {name} {problem}" for name, problem in parts.list_errors)
    yield from _find_undated(parts, files)
    yield from _find_unknown_names(parts)
    yield from _find_overlaps(parts)
    yield from _find_family_errors(parts)


def _row_name(row: HeadingRow) -> str:
    return f"heading {row.heading}" + (f" from {row.effective_from}" if row.effective_from else "")


def _rows(parts: RulesetParts) -> Iterator[tuple[str, HeadingRow]]:
    return ((file, row) for file, sheet in parts.sheets for row in sheet.rows)


def _join_ranges(ranges: HeadingRanges) -> str:
    return ", ".join(ranges)


def _dated(parts: RulesetParts, files: dict[str, str]) -> Iterator[tuple[str, str, ReferenceRow]]:
    yield from ((file, f"heading {row.heading}", row) for file, row in _rows(parts))
    yield from ((file, f"ban {ban.list}", ban) for file, sheet in parts.sheets for ban in sheet.bans)
    yield from _goods_rows(parts)
    yield from ((files[held.list.id], f"list {held.list.id}", held.version) for held in parts.resolved)
    head = parts.manifest_content
    yield from ((parts.manifest, f"group {group.name}", group) for group in head.country_groups)
    yield from ((parts.manifest, f"family {family.name}", family) for family in head.families)
    yield from ((parts.manifest, f"exclusive {_join_ranges(rule.headings)}", rule) for rule in head.exclusive)
    yield from ((parts.manifest, f"companions {_join_ranges(rule.headings)}", rule) for rule in head.companions)
    yield parts.manifest, "reporting", head.reporting
    yield parts.manifest, "review", head.review
    if parts.metals is not None:
        yield from ((head.metals, f"weight test {test.heading}", test) for test in parts.metals.weight_tests)
        yield from ((head.metals, f"metal {needs.metal}", needs) for needs in parts.metals.metals)
        yield from (
            (head.metals, f"unreportable {' '.join(sorted(row.origins))}", row) for row in parts.metals.unreportable
        )
        yield head.metals, "unknown_aluminum", parts.metals.unknown_aluminum


def _goods_rows(parts: RulesetParts) -> Iterator[tuple[str, str, GoodsRule]]:
    for file, sheet in parts.sheets:
        yield from ((file, f"open duty {row.name}", row) for row in sheet.open)
        yield from ((file, f"question {row.id}", row) for row in sheet.questions)


def _find_undated(parts: RulesetParts, files: dict[str, str]) -> Iterator[str]:
    return (
        f"{file}: {what} has no first day. Add effective_from."
        for file, what, row in _dated(parts, files)
        if row.effective_from is None
    )


def _find_unknown_names(parts: RulesetParts) -> Iterator[str]:
    head = parts.manifest_content
    lists = {listed.id for _, listed in parts.lists}
    programs = [program.id for program in head.programs]
    for duplicate in sorted({name for name in programs if programs.count(name) > 1}):
        yield f"{parts.manifest}: program {duplicate} is defined twice. Keep one of them."
    for family in head.families:
        if family.program not in programs:
            subject = f"family {family.name} names program {family.program}"
            yield f"{parts.manifest}: {subject}, which is not defined. {_UNDEFINED_REMEDY}"
    for file, row in _rows(parts):
        unknown = [] if row.program in programs else [f"program {row.program}"]
        named = (
            *row.when.lists,
            *(row.when.certified.not_lists if row.when.certified else ()),
            *(name for goods in row.when.not_goods for name in goods.lists),
        )
        unknown += [f"list {name}" for name in named if name not in lists]
        unknown += _find_unknown_groups(row, row.when.origins | row.when.not_origins, head)
        yield from (
            f"{file}: {_row_name(row)} names {what}, which is not defined. {_UNDEFINED_REMEDY}" for what in unknown
        )
    for file, name, goods in _goods_rows(parts):
        for what in _find_unknown_groups(goods, goods.origins, head):
            yield f"{file}: {name} names {what}, which is not defined. {_UNDEFINED_REMEDY}"
    for file, sheet in parts.sheets:
        for ban in sheet.bans:
            if ban.list not in lists:
                yield f"{file}: a ban names list {ban.list}, which is not defined. {_UNDEFINED_REMEDY}"


def _find_unknown_groups(row: ReferenceRow, origins: frozenset[Origin], head: RulesetManifest) -> list[str]:
    named = sorted(origins)
    rows = {name: [group for group in head.country_groups if group.name == name] for name in named}
    return [
        f"country group {name}" + (" in its period" if rows[name] else "")
        for name in named
        if (rows[name] or len(name) != 2) and not any(row.lies_within(group) for group in rows[name])
    ]


def _find_overlaps(parts: RulesetParts) -> Iterator[str]:
    by_heading: dict[str, list[tuple[str, HeadingRow]]] = {}
    for file, row in _rows(parts):
        by_heading.setdefault(row.heading, []).append((file, row))
    for heading, found in by_heading.items():
        for (_, one), (file, other) in combinations(found, 2):
            if one.overlaps(other):
                since = f"{one.effective_from} and {other.effective_from}"
                yield f"{file}: heading {heading} has rows whose periods overlap, from {since}. {_OVERLAP_REMEDY}"
    bans = [(file, ban) for file, sheet in parts.sheets for ban in sheet.bans]
    for (_, first), (file, second) in combinations(bans, 2):
        if first.list == second.list and first.origins & second.origins and first.overlaps(second):
            since = f"{first.effective_from} and {second.effective_from}"
            yield f"{file}: ban {first.list} has rows whose periods overlap, from {since}. {_OVERLAP_REMEDY}"
    for (_, name, one_row), (file, other_name, other_row) in combinations(_goods_rows(parts), 2):
        if name == other_name and one_row.overlaps(other_row):
            yield f"{file}: {name} has rows whose periods overlap. {_OVERLAP_REMEDY}"
    for early, late in combinations(parts.manifest_content.country_groups, 2):
        if early.name == late.name and early.overlaps(late):
            yield f"{parts.manifest}: group {early.name} has rows whose periods overlap. {_OVERLAP_REMEDY}"
    yield from _find_repeated(parts.manifest, "exclusive", parts.manifest_content.exclusive)
    yield from _find_repeated(parts.manifest, "companions", parts.manifest_content.companions)
    if parts.metals is not None:
        yield from _find_overlapping_metals(parts.manifest_content.metals, parts.metals)


def _find_repeated(manifest: str, kind: str, rules: Sequence[HeadingRangeRow]) -> Iterator[str]:
    for one, other in combinations(rules, 2):
        if one.headings == other.headings and one.overlaps(other):
            yield f"{manifest}: {kind} {_join_ranges(one.headings)} has rows whose periods overlap. {_OVERLAP_REMEDY}"


def _find_overlapping_metals(file: str, metals: MetalRules) -> Iterator[str]:
    tests: Sequence[WeightTest] = metals.weight_tests
    if any(one.overlaps(other) for one, other in combinations(tests, 2)):
        yield f"{file}: the weight tests have periods that overlap. {_OVERLAP_REMEDY}"
    for one, other in combinations(metals.metals, 2):
        if one.metal == other.metal and one.overlaps(other) and _share_a_code(one, other):
            yield f"{file}: metal {one.metal} has rows for the same code whose periods overlap. {_OVERLAP_REMEDY}"
    for early, late in combinations(metals.unreportable, 2):
        if early.metals & late.metals and early.origins & late.origins and early.overlaps(late):
            shared = " ".join(sorted(early.origins & late.origins))
            yield f"{file}: unreportable has rows for {shared} whose periods overlap. {_OVERLAP_REMEDY}"


def _share_a_code(one: MetalNeeds, other: MetalNeeds) -> bool:
    return not one.codes or not other.codes or not set(one.codes).isdisjoint(other.codes)


def _find_family_errors(parts: RulesetParts) -> Iterator[str]:
    for file, row in _rows(parts):
        for family in parts.manifest_content.families:
            if in_ranges(row.heading, family.headings):
                yield from _check_family_member(file, row, family)
    for one, other in combinations(parts.manifest_content.families, 2):
        shared = [text for text in other.headings if _ranges_meet(text, one.headings)]
        if shared and one.overlaps(other):
            yield (
                f"{parts.manifest}: families {one.name} and {other.name} both have {_join_ranges(tuple(shared))}. "
                "Keep it in only one of them."
            )


def _check_family_member(file: str, row: HeadingRow, family: HeadingFamily) -> Iterator[str]:
    where = f"{file}: {_row_name(row)}"
    if row.program != family.program:
        yield f"{where} has program {row.program}, but its family {family.name} has {family.program}. Make them equal."
    if not row.lies_within(family):
        until = family.effective_to or "further notice"
        yield f"{where} is outside the period of {family.name}, {family.effective_from} to {until}. Correct one of them."


def _ranges_meet(text: str, ranges: HeadingRanges) -> bool:
    first, _, last = text.partition("-")
    return any(
        first <= (end or start) and start <= (last or first) for start, _, end in (r.partition("-") for r in ranges)
    )
