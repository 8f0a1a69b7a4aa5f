"""The console's page of deadlines: the account's own leads by mode of transport, and the form that changes those of one."""

import json
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from config.settings import Settings
from pipeline.accounts import leads
from pipeline.accounts.api_keys import ADMIN, READ
from pipeline.accounts.schemas import MAX_LEAD_MINUTES, LeadChanges, LeadsView
from pipeline.core.errors import NotFound, Refused
from pipeline.core.json_input import parse_json
from pipeline.interfaces.durations import format_countdown
from pipeline.interfaces.pages.input import Input, fill_form, read_errors, read_whole_number
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Form, Visit, Visitor, redirect_to

router = APIRouter(prefix="/console/deadline-leads", include_in_schema=False, route_class=ConsoleRoute)

_HERE: Final = "/console/deadline-leads"
_LABELS: Final = {
    "received": "The customs broker can read the handoff",
    "answered": "The customs broker answers it",
    "filed": "The entry is filed",
    "released": "Customs releases or holds",
}


@router.get("")
def show_leads(visit: Visitor, mode: Annotated[str, Query(max_length=16)] = leads.MODES[0]) -> Response:
    """Show the account's leads; an administrator of live mode may change those of `mode`."""
    return _page(visit, mode, Form({}), None)


@router.post("")
def change_leads(visit: Visitor, fields: Fields) -> Response:
    """Replace the leads of the form's mode of transport; then show the page."""
    visit.caller.require(ADMIN)
    mode = fields.get("mode")
    minutes = {f"{status}Minutes": _read_minutes(fields.get(status)) for status in leads.STATUSES}
    try:
        changes = parse_json(json.dumps({mode: minutes}).encode(), LeadChanges, max_depth=2).model
        leads.change_leads(
            visit.runtime, visit.account_id, changes, changed_by=visit.caller.actor, test_only=visit.caller.test
        )
    except Refused as refused:
        return _page(visit, mode, fields, refused)
    return redirect_to(f"{_HERE}?mode={mode}")


def _read_minutes(text: str) -> int | str | None:
    """Return the minutes that were typed, the text if it is not a number within the bounds, and None if it is empty."""
    found = read_whole_number(text, 0, MAX_LEAD_MINUTES)
    return (text or None) if found is None else found


def _page(visit: Visit, mode: str, fields: Form, refused: Refused | None) -> Response:
    visit.caller.require(READ)
    if mode not in leads.MODES:
        raise NotFound(f"no plan has this mode of transport; take one of {', '.join(leads.MODES)}")
    kept = leads.show_leads(visit.runtime, visit.account_id)
    return visit.page(
        "console/people/deadline_leads.html",
        refused=refused,
        mode=mode,
        labels=_LABELS,
        rows={each: _describe(kept, each) for each in leads.MODES},
        defaults=_describe_defaults(visit.runtime.settings),
        form=fill_form(_list_inputs(kept, mode), fields, read_errors(refused)),
        why_not=visit.explain_unchangeable("deadline leads"),
    )


def _describe(kept: LeadsView, mode: str) -> dict[str, str]:
    """Return status -> the own lead of the mode in words, empty for the default."""
    minutes = _read_own(kept, mode)
    return {status: "" if each is None else format_countdown(each * 60) for status, each in minutes.items()}


def _describe_defaults(settings: Settings) -> dict[str, str]:
    return {status: format_countdown(getattr(settings, f"lead_{status}_seconds")) for status in leads.STATUSES}


def _read_own(kept: LeadsView, mode: str) -> dict[str, int | None]:
    own = getattr(kept, mode)
    return {status: getattr(own, f"{status}_minutes") for status in leads.STATUSES}


def _list_inputs(kept: LeadsView, mode: str) -> list[Input]:
    return [
        Input(
            status,
            _LABELS[status],
            "number",
            "" if minutes is None else str(minutes),
            help=f"Whole minutes before the arrival, at most {MAX_LEAD_MINUTES:,}. Empty means the default.",
            at=f"/{mode}/{status}Minutes",
        )
        for status, minutes in _read_own(kept, mode).items()
    ]
