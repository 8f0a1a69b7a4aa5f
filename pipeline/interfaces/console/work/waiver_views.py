"""Views and the form of waivers: which findings one lifts, for whom, until when, and what used it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import quote

from pipeline.accounts.lists import PartnerName
from pipeline.core.json_input import parse_json, validation_failed
from pipeline.core.problems import Issue
from pipeline.customs.schemas import NewWaiver, WaiverView
from pipeline.interfaces.pages.input import Choice, FormError, Input, list_errors
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.pages import Form
from pipeline.workflow.waivers import WaiverUses

_MAX_DEPTH: Final = 2
#: The inputs of the form, and the fields of a new waiver.
_FIELDS: Final = {
    "rule": "rule",
    "pointer": "pointer",
    "partner": "partnerId",
    "reason": "reason",
    "ends_on": "endsOn",
}


@dataclass(frozen=True)
class ShownWaiver:
    """A waiver on a page; `in_force` if it still lifts findings."""

    link: str
    id: str
    rule: str
    place: str
    partner: str
    reason: str
    by: str
    granted: str
    state: str
    mark: str
    in_force: bool


@dataclass(frozen=True)
class ShownUse:
    """An export that used a waiver."""

    link: str
    export_id: str
    batch_id: str
    accepted: str


@dataclass(frozen=True)
class ShownUses:
    """The exports that used a waiver, what was searched, and the link that searches older exports, empty at the end."""

    found: Sequence[ShownUse]
    none: str
    searched: str
    older: str


@dataclass(frozen=True)
class WaiverForm:
    """The form that records a waiver."""

    inputs: Sequence[Input]
    errors: Sequence[FormError]


def has_ended(waiver: WaiverView, today: date) -> bool:
    """Return whether the waiver ended or was revoked."""
    return waiver.revoked_at is not None or (waiver.ends_on is not None and waiver.ends_on < today)


def show_waiver(waiver: WaiverView, today: date, names: Mapping[str, str]) -> ShownWaiver:
    """Return a waiver for a page; `names` are those of people by id."""
    ended = has_ended(waiver, today)
    state: str
    if waiver.revoked_at is not None:
        by = names.get(waiver.revoked_by or "", waiver.revoked_by)
        state = format_instant(waiver.revoked_at, "revoked ", f" by {by}")
    elif waiver.ends_on is None:
        state = "in force until it is revoked"
    else:
        state = f"{'ended' if ended else 'in force until'} {waiver.ends_on}"
    return ShownWaiver(
        link=f"/console/waivers/{quote(waiver.id)}",
        id=waiver.id,
        rule=waiver.rule,
        place=waiver.pointer or "everywhere in the plan",
        partner=waiver.partner_id or "every partner",
        reason=waiver.reason,
        by=names.get(waiver.waived_by, waiver.waived_by),
        granted=format_instant(waiver.created_at),
        state=state,
        mark="" if ended else "good",
        in_force=not ended,
    )


def show_uses(waiver: WaiverView, uses: WaiverUses, *, continued: bool) -> ShownUses:
    """Return the uses of a waiver for its page; `continued` if newer exports were searched before."""
    newer = "the next" if continued else "the newest"
    count = f"{uses.searched} export{'' if uses.searched == 1 else 's'} since it was recorded"
    every = (
        f"All {count} were searched." if uses.searched != 1 else "The only export since it was recorded was searched."
    )
    whole = uses.before is None and not continued
    return ShownUses(
        found=[
            ShownUse(
                f"/console/exports/{quote(each.export_id)}",
                each.export_id,
                each.batch_id,
                format_instant(each.accepted_at),
            )
            for each in uses.found
        ],
        none="No export used it." if whole else "None of these exports used it.",
        searched=every if whole else f"This page searched {newer} {count}.",
        older="" if uses.before is None else f"/console/waivers/{quote(waiver.id)}?before={quote(uses.before)}",
    )


def build_form(fields: Form, partners: Sequence[PartnerName], errors: Mapping[str, str]) -> WaiverForm:
    """Return the form of a new waiver, with what was typed."""
    chosen = fields.get("partner")
    choices = [Choice("", "every partner", chosen=not chosen)] + [
        Choice(each.id, f"{each.id}, {each.name}", chosen=each.id == chosen)
        for each in partners
        if each.kind != "operator"
    ]

    def at(name: str, label: str, hint: str, kind: str = "text", *, required: bool = False) -> Input:
        error = errors.get(f"/{_FIELDS[name]}", "")
        return Input(name, label, kind, fields.get(name), hint, error, required=required)

    inputs = [
        at("rule", "Rule", "The id of the warning's rule, such as V17. A finding shows it.", required=True),
        at(
            "reason", "Reason", "Why the account proceeds despite the warning. Auditors read it.", "area", required=True
        ),
        at(
            "pointer",
            "Only at this place in the plan",
            "The start of a JSON Pointer, such as /units/*/invoice. * is any one part. Empty means everywhere.",
        ),
        Input(
            "partner",
            "Only for this customs broker or warehouse",
            "select",
            error=errors.get("/partnerId", ""),
            choices=choices,
        ),
        at("ends_on", "Last day", "In UTC. Empty means until it is revoked.", "date"),
    ]
    return WaiverForm(inputs, list_errors(inputs, errors))


def read_new_waiver(fields: Form) -> NewWaiver:
    """Return the waiver that a form asks for. Raises ValidationFailed, which names each wrong input."""
    given: dict[str, Any] = {name: " ".join(fields.get(each).split()) for each, name in _FIELDS.items()}
    tree = {name: value for name, value in given.items() if value}
    return parse_json(json.dumps(tree).encode(), NewWaiver, max_depth=_MAX_DEPTH).model


def check_waiver(new: NewWaiver, known: Collection[str], today: date) -> None:
    """Raise ValidationFailed if the waiver names a partner that the account does not have, or ended before today."""
    issues = []
    if new.partner_id is not None and new.partner_id not in known:
        issues.append(Issue(path="/partnerId", message="is not a partner of this account; choose one", code="unknown"))
    if new.ends_on is not None and new.ends_on < today:
        issues.append(Issue(path="/endsOn", message=f"is before today, {today}; give a later day", code="past"))
    if issues:
        raise validation_failed(issues)
