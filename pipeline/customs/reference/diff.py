"""Finds the changes between two days of a ruleset, or between two rulesets: headings, lists and all other dated rows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pydantic import BaseModel

from pipeline.core.money import format_plain
from pipeline.customs.reference.base import ReferenceData, ReferenceRow, join_words
from pipeline.customs.reference.catalog import DatedRow, reference_rows
from pipeline.customs.reference.chapter99 import HeadingRow
from pipeline.customs.reference.metals import MetalNeeds, WeightTest
from pipeline.customs.reference.ruleset import Ruleset


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the kind and name of the row, `began`, `ended` or `changed`, and the details."""

    kind: str
    name: str
    what: str
    details: str


def diff_days(rules: Ruleset, before: date, after: date) -> tuple[Change, ...]:
    """Return the changes of the ruleset between the two days."""
    return (
        *_diff_headings(_rows_in_force(rules, before), _rows_in_force(rules, after)),
        *_diff_lists(_list_contents(rules, before), _list_contents(rules, after)),
        *_diff_other_rows(_collect_other_rows(rules, before), _collect_other_rows(rules, after)),
    )


def diff_reference_days(reference: Mapping[str, ReferenceData], before: date, after: date) -> tuple[Change, ...]:
    """Return the rows of the other rules that begin or end between the two days."""
    rows = [row for row, _ in reference_rows(reference)]
    return (
        *(_to_change(row, "began") for row in rows if row.in_force(after) and not row.in_force(before)),
        *(_to_change(row, "ended") for row in rows if row.in_force(before) and not row.in_force(after)),
    )


def diff_references(before: Mapping[str, ReferenceData], after: Mapping[str, ReferenceData]) -> tuple[Change, ...]:
    """Return the changes of the other rules from the first to the second."""
    old, new = (_rows_by_name(reference) for reference in (before, after))
    return (
        *(_to_change(row, "began") for key, (row, _) in new.items() if key not in old),
        *(_to_change(row, "ended") for key, (row, _) in old.items() if key not in new),
        *(
            Change(row.kind, row.name, "changed", "; ".join(_describe_changed_fields(old[key][1], holds)))
            for key, (row, holds) in new.items()
            if key in old and old[key][1] != holds
        ),
    )


def _rows_by_name(reference: Mapping[str, ReferenceData]) -> dict[tuple[str, str, int], tuple[DatedRow, BaseModel]]:
    # Rows with the same name follow one another in time; they are numbered, and compared number by number.
    seen: Counter[tuple[str, str]] = Counter()
    rows = {}
    for row, holds in reference_rows(reference):
        rows[row.kind, row.name, seen[row.kind, row.name]] = (row, holds)
        seen[row.kind, row.name] += 1
    return rows


def _to_change(row: DatedRow, what: str) -> Change:
    return Change(row.kind, row.name, what, "; ".join(part for part in (row.says, row.source) if part))


def _describe_changed_fields(old: BaseModel, new: BaseModel) -> Iterator[str]:
    for name in type(new).model_fields:
        was, now = getattr(old, name), getattr(new, name)
        if was == now:
            continue
        words = name.replace("_", " ")
        plainly = all(isinstance(value, str | int | Decimal | date | None) for value in (was, now))
        yield f"{words} {was} is now {now}" if plainly else f"other {words}"


def diff_rulesets(before: Ruleset, after: Ruleset) -> tuple[Change, ...]:
    """Return the changes from the first ruleset to the second, on all days."""
    return (
        *_diff_headings(_rows_by_start(before), _rows_by_start(after)),
        *_diff_lists(_list_contents(before), _list_contents(after)),
        *_diff_other_rows(_collect_other_rows(before), _collect_other_rows(after)),
    )


def _rows_in_force(rules: Ruleset, on: date) -> dict[str, HeadingRow]:
    return {row.heading: row for row in rules.rows if row.in_force(on)}


def _rows_by_start(rules: Ruleset) -> dict[str, HeadingRow]:
    return {f"{row.heading} from {row.effective_from}": row for row in rules.rows}


def _list_contents(rules: Ruleset, on: date | None = None) -> dict[str, frozenset[str]]:
    contents: dict[str, frozenset[str]] = {}
    for resolved in rules.resolved_lists:
        if on is None:
            contents[f"{resolved.list.id} from {resolved.version.effective_from}"] = frozenset(resolved.codes.values())
        elif resolved.version.in_force(on):
            contents[resolved.list.id] = frozenset(resolved.codes.values())
    return contents


