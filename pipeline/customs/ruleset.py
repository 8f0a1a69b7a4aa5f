"""The ruleset of chapter 99: read once, immutable, known by an id and its content, and refused whole where it cannot be right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.customs.headings import (
    Ban,
    Companions,
    Family,
    HeadingRow,
    HeadingSheet,
    Manifest,
    Program,
    Ranges,
    Reporting,
    within,
)
from pipeline.customs.hts_lists import Held, HtsList, Listed, ListFile, held_versions, lists_of
from pipeline.customs.rules import Data, Row

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Loaded = TypeVar("Loaded", bound=Data)


class RulesetInvalid(ValueError):
    """The rules cannot be right; `errors` says all of what is wrong with them."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


@dataclass(frozen=True, eq=False)
class Ruleset:
    """The rules as loaded: immutable, named by `id`, and known by the content of its files."""

    id: str
    as_of: date
    content_hash: str
    predecessors: tuple[str, ...]
    programs: tuple[Program, ...]
    rows: tuple[HeadingRow, ...]
    bans: tuple[Ban, ...]
    lists: tuple[HtsList, ...]
    held: tuple[Held, ...]
    reporting: Reporting
    exclusive: tuple[Ranges, ...]
    companions: tuple[Companions, ...]
    families: tuple[Family, ...]

    # What is found is remembered by its ruleset. Threads that begin at once load it once each: to compare the copies row
    # by row, at every look into those memories, was measured to take 0.2 s a plan.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ruleset) and other.content_hash == self.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @cached_property
    def by_heading(self) -> Mapping[str, tuple[HeadingRow, ...]]:
        """Every heading's rows, oldest first."""
        found: dict[str, tuple[HeadingRow, ...]] = {}
        for row in self.rows:
            found[row.heading] = (*found.get(row.heading, ()), row)
        return found

    @cached_property
    def program_of_id(self) -> Mapping[str, Program]:
        """The programs by their ids."""
        return {program.id: program for program in self.programs}

    def row(self, heading: str, on: date) -> HeadingRow | None:
        """Return the row of the heading that is in force on the day."""
        return next((row for row in self.by_heading.get(heading, ()) if row.holds(on)), None)

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


@lru_cache(maxsize=4096)
def _family(rules: Ruleset, heading: str) -> Family | None:
    return next((family for family in rules.families if within(heading, family.headings)), None)


@lru_cache(maxsize=20_000)
def _lists_of(rules: Ruleset, hts_code: str, on: date) -> tuple[Listed, ...]:
    return lists_of(rules.held, hts_code, on)


@cache
def ruleset() -> Ruleset:
    """Return the ruleset of config/rules."""
    return load_ruleset(Path(str(files("config") / "rules" / "ruleset.yaml")))


def load_ruleset(manifest: Path) -> Ruleset:
    """Return the ruleset of a manifest and the files that it names beside it.

    Raises RulesetInvalid, with everything that is wrong, where the rules contradict their schema or one another.
    """
    digest = hashlib.sha256()
    wrong: list[str] = []
    head = _read(Manifest, manifest, manifest.name, digest, wrong)
    if head is None:
        raise RulesetInvalid(wrong)
    folder = manifest.parent
    lists: list[HtsList] = []
    for name in head.lists:
        file = _read(ListFile, folder / name, name, digest, wrong)
        lists += file.lists if file else ()
    rows: list[HeadingRow] = []
    bans: list[Ban] = []
    for name in head.headings:
        for sheet in _sheets(folder / name, name, digest, wrong):
            rows += sheet.rows
            bans += sheet.bans
    held, broken = held_versions(tuple(lists))
    made = Ruleset(
        id=head.id,
        as_of=head.as_of,
        content_hash="sha256:" + digest.hexdigest(),
        predecessors=head.predecessors,
        programs=head.programs,
        rows=tuple(_grouped(row, head.country_groups) for row in rows),
        bans=tuple(bans),
        lists=tuple(lists),
        held=held,
        reporting=head.reporting,
        exclusive=head.exclusive,
        companions=head.companions,
        families=head.families,
    )
    wrong += broken
    wrong += _contradictions(made)
    if wrong:
        raise RulesetInvalid(wrong)
    return made


