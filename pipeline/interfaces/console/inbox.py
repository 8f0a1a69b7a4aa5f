"""The console's inbox: everything that needs a person, with the remedies as buttons, one by one and in bulk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from pipeline.accounts.api_keys import OPERATE
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.interfaces.console import inbox_views
from pipeline.interfaces.console.pages import ConsoleRoute, Form, Visitor, limit_form
from pipeline.workflow import inbox
from pipeline.workflow.inbox import Remedy
from pipeline.workflow.steps import TaskMessage

router = APIRouter(prefix="/console/inbox", include_in_schema=False, route_class=ConsoleRoute)

#: A form with room for the ids of all items of a group.
ChosenItems = Annotated[Form, Depends(limit_form(64 * inbox.MOST_ITEMS + 4096))]


@dataclass(frozen=True)
class _ChosenRemedy:
    """What a person chose: a remedy, and what to apply it to."""

    remedy: Remedy
    targets: list[str]


@router.get("")
def show_inbox(visit: Visitor) -> Response:
    """Show what needs a person, grouped by cause, most urgent first."""
    groups = inbox.load_inbox(visit.runtime, visit.account_id)
    return visit.page(
        "console/inbox.html",
        groups=[inbox_views.show_group(each) for each in groups],
        operates=visit.caller.has_role(OPERATE),
        live="/console/live",
    )


@router.post("/review")
def review_choice(visit: Visitor, form: ChosenItems) -> Response:
    """Say what the chosen remedy will do, and ask whether to do it; nothing is changed."""
    visit.caller.require(OPERATE)
    choice = _read_choice(form)
    return visit.page("console/inbox_review.html", review=inbox_views.build_review(choice.remedy, choice.targets))


@router.post("/apply")
def apply_choice(visit: Visitor, form: ChosenItems) -> Response:
    """Apply the remedy to each chosen item, and show what was done and what was refused."""
    visit.caller.require(OPERATE)
    choice = _read_choice(form)
    tasks: list[TaskMessage] = []
    results: dict[str, str | None] = {}
    for target in choice.targets:
        try:
            tasks += inbox.apply_remedy(visit.runtime, visit.caller, choice.remedy, target)
        except Refused as refused:
            results[target] = refused.message
        else:
            results[target] = None
    visit.publish(tasks)
    return visit.page("console/inbox_results.html", results=inbox_views.build_results(choice.remedy, results))


def _read_choice(form: Form) -> _ChosenRemedy:
    remedy, targets = form.get("remedy"), form.get_all("target")
    if remedy not in {*Remedy}:
        raise ValidationFailed("the form names no remedy; choose a button of the inbox")
    if not targets:
        raise ValidationFailed("nothing was chosen; tick at least one row")
    return _ChosenRemedy(Remedy(remedy), targets[: inbox.MOST_ITEMS])
