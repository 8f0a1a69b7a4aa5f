"""What changes between two days of a ruleset, or between two rulesets: headings, lists, and every other dated row."""

from __future__ import annotations

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
    """One difference: what kind of thing, its name, `began`, `ended` or `changed`, and in which way."""

    kind: str
    name: str
    what: str
    details: str


def between_days(rules: Ruleset, before: date, after: date) -> tuple[Change, ...]:
    """Return what is otherwise on the later day than on the earlier."""
    return (
        *_headings(_in_force(rules, before), _in_force(rules, after)),
        *_lists(_held(rules, before), _held(rules, after)),
        *_others(_other_rows(rules, before), _other_rows(rules, after)),
    )


def reference_between_days(reference: Mapping[str, ReferenceData], before: date, after: date) -> tuple[Change, ...]:
    """Return which rows of the entry and the agencies begin, and which end, between the two days."""
    rows = [row for row, _ in reference_rows(reference)]
    return (
        *(_event(row, "began") for row in rows if row.in_force(after) and not row.in_force(before)),
        *(_event(row, "ended") for row in rows if row.in_force(before) and not row.in_force(after)),
    )


def between_references(before: Mapping[str, ReferenceData], after: Mapping[str, ReferenceData]) -> tuple[Change, ...]:
    """Return what the second rules of the entry and the agencies have that the first have otherwise."""
    old, new = (_by_name(reference) for reference in (before, after))
    return (
        *(_event(row, "began") for key, (row, _) in new.items() if key not in old),
        *(_event(row, "ended") for key, (row, _) in old.items() if key not in new),
        *(
            Change(row.kind, row.name, "changed", "; ".join(_fields_apart(old[key][1], holds)))
            for key, (row, holds) in new.items()
            if key in old and old[key][1] != holds
        ),
    )


def _by_name(reference: Mapping[str, ReferenceData]) -> dict[tuple[str, str, int], tuple[DatedRow, BaseModel]]:
    # Of rows with one name, one after the other in time, the first is compared with the first.
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for row, holds in reference_rows(reference):
        found[row.kind, row.name, seen[row.kind, row.name]] = (row, holds)
        seen[row.kind, row.name] += 1
    return found


def _event(row: DatedRow, what: str) -> Change:
    return Change(row.kind, row.name, what, "; ".join(said for said in (row.says, row.source) if said))


def _fields_apart(old: BaseModel, new: BaseModel) -> Iterator[str]:
    for name in type(new).model_fields:
        was, now = getattr(old, name), getattr(new, name)
        if was == now:
            continue
        words = name.replace("_", " ")
        plainly = all(isinstance(value, str | int | Decimal | date | None) for value in (was, now))
        yield f"{words} {was} is now {now}" if plainly else f"other {words}"


def between_rulesets(before: Ruleset, after: Ruleset) -> tuple[Change, ...]:
    """Return what the second ruleset has that the first has otherwise, whatever the day."""
    return (
        *_headings(_dated(before), _dated(after)),
        *_lists(_held(before), _held(after)),
        *_others(_other_rows(before), _other_rows(after)),
    )


def _in_force(rules: Ruleset, on: date) -> dict[str, HeadingRow]:
    return {row.heading: row for row in rules.rows if row.in_force(on)}


def _dated(rules: Ruleset) -> dict[str, HeadingRow]:
    return {f"{row.heading} from {row.effective_from}": row for row in rules.rows}


def _held(rules: Ruleset, on: date | None = None) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for held in rules.held:
        if on is None:
            found[f"{held.list.id} from {held.version.effective_from}"] = frozenset(held.codes.values())
        elif held.version.in_force(on):
            found[held.list.id] = frozenset(held.codes.values())
    return found


