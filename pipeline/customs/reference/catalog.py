"""Lists every row of the reference data by name, with its period, its source and its certainty."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from pydantic import BaseModel

from pipeline.customs.reference.base import ReferenceData
from pipeline.customs.reference.bundle import REFERENCE, load_rules
from pipeline.customs.reference.ruleset import Ruleset, ruleset

#: The fields that name a row: the first of these groups whose fields are all set. Below, the fields with its text.
_NAME_FIELDS = (("agency", "program"), ("flag", "agency"), ("code",), ("metal",), ("type",), ("id",), ("name",))
_TEXT_FIELDS = ("text", "title", "name")


@dataclass(frozen=True, slots=True)
class DatedRow:
    """One row of the reference data: its kind and name, its program if it has one, its text, period and source."""

    kind: str
    name: str
    says: str
    program: str | None
    effective_from: date | None
    effective_to: date | None
    status: str
    confidence: str | None
    source: str | None

    def in_force(self, on: date) -> bool:
        """Return whether the row is in force on the day; its first and last day count."""
        return (self.effective_from is None or self.effective_from <= on) and (
            self.effective_to is None or on <= self.effective_to
        )


def chapter99_rows(rules: Ruleset | None = None) -> tuple[DatedRow, ...]:
    """Return the rows of the ruleset: headings, lists, bans, groups, families, and rules between headings."""
    return tuple(_chapter99_rows(rules or ruleset()))


def all_rows(loaded: tuple[Ruleset, Mapping[str, ReferenceData]] | None = None) -> tuple[DatedRow, ...]:
    """Return the rows of all reference data, chapter 99 first."""
    rules, reference = loaded or load_rules()
    metals = (row for row, _ in _iter_dated_rows(rules.metals, "metals", "", None))
    return (*chapter99_rows(rules), *metals, *(row for row, _ in reference_rows(reference)))


def reference_rows(reference: Mapping[str, ReferenceData]) -> Iterator[tuple[DatedRow, BaseModel]]:
    """Yield the rows of the rules other than chapter 99, each with its model."""
    for name, data in reference.items():
        yield from _iter_dated_rows(data, REFERENCE[name][0], "", None)


def _chapter99_rows(rules: Ruleset) -> Iterator[DatedRow]:
    for row in rules.rows:
        yield _dated_row("heading", row.heading, row.description, row, row.program)
    for held in rules.resolved_lists:
        yield _dated_row("list", held.list.id, f"{held.list.title}: {len(held.codes)} provisions", held.version)
    for ban in rules.bans:
        yield _dated_row("ban", ban.list, ban.what, ban)
    for duty in rules.open_duties:
        yield _dated_row("open duty", duty.name, duty.rate, duty)
    for question in rules.questions:
        yield _dated_row("question", question.id, question.unknown, question)
    for group in rules.country_groups:
        yield _dated_row("group", group.name, ", ".join(group.countries), group)
    for family in rules.families:
        yield _dated_row("family", ", ".join(family.headings), family.name, family, family.program)
    for ranges in rules.exclusive:
        yield _dated_row("exclusive", ", ".join(ranges.headings), "at most one of these on a line", ranges)
    for pair in rules.companions:
        yield _dated_row("companions", ", ".join(pair.headings), f"only with {', '.join(pair.needs)}", pair)
    yield _dated_row(
        "reporting", "order", f"{rules.reported_order}; the value on {rules.reporting.value_on}", rules.reporting
    )
    yield _dated_row("review", "age", f"the rules are trusted for {rules.review.within_days} days", rules.review)


def _dated_row(kind: str, name: str, says: str, row: Any, program: str | None = None) -> DatedRow:
    return DatedRow(
        kind=kind,
        name=name,
        says=says,
        program=program,
        effective_from=getattr(row, "effective_from", None),
        effective_to=getattr(row, "effective_to", None),
        status=row.status,
        confidence=getattr(row, "confidence", None),
        source=getattr(row, "source", None),
    )


def _iter_dated_rows(value: Any, kind: str, path: str, source: str | None) -> Iterator[tuple[DatedRow, BaseModel]]:
    if isinstance(value, BaseModel):
        source = getattr(value, "source", None) or source
        if isinstance(getattr(value, "status", None), str):
            own = next((found for names in _NAME_FIELDS if (found := _own_name(value, names))), "")
            name = " ".join(dict.fromkeys(part for part in (*path.split("/"), own) if part)) or kind
            words = next((str(getattr(value, name)) for name in _TEXT_FIELDS if getattr(value, name, None)), "")
            row = _dated_row(kind, name.replace("_", " "), "" if words in name else words, value)
            yield row if row.source else replace(row, source=source), value
        for name in type(value).model_fields:
            yield from _iter_dated_rows(getattr(value, name), kind, f"{path}/{name}", source)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _iter_dated_rows(item, kind, f"{path}/{key}", source)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _iter_dated_rows(item, kind, path, source)


def _own_name(value: BaseModel, names: tuple[str, ...]) -> str:
    given = [getattr(value, name, None) for name in names]
    return " ".join(str(part) for part in given) if all(given) else ""


def format_markdown_list(rows: Sequence[DatedRow]) -> str:
    """Return the rows as a list in Markdown: an item for each source, after the names of the rows that rest on it."""
    by_source: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        days = (("from", row.effective_from), ("to", row.effective_to))
        kind = " ".join([row.kind, *(f"{word} {day}" for word, day in days if day)])
        # A row without a source is a source itself: its text says which.
        by_source.setdefault(row.source or row.says, {}).setdefault(kind, []).append(row.name)
    return "\n".join(
        f"- {'; '.join(f'{kind}: {_join_names(names)}' for kind, names in kinds.items())}. *{source}*"
        for source, kinds in by_source.items()
    )


def _join_names(names: Sequence[str]) -> str:
    """Return the names as a list, each without the words that it begins with like the one before: `flags AM1, AM2`."""
    listed, before = [], [""]
    for name in names:
        words = name.split(" ")
        common = 0
        while common < min(len(words), len(before)) - 1 and words[common] == before[common]:
            common += 1
        listed.append(" ".join(words[common:]))
        before = words
    return ", ".join(listed)
