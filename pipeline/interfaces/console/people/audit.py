"""The page of the audit trail: what people and keys did on the account."""

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import people
from pipeline.accounts.api_keys import ADMIN
from pipeline.core.errors import ValidationFailed
from pipeline.exports.audit_trail import MAX_SUBJECT, ActFilter, Action, list_acts
from pipeline.exports.schemas.export import ActView
from pipeline.interfaces.pages.list_views import OptionalDay
from pipeline.interfaces.pages.pages import PAGE_SIZE, ConsoleRoute, Visitor

#: Members of an act's detail whose names do not say well what they are.
_DETAILS: Final = {"by": "superseded by"}

router = APIRouter(prefix="/console/audit", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_audit_trail(
    visit: Visitor,
    actor: Annotated[str, Query(max_length=64)] = "",
    action: Annotated[str, Query(max_length=64)] = "",
    subject: Annotated[str, Query(max_length=MAX_SUBJECT)] = "",
    first_day: Annotated[OptionalDay, Query(alias="from")] = None,
    last_day: Annotated[OptionalDay, Query(alias="to")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """Show the acts, newest first; an empty filter shows all."""
    visit.caller.require(ADMIN)
    if action and action not in {*Action}:
        raise ValidationFailed(f"{action} is not an action; choose one of the list", field="/query/action")
    wanted = Action(action) if action else None
    filters = ActFilter(actor or None, wanted, subject.strip() or None, first_day, last_day)
    with visit.runtime.db.read() as session:
        page = list_acts(session, visit.account_id, filters, before=before, limit=PAGE_SIZE)
        members = people.list_members(session, visit.account_id)
        ids = {each.actor for each in page.items} | {each.subject for each in page.items} | {actor}
        names = people.name_actors(session, ids)
    older = {"actor": actor, "action": action, "subject": subject, "from": first_day or "", "to": last_day or ""}
    return visit.page(
        "console/people/audit.html",
        acts=[(each, describe_detail(each)) for each in page.items],
        names=names,
        filters=filters,
        people=members,
        actions=[*Action],
        next_link=None
        if page.next_before is None
        else f"/console/audit?{urlencode(older | {'before': page.next_before})}",
    )


def describe_detail(act: ActView) -> str:
    """Return the details of an act as one line, empty if it has none."""
    return ", ".join(f"{_DETAILS.get(key, key)}: {_format_detail(value)}" for key, value in act.detail.items())


def _format_detail(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