def _headings(before: dict[str, HeadingRow], after: dict[str, HeadingRow]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield Change("heading", name, "began", f"{new.description}, {_rate(new)}")
        elif new is None and old is not None:
            yield Change("heading", name, "ended", f"{old.description}, {_rate(old)}")
        elif old is not None and new is not None and old != new:
            yield Change("heading", name, "changed", "; ".join(_differences(old, new)))


def _differences(old: HeadingRow, new: HeadingRow) -> Iterator[str]:
    if _rate(old) != _rate(new):
        yield f"{_rate(old)} is now {_rate(new)}"
    if old.when != new.when:
        yield "it applies under other conditions"
    yield from _dated_differences(old, new)
    if old.description != new.description:
        yield new.description


def _dated_differences(old: ReferenceRow, new: ReferenceRow) -> Iterator[str]:
    if (old.effective_from, old.effective_to) != (new.effective_from, new.effective_to):
        yield f"from {new.effective_from} to {new.effective_to or 'further notice'}"
    if (old.source, old.confidence, old.status) != (new.source, new.confidence, new.status):
        yield f"by {new.source} ({new.status})"


def _rate(row: HeadingRow) -> str:
    return f"{'-' if row.rate_percent is None else format_plain(row.rate_percent)} % ({row.basis})"


def _lists(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, frozenset()), after.get(name, frozenset())
        added, removed = sorted(new - old), sorted(old - new)
        if added or removed:
            what = "began" if name not in before else "ended" if name not in after else "changed"
            said = [f"+ {', '.join(added)}"] if added else []
            said += [f"- {', '.join(removed)}"] if removed else []
            yield Change("list", name, what, "  ".join(said))


Others = dict[tuple[str, str], tuple[ReferenceRow, str]]


def _other_rows(rules: Ruleset, on: date | None = None) -> Others:
    """Return the rows, those of the day or all, by kind and name, with what they say."""
    found = {
        **{("ban", ban.list): (ban, ban.what) for ban in rules.bans},
        **{("family", family.name): (family, ", ".join(family.headings)) for family in rules.families},
        **{("exclusive", ", ".join(rule.headings)): (rule, "no more than one on a line") for rule in rules.exclusive},
        **{
            ("companions", ", ".join(pair.headings)): (pair, f"only with {join_words(pair.needs)}")
            for pair in rules.companions
        },
    }
    metals = rules.metals
    unknown = metals.unknown_aluminum
    dated = [
        *((kind, name, row, said) for (kind, name), (row, said) in found.items()),
        *(("group", group.name, group, ", ".join(group.countries)) for group in rules.country_groups),
        ("reporting", "order", rules.reporting, rules.reported_order),
        ("review", "age", rules.review, f"{rules.review.within_days} days"),
        *(
            ("metal data", f"not of {join_words(sorted(row.origins))}", row, join_words(sorted(row.metals)))
            for row in metals.untold
        ),
        ("metal data", f"{unknown.value} of aluminum", unknown, join_words(unknown.headings)),
        *(("weight test", test.heading, test, _weighs(test)) for test in rules.metals.weight_tests),
        *(("metal data", _of_metal(needs), needs, _asks(needs)) for needs in rules.metals.metals),
    ]
    if on is not None:
        return {(kind, name): (row, said) for kind, name, row, said in dated if row.in_force(on)}
    return {(kind, f"{name} from {row.effective_from}"): (row, said) for kind, name, row, said in dated}


def _weighs(test: WeightTest) -> str:
    return f"below {format_plain(test.least_percent)} % of the weight, outside chapters {join_words(sorted(test.exempt_chapters))}"


def _of_metal(needs: MetalNeeds) -> str:
    return f"{needs.metal} of {join_words(needs.codes)}" if needs.codes else needs.metal


def _asks(needs: MetalNeeds) -> str:
    return join_words(name.replace("_", " ") for name in needs.needs)


def _others(before: Others, after: Others) -> Iterator[Change]:
    for kind, name in sorted(before.keys() | after.keys()):
        old, new = before.get((kind, name)), after.get((kind, name))
        if old is None and new is not None:
            yield Change(kind, name, "began", new[1])
        elif new is None and old is not None:
            yield Change(kind, name, "ended", old[1])
        elif old is not None and new is not None and old[0] != new[0]:
            said = [new[1]] if old[1] == new[1] else [f"{old[1]} is now {new[1]}"]
            yield Change(kind, name, "changed", "; ".join((*said, *_dated_differences(old[0], new[0]))))
