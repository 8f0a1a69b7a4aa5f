"""The models of a ruleset of chapter 99: programs, dated headings with their conditions, and ranges."""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property, lru_cache
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from pipeline.core.money import format_plain
from pipeline.customs.reference.base import Chapter, Figure, Metal, ReferenceData, ReferenceRow, RulesetId

_HEADING = re.compile(r"^99\d{2}\.\d{2}\.\d{2}$")


def _check_heading(text: str) -> str:
    if not _HEADING.match(text):
        raise ValueError(f"{text!r} is not a heading of chapter 99 such as 9903.82.09")
    return text


def _check_range(text: str) -> str:
    ends = text.split("-")
    for end in ends:
        _check_heading(end)
    if len(ends) > 2 or ends[0] > ends[-1]:
        raise ValueError(f"{text!r} is not a range of headings such as 9903.82.04-9903.82.26")
    return text


def _check_country(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", text):
        raise ValueError(f"{text!r} is not a country code such as CA")
    return text


def _check_group(text: str) -> str:
    if not re.fullmatch(r"EU|[A-Z][A-Z0-9_]{2,}", text):
        raise ValueError(f"{text!r} is not a group name; use EU, or three or more capitals, digits and underscores")
    return text


def _check_origin(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}|[A-Z][A-Z0-9_]{2,}", text):
        raise ValueError(f"{text!r} is neither a country code nor the name of a group")
    return text


#: The value that a rate applies to; only a rate on the full value can be compared with the plan's.
Basis = Literal[
    "full_value", "total_with_column_1", "metal_content", "non_metal_content", "non_us_content", "us_content",
    "special_rate_only",
]  # fmt: skip
#: The basis of a rate that holds the duty of column 1.
TOTAL_WITH_COLUMN_1: Final = "total_with_column_1"
Country = Annotated[str, AfterValidator(_check_country)]
Origin = Annotated[str, AfterValidator(_check_origin)]
Heading = Annotated[str, AfterValidator(_check_heading)]
HeadingRange = Annotated[str, AfterValidator(_check_range)]
HeadingRanges = tuple[HeadingRange, ...]


@lru_cache(maxsize=4096)
def in_ranges(heading: str, ranges: HeadingRanges) -> bool:
    """Return whether the heading is in one of the ranges; dotted codes of equal length sort as text."""
    return any(first <= heading <= last for first, last in (_range_ends(text) for text in ranges))


def _range_ends(text: str) -> tuple[str, str]:
    first, _, last = text.partition("-")
    return first, last or first


class MetalFrom(ReferenceData):
    """A condition on where listed metal was melted and poured, smelted or cast: `any`, `most` or `all` in the countries.

    For `any`, metal without a country leaves the condition unknown. `most` needs one metal smelted or cast there.
    """

    metals: tuple[Metal, ...]
    countries: frozenset[Country]
    share: Literal["any", "most", "all"]
    or_origin: bool = False

    @property
    def words(self) -> str:
        """The condition in words."""
        goods = ", or the goods are" if self.or_origin else ""
        return f"{self.share} of its {_join_alternatives(self.metals)} is{goods} of {_join_alternatives(sorted(self.countries))}"

    @property
    def words_of_metal(self) -> str:
        """The condition in words, without the origin of the goods."""
        return (
            f"{self.share} of its {_join_alternatives(self.metals)} is of {_join_alternatives(sorted(self.countries))}"
        )


class ImporterCertification(ReferenceData):
    """What the importer certifies to use a heading for goods that are on none of its lists.

    Goods of `not_chapters`, or on `not_lists`, cannot be certified.
    """

    what: str
    not_chapters: frozenset[Chapter] = frozenset()
    not_lists: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The condition in words."""
        limits = [
            f"not {kind} {_join_alternatives(names)}"
            for kind, names in (("of chapter", sorted(self.not_chapters)), ("on list", self.not_lists))
            if names
        ]
        return f"the importer certifies that {self.what}" + (f" ({', '.join(limits)})" if limits else "")


class ListedGoods(ReferenceData):
    """Goods of these origins that are on one of these lists."""

    origins: frozenset[Country]
    lists: tuple[str, ...]

    @property
    def words(self) -> str:
        """The goods in words."""
        return f"goods of {_join_alternatives(sorted(self.origins))} on list {_join_alternatives(self.lists)}"


class HeadingConditions(ReferenceData):
    """The conditions of a heading; all of them must hold. `person_decides` is a fact that only a person knows.

    Goods on none of `lists` may use the heading if the importer certifies them (`certified`). The plan then carries it.
    `column_1_below` and `column_1_least` are of the rate of column 1 in percent of the value; a person decides without it.
    """

    lists: tuple[str, ...] = ()
    certified: ImporterCertification | None = None
    origins: frozenset[Origin] = frozenset()
    not_origins: frozenset[Origin] = frozenset()
    not_goods: tuple[ListedGoods, ...] = ()
    chapters: frozenset[Chapter] = frozenset()
    not_chapters: frozenset[Chapter] = frozenset()
    spi: frozenset[str] = frozenset()
    not_spi: frozenset[str] = frozenset()
    contains: Metal | None = None
    no_metal: bool = False
    below_weight_test: bool = False
    us_metal_percent: Figure | None = None
    metal_from: MetalFrom | None = None
    with_headings: HeadingRanges = ()
    column_1_below: Figure | None = None
    column_1_least: Figure | None = None
    person_decides: str | None = None

    @cached_property
    def column_1_words(self) -> str | None:
        """The condition on the rate of column 1 in words, or None if there is none."""
        parts = []
        if self.column_1_below is not None:
            parts.append(f"below {format_plain(self.column_1_below)} %")
        if self.column_1_least is not None:
            parts.append(f"{format_plain(self.column_1_least)} % or more")
        return f"the column 1 rate is {' and '.join(parts)}" if parts else None

    @cached_property
    def varies_by_line(self) -> bool:
        """Return whether the conditions depend on more than code, origin, special program and day."""
        tests = (
            self.column_1_words is not None,
            self.contains is not None,
            self.no_metal,
            self.below_weight_test,
            self.metal_from is not None,
            self.us_metal_percent is not None,
        )
        return any(tests) or bool(self.with_headings)

    def words(self) -> Iterator[str]:
        """Yield each of the conditions in words."""
        yield from self._list_words()
        for label, names in (
            ("goods of", self.origins),
            ("not goods of", self.not_origins),
            ("of chapter", self.chapters),
            ("not of chapter", self.not_chapters),
            ("special program", self.spi),
            ("not special program", self.not_spi),
        ):
            if names:
                yield f"{label} {_join_alternatives(sorted(names))}"
        yield from (f"not {goods.words}" for goods in self.not_goods)
        yield from self._metal_words()
        if self.with_headings:
            yield f"together with one of {', '.join(self.with_headings)}"
        if self.column_1_words is not None:
            yield self.column_1_words
        if self.person_decides is not None:
            yield f"a person must decide: {self.person_decides}"

    def _metal_words(self) -> Iterator[str]:
        if self.contains is not None:
            yield f"it contains {self.contains}"
        if self.no_metal:
            yield "it contains no aluminum, steel or copper"
        if self.below_weight_test:
            yield "its listed metal is below the share of the weight test"
        if self.us_metal_percent is not None:
            yield f"at least {format_plain(self.us_metal_percent)} % of its listed metal is US metal"
        if self.metal_from is not None:
            yield self.metal_from.words

    def _list_words(self) -> Iterator[str]:
        if self.lists:
            yield f"the code is on list {_join_alternatives(self.lists)}"
        if self.certified is not None:
            yield ("or " if self.lists else "") + self.certified.words


def _join_alternatives(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


class HeadingRow(ReferenceRow):
    """One heading of chapter 99 in one period: when it applies, and its rate."""

    heading: Heading
    program: str
    description: str
    rate_percent: Figure | None
    basis: Basis
    when: HeadingConditions


class MissingHeading(ReferenceData):
    """The rule id that reports a missing heading of a program.

    `one_applies`: one of its headings applies to goods on its lists, even if the plan's facts do not show which.
    """

    rule: Literal["V11", "V13"]
    one_applies: bool = False


class DutyProgram(ReferenceData):
    """A duty program; a line carries at most one of its headings."""

    id: str
    name: str
    rank: int
    missing: MissingHeading
    yields_to: HeadingRanges = ()


class HeadingRangeRow(ReferenceRow):
    """A rule about ranges of headings."""

    headings: HeadingRanges


class ExclusiveHeadings(HeadingRangeRow):
    """Headings that exclude one another on a line; those in `together` divide one value and count as one."""

    together: HeadingRanges = ()


class CompanionHeadings(HeadingRangeRow):
    """Headings that a line may carry only together with one of `needs`."""

    needs: HeadingRanges


class HeadingFamily(HeadingRangeRow):
    """Headings that a line may carry only in their period."""

    program: str
    name: str


class ReportingOrder(ReferenceRow):
    """The order of a line's headings by the rank of their programs, and the heading that carries the value."""

    value_on: str


class ReviewPeriod(ReferenceRow):
    """How many days after their date the rules may be trusted, before a person must review the law again."""

    within_days: Annotated[int, Field(ge=1)]


class CountryGroup(ReferenceRow):
    """A name for several countries; a row that uses it must lie within the group's period."""

    name: Annotated[str, AfterValidator(_check_group)]
    countries: tuple[Country, ...]


class RulesetManifest(ReferenceData):
    """The parts of the ruleset; `reference` names the files of the other rules, which its hash includes too."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    id: RulesetId
    as_of: date
    predecessors: tuple[RulesetId, ...] = ()
    headings: tuple[str, ...]
    lists: tuple[str, ...]
    metals: str
    reference: tuple[str, ...]
    country_groups: tuple[CountryGroup, ...]
    programs: tuple[DutyProgram, ...]
    reporting: ReportingOrder
    review: ReviewPeriod
    exclusive: tuple[ExclusiveHeadings, ...]
    companions: tuple[CompanionHeadings, ...]
    families: tuple[HeadingFamily, ...]
