"""The console's form that stops an export: before the handoff it holds the handoff, afterwards it withdraws the export."""

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.responses import Response

from pipeline.accounts.api_keys import OPERATE, Caller
from pipeline.core.errors import Refused
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.exports.models import Export
from pipeline.exports.queries import find_export
from pipeline.exports.schemas.export import ReasonRequest
from pipeline.exports.states import ACTIVE_STATES, ExportState, Outcome
from pipeline.interfaces.pages.input import Input, fill_form, read_errors
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Form, Visit, Visitor, redirect_to
from pipeline.workflow.interventions import find_for_change, hold_export
from pipeline.workflow.withdrawals import withdraw_export

router = APIRouter(prefix="/console/exports/{id}/stop", include_in_schema=False, route_class=ConsoleRoute)

_INPUTS: Final = (Input("reason", "Reason", "area", help="It stays in the log of the export.", required=True),)


@dataclass(frozen=True)
class Stop:
    """One way to stop an export: its words, and what follows."""

    title: str
    effect: str
    button: str


HOLD: Final = Stop(
    "Hold the handoff",
    "The other steps are done, and nothing is sent. The handoff waits in the inbox until a person releases it.",
    "Hold the handoff",
)
WITHDRAW: Final = Stop(
    "Withdraw the export",
    "Customs broker and warehouse get a message with the reason, and unsent messages are cancelled. The export is"
    " withdrawn when the customs broker confirms it. You cannot undo this. If an entry is filed, it is refused.",
    "Withdraw the export",
)


def find_stop(caller: Caller, export: Export) -> Stop | None:
    """Return how the caller can stop the export now, None if that is not possible."""
    if not caller.has_role(OPERATE) or not caller.may_change(test=export.test) or export.purged_at is not None:
        return None
    if export.state in ACTIVE_STATES:
        return HOLD if export.outcome == Outcome.IN_PROGRESS.value else None
    return WITHDRAW if export.state == ExportState.EXECUTED.value and export.withdrawal_seq is None else None


def _open(id: str, visit: Visitor) -> tuple[Visit, str, Stop]:
    visit.caller.require(OPERATE)
    export_id = find_for_change(visit.runtime, visit.caller, id)
    with visit.runtime.db.read() as session:
        export = find_export(session, visit.account_id, export_id)
    return visit, export_id, HOLD if export.state in ACTIVE_STATES else WITHDRAW


Stopping = Annotated[tuple[Visit, str, Stop], Depends(_open)]


@router.get("")
def show_stop(stopping: Stopping) -> Response:
    """Say what follows, and ask for the reason."""
    return _page(*stopping, Form({}), None)


@router.post("")
def stop_export(stopping: Stopping, fields: Fields) -> Response:
    """Hold the handoff or withdraw the export, and show the export."""
    visit, export_id, stop = stopping
    who = (visit.runtime, visit.account_id, export_id, visit.caller.actor)
    try:
        reason = _read_reason(fields)
        if stop is HOLD:
            hold_export(*who, reason)
        else:
            visit.publish(withdraw_export(*who, reason))
    except Refused as refused:
        return _page(visit, export_id, stop, fields, refused)
    return redirect_to(f"/console/exports/{quote(export_id)}")


def _read_reason(fields: Form) -> str:
    try:
        return ReasonRequest(reason=fields.get("reason").strip()).reason
    except ValidationError:
        issue = Issue(path="/reason", message="say why, in 1 to 1,000 readable characters", code="invalid")
        raise validation_failed([issue]) from None


def _page(visit: Visit, export_id: str, stop: Stop, fields: Form, refused: Refused | None) -> Response:
    errors = read_errors(refused)
    if refused is not None and refused.status == 409:
        errors = {"/reason": refused.message}
    form = fill_form(_INPUTS, fields, errors)
    return visit.page("console/exports/stop.html", refused=refused, form=form, stop=stop, export_id=export_id)
