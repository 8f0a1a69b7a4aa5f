"""What changes between two days of a ruleset, or between two rulesets: headings, and what lists took in and let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from pipeline.customs.headings import HeadingRow
from pipeline.customs.ruleset import Ruleset
from pipeline.money import plain


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
        *_bans(rules, before, after),
    )


def between_rulesets(before: Ruleset, after: Ruleset) -> tuple[Change, ...]:
    """Return what the second ruleset has that the first has otherwise, whatever the day."""
    return (
        *_headings(_dated(before), _dated(after)),
        *_lists(_held(before), _held(after)),
    )


def _in_force(rules: Ruleset, on: date) -> dict[str, HeadingRow]:
    return {row.heading: row for row in rules.rows if row.holds(on)}


def _dated(rules: Ruleset) -> dict[str, HeadingRow]:
    return {f"{row.heading} from {row.effective_from}": row for row in rules.rows}


def _held(rules: Ruleset, on: date | None = None) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for held in rules.held:
        if on is None:
            found[f"{held.list.id} from {held.version.effective_from}"] = frozenset(held.codes.values())
        elif held.version.holds(on):
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
    if (old.effective_from, old.effective_to) != (new.effective_from, new.effective_to):
        yield f"from {new.effective_from} to {new.effective_to or 'further notice'}"
    if (old.source, old.confidence, old.status) != (new.source, new.confidence, new.status):
        yield f"by {new.source} ({new.status})"
    if old.description != new.description:
        yield new.description


def _rate(row: HeadingRow) -> str:
    return f"{'-' if row.rate_percent is None else plain(row.rate_percent)} % ({row.basis})"


def _lists(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, frozenset()), after.get(name, frozenset())
        added, removed = sorted(new - old), sorted(old - new)
        if added or removed:
            what = "began" if name not in before else "ended" if name not in after else "changed"
            said = [f"+ {', '.join(added)}"] if added else []
            said += [f"- {', '.join(removed)}"] if removed else []
            yield Change("list", name, what, "  ".join(said))


def _bans(rules: Ruleset, before: date, after: date) -> Iterator[Change]:
    for ban in rules.bans:
        if ban.holds(before) != ban.holds(after):
            yield Change("ban", ban.list, "began" if ban.holds(after) else "ended", ban.what)