def _document(file: Path, digest: Any) -> Any:
    raw = file.read_bytes()
    digest.update(hashlib.sha256(raw).digest())
    text = raw.decode("utf-8")
    # JSON is YAML too, but the reader of JSON takes the long lists in a hundredth of the time.
    return json.loads(text) if file.name.endswith(".json") else yaml.load(text, _LOADER)  # noqa: S506 -- safe loaders both


def _read(model: type[Loaded], file: Path, name: str, digest: Any, wrong: list[str]) -> Loaded | None:
    try:
        return model.model_validate(_document(file, digest))
    except ValidationError as error:
        wrong += _spoken(error, name)
    except (OSError, ValueError, yaml.YAMLError) as error:
        wrong.append(f"{name}: {error}")
    return None


def _sheets(file: Path, name: str, digest: Any, wrong: list[str]) -> Iterator[HeadingSheet]:
    try:
        document = _document(file, digest)
    except (OSError, ValueError, yaml.YAMLError) as error:
        wrong.append(f"{name}: {error}")
        return
    for sheet in document if isinstance(document, list) else []:
        defaults = sheet.get("defaults", {})
        common = {key: value for key, value in defaults.items() if key not in ("program", "basis")}
        try:
            yield HeadingSheet(
                rows=tuple(HeadingRow.model_validate({**defaults, **row}) for row in sheet.get("rows", ())),
                bans=tuple(Ban.model_validate({**common, **ban}) for ban in sheet.get("bans", ())),
            )
        except ValidationError as error:
            wrong += _spoken(error, name)


def _spoken(error: ValidationError, name: str) -> list[str]:
    return [
        f"{name}: {'.'.join(str(part) for part in item['loc'])}: {item['msg']}".replace(": : ", ": ")
        for item in error.errors(include_url=False)
    ]


def _grouped(row: HeadingRow, groups: Mapping[str, tuple[str, ...]]) -> HeadingRow:
    if not (row.when.origins | row.when.not_origins) & groups.keys():
        return row
    spread = {
        name: frozenset(country for named in getattr(row.when, name) for country in groups.get(named, (named,)))
        for name in ("origins", "not_origins")
    }
    return row.model_copy(update={"when": row.when.model_copy(update=spread)})


def _contradictions(made: Ruleset) -> Iterator[str]:
    known = {listed.id for listed in made.lists}
    for row in made.rows:
        what = f"heading {row.heading}"
        yield from _unknown_program(what, row.program, made)
        for name in (*row.when.lists, *row.when.perhaps_lists):
            yield from _unknown_list(what, name, known)
        for country in row.when.origins | row.when.not_origins:
            if len(country) != 2:
                yield f"{what} names the group of countries {country}, which is not defined"
    for family in made.families:
        yield from _unknown_program(f"family {family.name}", family.program, made)
    for ban in made.bans:
        yield from _unknown_list("a ban", ban.list, known)
    for heading, rows in made.by_heading.items():
        for place, row in enumerate(rows):
            if any(_overlap(row, other) for other in rows[place + 1 :]):
                yield f"heading {heading} has rows whose windows overlap"
    yield from _backwards(made)


def _unknown_program(what: str, program: str, made: Ruleset) -> Iterator[str]:
    if program not in made.program_of_id:
        yield f"{what} names program {program}, which is not defined"


def _unknown_list(what: str, name: str, known: set[str]) -> Iterator[str]:
    if name not in known:
        yield f"{what} names list {name}, which is not defined"


def _backwards(made: Ruleset) -> Iterator[str]:
    dated: tuple[tuple[str, Row], ...] = (
        *((f"heading {row.heading}", row) for row in made.rows),
        *((f"list {held.list.id}", held.version) for held in made.held),
        *((f"family {family.name}", family) for family in made.families),
    )
    for what, dates in dated:
        begins, ends = dates.effective_from, dates.effective_to
        if begins is None:
            yield f"{what} has no first day"
        elif ends is not None and ends < begins:
            yield f"{what} ends on {ends}, before it begins on {begins}"


def _overlap(one: Row, other: Row) -> bool:
    return (one.effective_to is None or other.effective_from is None or other.effective_from <= one.effective_to) and (
        other.effective_to is None or one.effective_from is None or one.effective_from <= other.effective_to
    )
