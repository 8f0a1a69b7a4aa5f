"""Views of an amendment: the inputs of the named places, the findings of the corrected plan, and what changes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from pipeline.accounts.api_keys import Caller
from pipeline.core.field_types import mask_numbers
from pipeline.core.findings import Finding, top_findings
from pipeline.exports.field_text import NamedField, describe_field, name_field
from pipeline.exports.plan_values import MISSING, read_value
from pipeline.exports.plans import UNHASHED
from pipeline.exports.revision_diff import FieldChange, compare_plans
from pipeline.interfaces.console.exports.finding_views import ShownFinding, show_findings
from pipeline.interfaces.event_text import count_noun
from pipeline.workflow.plan_input import AmendablePlan, TypedPlan, TypedValue, format_value

#: The most changes that a check lists.
_MOST_CHANGES: Final = 200
_MOST_CHARACTERS: Final = 300
#: A text with more characters, or of several lines, gets an input of several lines.
_ONE_LINE: Final = 60


@dataclass(frozen=True)
class ShownPlace:
    """The input for one place: `kind` is line, area or truth."""

    number: int
    pointer: str
    label: str
    kind: str
    old: str
    was: str
    now: str
    rows: int
    status: str
    message: str
    error: str


@dataclass(frozen=True)
class ShownChange:
    """One change of the plan, old and new; `place` names its unit, entry and field."""

    place: str
    old: str
    new: str


@dataclass(frozen=True)
class ShownCheck:
    """The result of a check: what is wrong, what changes, and what the form needs to send the plan.

    `unchanged` are the places that the customs broker named and the plan still has as they were. `proforma_units` are the units whose pro forma invoice can be made; none if the plan is not a changed one.
    """

    verdict: str
    mark: str
    errors: Sequence[tuple[NamedField, str]]
    findings: Sequence[ShownFinding]
    changes: Sequence[ShownChange]
    counted: str
    checked_hash: str
    approved_at: str
    sendable: bool
    unchanged: Sequence[str]
    proforma_units: Sequence[str]


def show_places(plan: AmendablePlan, typed: Sequence[TypedValue], errors: Mapping[str, str]) -> list[ShownPlace]:
    """Return the inputs, with what the customs broker says about each place."""
    named = {each.pointer: each for each in plan.places}
    shown = []
    for number, each in enumerate(typed):
        old = read_value(plan.raw, each.pointer)
        place = named.get(each.pointer)
        shown.append(
            ShownPlace(
                number=number,
                pointer=each.pointer,
                label=describe_field(each.pointer, plan.raw),
                kind=_choose_kind(old, each.now),
                old="not in the plan" if old is MISSING else _shorten(old),
                was=each.was,
                now=each.now,
                rows=min(16, 2 + each.now.count("\n")),
                status="" if place is None else place.status,
                message="" if place is None else place.message,
                error=errors.get(each.pointer, ""),
            )
        )
    return shown


def show_check(
    plan: AmendablePlan, corrected: TypedPlan, findings: Sequence[Finding], at: datetime, reader: Caller
) -> ShownCheck:
    """Return the result of a check made `at` this instant, for this reader."""
    new = {name: value for name, value in corrected.raw.items() if name not in UNHASHED}
    found = list(islice(compare_plans(plan.raw, new), _MOST_CHANGES + 1))
    hashed = corrected.hashed
    blocking = sum(finding.severity == "block" for finding in findings)
    changed = hashed is not None and hashed.plan_hash != plan.plan_hash
    if hashed is None:
        verdict, mark = "The plan cannot be read. Correct it, then check it again.", "bad"
    elif blocking:
        verdict, mark = f"{count_noun(blocking, 'finding')} must be fixed before it can be sent.", "bad"
    elif not changed:
        verdict, mark = "The plan is as before. Change it, then check it again.", "busy"
    elif findings:
        verdict, mark = "It can be sent. Read the warnings.", "busy"
    else:
        verdict, mark = "It can be sent. Preflight has no finding.", "good"
    more = len(found) > _MOST_CHANGES
    return ShownCheck(
        verdict=verdict,
        mark=mark,
        errors=[(name_field(at), error) for at, error in islice(corrected.errors.items(), _MOST_CHANGES)],
        findings=show_findings(top_findings(findings), reader),
        changes=[_show_change(each, plan.raw) for each in found[:_MOST_CHANGES]],
        counted=f"The first {_MOST_CHANGES} changes of the plan"
        if more
        else f"{count_noun(len(found), 'change')} of the plan",
        checked_hash="" if hashed is None else hashed.plan_hash,
        approved_at=at.isoformat(),
        sendable=changed and not blocking,
        unchanged=list_unchanged(plan, corrected),
        proforma_units=[unit.unit_ref for unit in hashed.plan.units] if hashed is not None and changed else [],
    )


def list_unchanged(plan: AmendablePlan, corrected: TypedPlan) -> list[str]:
    """Return the names of the places that the customs broker named and the corrected plan has as they were."""
    return [
        describe_field(each.pointer, plan.raw)
        for each in plan.places
        if read_value(plan.raw, each.pointer) == read_value(corrected.raw, each.pointer)
    ]


def _choose_kind(old: Any, now: str) -> str:
    if isinstance(old, bool):
        return "truth"
    return "area" if isinstance(old, dict | list) or len(now) > _ONE_LINE or "\n" in now else "line"


def _show_change(each: FieldChange, plan: Mapping[str, Any]) -> ShownChange:
    # What the older plan does not have has no pointer into it.
    names = (each.unit_ref, each.part.value, each.entry_ref, each.field)
    place = " ".join(filter(None, names)) if each.pointer is None else describe_field(each.pointer, plan)
    return ShownChange(place, _shorten(each.old), _shorten(each.new))


def _shorten(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else format_value(value) or "empty"
    text = mask_numbers(text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
