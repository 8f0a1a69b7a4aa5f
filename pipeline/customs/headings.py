"""What a ruleset of chapter 99 is made of: programs, dated headings with their conditions, ranges and bans, closed."""

from __future__ import annotations

import re
from datetime import date
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.customs.rules import Data, Figure, Metal, Row
from pipeline.schemas.problems import Severity

_HEADING = re.compile(r"^99\d{2}\.\d{2}\.\d{2}$")


def _heading(text: str) -> str:
    if not _HEADING.match(text):
        raise ValueError(f"{text!r} is no heading of chapter 99 such as 9903.82.09")
    return text


def _range(text: str) -> str:
    ends = text.split("-")
    for end in ends:
        _heading(end)
    if len(ends) > 2 or ends[0] > ends[-1]:
        raise ValueError(f"{text!r} is no range of headings such as 9903.82.04-9903.82.26")
    return text


Heading = Annotated[str, AfterValidator(_heading)]
HeadingRange = Annotated[str, AfterValidator(_range)]
HeadingRanges = tuple[HeadingRange, ...]


@lru_cache(maxsize=4096)
def within(heading: str, ranges: HeadingRanges) -> bool:
    """Tell whether the heading lies in one of the ranges; dotted codes of one length sort as they read."""
    return any(first <= heading <= last for first, last in (_ends(text) for text in ranges))


def _ends(text: str) -> tuple[str, str]:
    first, _, last = text.partition("-")
    return first, last or first


class MetalFrom(Data):
    """Where listed metal was melted and poured, smelted or cast: `any` of it or `all` of it in the countries."""

    metals: tuple[Metal, ...]
    countries: frozenset[str]
    share: Literal["any", "all"]
    or_origin: bool = False


class When(Data):
    """What must hold, all of it, for a heading to apply; `asks` is a fact that only a person knows."""

    lists: tuple[str, ...] = ()
    perhaps_lists: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()
    not_origins: frozenset[str] = frozenset()
    chapters: frozenset[str] = frozenset()
    not_chapters: frozenset[str] = frozenset()
    spi: frozenset[str] = frozenset()
    no_metal: bool = False
    light: bool = False
    us_metal_percent: Figure | None = None
    metal_from: MetalFrom | None = None
    beside: HeadingRanges = ()
    asks: str | None = None

    @cached_property
    def varies(self) -> bool:
        """Tell whether it hangs on more than code, origin, special program and day."""
        tests = (self.no_metal, self.light, self.metal_from is not None, self.us_metal_percent is not None)
        return any(tests) or bool(self.beside)

    @model_validator(mode="after")
    def _countries(self) -> Self:
        for country in self.origins | self.not_origins:
            if not re.fullmatch(r"[A-Z]{2}", country) and not re.fullmatch(r"[A-Z][A-Z0-9_]{2,}", country):
                raise ValueError(f"{country!r} is neither a country nor the name of a group")
        return self


class HeadingRow(Row):
    """One heading of chapter 99 in one time: when it applies, and at what rate."""

    heading: Heading
    program: str
    description: str
    rate_percent: Figure | None
    basis: str
    when: When


class Ban(Row):
    """Goods whose import is excluded; `unless` is what only a person knows."""

    list: str
    origins: frozenset[str]
    what: str
    unless: str | None = None


class HeadingSheet(Data):
    """A part of a headings file: rows that share their `defaults`."""

    rows: tuple[HeadingRow, ...]
    bans: tuple[Ban, ...] = ()


class Missing(Data):
    """By which rule, and how loud, it is said that a line lacks a heading; `undecided` where facts are wanting."""

    rule: str
    severity: Severity
    undecided: Severity = "note"


class Program(Data):
    """A program of duties, of whose headings a line takes one."""

    id: str
    name: str
    rank: int
    missing: Missing
    yields_to: HeadingRanges = ()


class Ranges(Row):
    """A rule about ranges of headings."""

    headings: HeadingRanges


class Companions(Ranges):
    """Headings that need one of others beside them."""

    needs: HeadingRanges


class Family(Ranges):
    """Headings that could be claimed in their time alone."""

    program: str
    name: str


class Reporting(Row):
    """The order of a line's headings, by the rank of their programs, and where the value stands."""

    value_on: str


class Manifest(Data):
    """What makes up the ruleset."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    id: str
    as_of: date
    predecessors: tuple[str, ...] = ()
    headings: tuple[str, ...]
    lists: tuple[str, ...]
    country_groups: dict[str, tuple[str, ...]]
    programs: tuple[Program, ...]
    reporting: Reporting
    exclusive: tuple[Ranges, ...]
    companions: tuple[Companions, ...]
    families: tuple[Family, ...]