def _diff_headings(before: dict[str, HeadingRow], after: dict[str, HeadingRow]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield Change("heading", name, "began", f"{new.description}, {_format_rate(new)}")
        elif new is None and old is not None:
            yield Change("heading", name, "ended", f"{old.description}, {_format_rate(old)}")
        elif old is not None and new is not None and old != new:
            yield Change("heading", name, "changed", "; ".join(_describe_differences(old, new)))


def _describe_differences(old: HeadingRow, new: HeadingRow) -> Iterator[str]:
    if _format_rate(old) != _format_rate(new):
        yield f"{_format_rate(old)} is now {_format_rate(new)}"
    if old.when != new.when:
        yield "it applies under other conditions"
    yield from _describe_dated_differences(old, new)
    if old.description != new.description:
        yield new.description


def _describe_dated_differences(old: ReferenceRow, new: ReferenceRow) -> Iterator[str]:
    if (old.effective_from, old.effective_to) != (new.effective_from, new.effective_to):
        yield f"from {new.effective_from} to {new.effective_to or 'further notice'}"
    if (old.source, old.confidence, old.status) != (new.source, new.confidence, new.status):
        yield f"by {new.source} ({new.status})"


def _format_rate(row: HeadingRow) -> str:
    return f"{'-' if row.rate_percent is None else format_plain(row.rate_percent)} % ({row.basis})"


def _diff_lists(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, frozenset()), after.get(name, frozenset())
        added, removed = sorted(new - old), sorted(old - new)
        if added or removed:
            what = "began" if name not in before else "ended" if name not in after else "changed"
            details = [f"+ {', '.join(added)}"] if added else []
            details += [f"- {', '.join(removed)}"] if removed else []
            yield Change("list", name, what, "  ".join(details))


OtherRows = dict[tuple[str, str], tuple[ReferenceRow, str]]


def _collect_other_rows(rules: Ruleset, on: date | None = None) -> OtherRows:
    """Return the other rows by kind and name, each with its text; only those of the day `on` if it is given."""
    rows = {
        **{("ban", ban.list): (ban, ban.what) for ban in rules.bans},
        **{("family", family.name): (family, ", ".join(family.headings)) for family in rules.families},
        **{("exclusive", ", ".join(rule.headings)): (rule, "at most one on a line") for rule in rules.exclusive},
        **{
            ("companions", ", ".join(pair.headings)): (pair, f"only with {join_words(pair.needs)}")
            for pair in rules.companions
        },
    }
    metals = rules.metals
    unknown = metals.unknown_aluminum
    dated = [
        *((kind, name, row, text) for (kind, name), (row, text) in rows.items()),
        *(("open duty", duty.name, duty, duty.rate) for duty in rules.open_duties),
        *(("question", question.id, question, question.unknown) for question in rules.questions),
        *(("group", group.name, group, ", ".join(group.countries)) for group in rules.country_groups),
        ("reporting", "order", rules.reporting, rules.reported_order),
        ("review", "age", rules.review, f"{rules.review.within_days} days"),
        *(
            ("metal data", f"not of {join_words(sorted(row.origins))}", row, join_words(sorted(row.metals)))
            for row in metals.unreportable
        ),
        ("metal data", f"{unknown.value} of aluminum", unknown, join_words(unknown.headings)),
        *(("weight test", test.heading, test, _describe_weight_test(test)) for test in rules.metals.weight_tests),
        *(("metal data", _metal_name(needs), needs, _describe_needs(needs)) for needs in rules.metals.metals),
    ]
    if on is not None:
        return {(kind, name): (row, text) for kind, name, row, text in dated if row.in_force(on)}
    return {(kind, f"{name} from {row.effective_from}"): (row, text) for kind, name, row, text in dated}


def _describe_weight_test(test: WeightTest) -> str:
    return f"below {format_plain(test.least_percent)} % of the weight, outside chapters {join_words(sorted(test.exempt_chapters))}"


def _metal_name(needs: MetalNeeds) -> str:
    return f"{needs.metal} of {join_words(needs.codes)}" if needs.codes else needs.metal


def _describe_needs(needs: MetalNeeds) -> str:
    return join_words(name.replace("_", " ") for name in needs.needs)


def _diff_other_rows(before: OtherRows, after: OtherRows) -> Iterator[Change]:
    for kind, name in sorted(before.keys() | after.keys()):
        old, new = before.get((kind, name)), after.get((kind, name))
        if old is None and new is not None:
            yield Change(kind, name, "began", new[1])
        elif new is None and old is not None:
            yield Change(kind, name, "ended", old[1])
        elif old is not None and new is not None and old[0] != new[0]:
            details = [new[1]] if old[1] == new[1] else [f"{old[1]} is now {new[1]}"]
            yield Change(kind, name, "changed", "; ".join((*details, *_describe_dated_differences(old[0], new[0]))))
