"""The form of waivers: which findings one lifts, for whom, and until when."""

import json
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, Final

from pipeline.accounts.lists import PartnerName
from pipeline.core.json_input import parse_json, validation_failed
from pipeline.core.problems import Issue
from pipeline.customs.schemas import NewWaiver
from pipeline.interfaces.pages.input import Choice, Input
from pipeline.interfaces.pages.pages import Form

_MAX_DEPTH: Final = 2
#: The inputs of the form, and the fields of a new waiver.
_FIELDS: Final = {"rule": "rule", "pointer": "pointer", "partner": "partnerId", "reason": "reason", "ends_on": "endsOn"}


def list_inputs(partners: Sequence[PartnerName]) -> list[Input]:
    """Return the inputs of a new waiver, which may be for one of these partners."""
    named = [
        Choice(each.id, f"{each.id}, {each.name}") for each in partners if each.kind in {"customs_broker", "warehouse"}
    ]
    return [
        Input("rule", "Rule", help="The id of the warning's rule, such as V17. A finding shows it.", required=True),
        Input(
            "reason",
            "Reason",
            "area",
            help="Why the account proceeds despite the warning. Auditors read it.",
            required=True,
        ),
        Input(
            "pointer",
            "Only at this place in the plan",
            help="The start of a JSON Pointer, such as /units/*/invoice. * is any one part. Empty means everywhere.",
        ),
        Input(
            "partner",
            "Only for this customs broker or warehouse",
            "select",
            choices=[Choice("", "every partner"), *named],
            at="/partnerId",
        ),
        Input("ends_on", "Last day", "date", help="In UTC. Empty means until it is revoked.", at="/endsOn"),
    ]


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
