"""The console's inbox: everything that needs a person, with the remedies as buttons, one by one and in bulk."""

import time
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.people import name_actors
from pipeline.core import deadline
from pipeline.core.errors import DatabaseBusy, Refused, ValidationFailed
from pipeline.deliveries import connection_tests
from pipeline.deliveries.account_clock import read_ahead
from pipeline.exports.schemas.inbox import Cause, Remedy
from pipeline.exports.schemas.plan import LongText
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS
from pipeline.interfaces.console.work import inbox_views
from pipeline.interfaces.console.work.inbox_views import ChosenItem, Result
from pipeline.interfaces.pages.live import build_live_address
from pipeline.interfaces.pages.pages import PAGE_SIZE, ConsoleRoute, Form, Visit, Visitor, limit_form
from pipeline.workflow import inbox
from pipeline.workflow.remedies import RemedyTarget, apply_remedy, required_roles
from pipeline.workflow.steps import TaskMessage

router = APIRouter(prefix="/console/inbox", include_in_schema=False, route_class=ConsoleRoute)

_SOME_REMEDY: Final = sorted({role for each in Remedy for role in required_roles(each)})
#: A form with room for all items of a group, and for a note.
ChosenItems = Annotated[Form, Depends(limit_form(400 * inbox.MOST_ITEMS + 16 * 1024, *_SOME_REMEDY))]

#: How many items of each cause the inbox shows; the page of one cause shows more.
_FIRST_ITEMS: Final = 15
#: How long one request applies remedies; the next request continues.
_APPLY_SECONDS: Final = 5.0
_NOTE: Final = TypeAdapter(LongText)


@dataclass(frozen=True)
class _ChosenRemedy:
    """What a person chose: a remedy, what to apply it to, and the note of an acknowledgement."""

    remedy: Remedy
    items: list[ChosenItem]
    note: str


@router.get("")
def show_inbox(
    visit: Visitor,
    acknowledged: Annotated[bool, Query()] = False,  # noqa: FBT002 - a filter that is on or off
    cause: Cause | None = None,
) -> Response:
    """Show what needs a person, grouped by cause, oldest deadline first; or what was acknowledged; of all causes or one."""
    live_address = build_live_address(visit)
    limit = _FIRST_ITEMS if cause is None else PAGE_SIZE
    found = inbox.load_inbox(visit.runtime, visit.account_id, cause=cause, acknowledged=acknowledged, limit=limit)
    remedies = {each for each in Remedy if any(map(visit.caller.has_role, required_roles(each)))}
    with visit.runtime.db.read() as session:
        names = name_actors(session, {each.acknowledged.by for each in found.items if each.acknowledged is not None})
        ahead = read_ahead(session, visit.account_id, test=True)
    return visit.page(
        "console/work/inbox.html",
        groups=[inbox_views.show_group(each, remedies, visit.caller) for each in inbox.group_items(found)],
        more_links=[] if cause else inbox_views.build_more_links(found.cut, acknowledged=acknowledged),
        cause="" if cause is None else inbox_views.describe_cause(cause),
        acknowledged=acknowledged,
        names=names,
        ahead=ahead,
        live=live_address,
    )


@router.post("/review")
def review_choice(visit: Visitor, form: ChosenItems) -> Response:
    """Say what the chosen remedy will do, and ask whether to do it; nothing is changed."""
    choice = _read_choice(visit, form)
    review = inbox_views.build_review(choice.remedy, choice.items, choice.note)
    return visit.page("console/work/inbox_review.html", review=review, refusal=None)


@router.post("/apply")
def apply_choice(visit: Visitor, form: ChosenItems) -> Response:
    """Apply the remedy to each chosen item, for some seconds; show what was done, what was refused, and what is left."""
    choice = _read_choice(visit, form)
    try:
        note = _NOTE.validate_python(choice.note) if choice.note else None
    except ValidationError as error:
        refusal = f"The note {error.errors()[0]['msg'].lower()}; change it."
        review = inbox_views.build_review(choice.remedy, choice.items, choice.note)
        return visit.page("console/work/inbox_review.html", 400, review=review, refusal=refusal)
    results, left = _apply(visit, choice, note)
    return visit.page(
        "console/work/inbox_results.html", results=inbox_views.build_results(choice.remedy, results, left, choice.note)
    )


@router.post("/test")
def test_connection(visit: Visitor, form: ChosenItems) -> Response:
    """Run the connection test of a group's partner, and show its stages with the items that can be resent."""
    partner_id = form.get("partner")
    visit.caller.require(*required_roles(Remedy.TEST))
    connection_tests.run_connection_test(
        visit.runtime, visit.account_id, partner_id, tested_by=visit.caller.actor, test_key=visit.caller.test
    )
    deadline.set_deadline(REQUEST_WAIT_SECONDS)  # the test may have taken longer
    items = _read_items(form)
    return visit.page(
        "console/work/inbox_test.html",
        partner=partners.get_partner(visit.runtime, visit.account_id, partner_id),
        resend=inbox_views.build_review(Remedy.RESEND, items) if any(each.delivery_id for each in items) else None,
    )


def _apply(visit: Visit, choice: _ChosenRemedy, note: str | None) -> tuple[list[Result], list[ChosenItem]]:
    """Return the results in order, and the items that the time did not suffice for."""
    tasks: list[TaskMessage] = []
    results: list[Result] = []
    left = list(choice.items)
    until = time.monotonic() + _APPLY_SECONDS
    while left and time.monotonic() < until:
        item = left[0]
        deadline.set_deadline(REQUEST_WAIT_SECONDS)
        try:
            tasks += apply_remedy(visit.runtime, visit.caller, choice.remedy, _to_target(item), note)
        except DatabaseBusy:
            break
        except Refused as refused:
            results.append(inbox_views.show_result(choice.remedy, item, refused.message))
        else:
            results.append(inbox_views.show_result(choice.remedy, item))
        left.pop(0)
    visit.publish(tasks)
    return results, left


def _to_target(item: ChosenItem) -> RemedyTarget:
    return RemedyTarget(item.export_id, item.delivery_id, item.partner_id, item.seen_seq)


def _read_choice(visit: Visit, form: Form) -> _ChosenRemedy:
    remedy, items = form.get("remedy"), _read_items(form)
    if remedy not in {*Remedy}:
        raise ValidationFailed("the form names no remedy; choose a button of the inbox")
    visit.caller.require(*required_roles(Remedy(remedy)))
    if not items:
        raise ValidationFailed("nothing was chosen; tick at least one row")
    # An export stands in the inbox once for each of its dead letters.
    once = {_to_target(each).id_for(Remedy(remedy)): each for each in reversed(items)}
    # A note is one line in the log, and its input has several.
    return _ChosenRemedy(Remedy(remedy), [*reversed(once.values())], " ".join(form.get("note").split()))


def _read_items(form: Form) -> list[ChosenItem]:
    return [_read_item(each) for each in form.get_all("target")[: inbox.MOST_ITEMS]]


def _read_item(value: str) -> ChosenItem:
    given = {name: values[0] for name, values in parse_qs(value).items()}
    seen = given.get("seen", "")
    return ChosenItem(
        export_id=given.get("export", ""),
        delivery_id=given.get("delivery", ""),
        partner_id=given.get("partner", ""),
        # A number with more digits cannot be that of an event.
        seen_seq=int(seen) if seen.isascii() and seen.isdigit() and len(seen) <= 9 else None,
        name=given.get("name", ""),
    )
