"""The console's pages of the sandbox broker: what it received, and a form that lets it answer a test export."""

from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.responses import Response

from pipeline.accounts.api_keys import OPERATE
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.core.json_input import error_phrase
from pipeline.deliveries import sandbox_answers, sandbox_broker
from pipeline.deliveries.entries.facets import MEANINGS
from pipeline.deliveries.sandbox_script import list_letters
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.exports.models import Export
from pipeline.exports.queries import find_export
from pipeline.interfaces.pages.form_ids import name_content, new_form_id
from pipeline.interfaces.pages.input import Choice, Input, fill_form, read_errors
from pipeline.interfaces.pages.pages import PAGE_SIZE, ConsoleRoute, Fields, Form, Visit, Visitor, redirect_to
from pipeline.interfaces.sandbox_input import build_answer
from pipeline.workflow.interventions import find_for_change
from pipeline.workflow.read_model import build_view, load_export_rows

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

_HOLDERS: Final = {"": "Not named", "cbp": "Customs", "agriculture": "Agriculture", "manifest": "Manifest"}
_INPUTS: Final = (
    Input("package", "Customs package", help="Its number, such as CP-000002; without it, the answer is about all."),
    Input("message", "Message"),
    Input("holder", "Holder", "select", help="With a hold.", choices=[Choice(*each) for each in _HOLDERS.items()]),
    Input("agency", "Agency that holds", help="Its code, such as FDA; then leave the holder as it is."),
    Input("duties", "Assessed duties", help="With filed, released and a summary, such as 9903.88.03=12.50."),
    Input("fees", "Assessed fees", help="Such as 499=34.58 501=10.00."),
)


@router.get("/sandbox")
def show_sandbox(visit: Visitor, cursor: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    """Show what the sandbox broker received from the account, newest first."""
    found = sandbox_broker.list_handoffs(visit.runtime, visit.account_id, after=cursor, limit=PAGE_SIZE)
    return visit.page(
        "console/exports/sandbox.html",
        letters=list_letters(),
        handoffs=found.items,
        next_link=None if found.next_cursor is None else f"/console/sandbox?cursor={quote(found.next_cursor)}",
    )


def find_answer_link(visit: Visit, export: Export) -> str:
    """Return the address of the form by which the sandbox broker answers the export; empty without one."""
    may_answer = export.test and visit.caller.has_role(OPERATE) and export.purged_at is None
    if not may_answer:
        return ""
    with visit.runtime.db.read() as session:
        received = sandbox_answers.find_received(session, export.id)
    return "" if received is None else f"/console/exports/{quote(export.id)}/sandbox"


@router.get("/exports/{id}/sandbox")
def show_form(id: str, visit: Visitor) -> Response:
    """Show the entries of a test export, and the answers that the sandbox broker can give now."""
    visit.caller.require(OPERATE)
    return _page(visit, id, Form({}))


@router.post("/exports/{id}/sandbox")
def answer(id: str, visit: Visitor, fields: Fields) -> Response:
    """Let the sandbox broker answer; a form that is sent twice counts once."""
    visit.caller.require(OPERATE)
    try:
        export_id = find_for_change(visit.runtime, visit.caller, id)
        sandbox_answers.answer_handoff(visit.runtime, visit.caller, export_id, _read_answer(fields))
    except Refused as refused:
        if refused.status in (403, 404):
            raise
        return _page(visit, id, fields, refused)
    return redirect_to(f"/console/exports/{quote(export_id)}/sandbox")


def _read_answer(fields: Form) -> AcknowledgementBody:
    """Return the answer that was typed. Raises ValidationFailed."""
    typed = {each.name: fields.get(each.name).strip() for each in _INPUTS}
    status, package = fields.get("status"), typed["package"].upper()
    try:
        return build_answer(
            name_content("sandbox", fields.get("form_id"), repr([status, *typed.values()])),
            status,
            [package] if package else [],
            holder=typed["holder"] * (not typed["agency"]),
            agency=typed["agency"].upper(),
            message=typed["message"],
            duties=typed["duties"].split(),
            fees=typed["fees"].split(),
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        where = str(wrong["loc"][0]) if wrong["loc"] else ""
        names = {"customsPackageNumbers": "package", "hold": "agency", "assessed": "fees"}
        raise ValidationFailed(error_phrase(wrong["msg"]), field=f"/{names.get(where, where)}") from error


def _page(visit: Visit, id: str, fields: Form, refused: Refused | None = None) -> Response:
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
        view = build_view(load_export_rows(session, row, max_events=0, max_lines=0))
    errors = read_errors(refused)
    if "/customsPackageNumbers/0" in errors:
        errors["/package"] = errors.pop("/customsPackageNumbers/0")
    submission = view.broker_submission
    return visit.page(
        "console/exports/sandbox_answer.html",
        refused=refused,
        export=row,
        answerable=bool(find_answer_link(visit, row)),
        entries=[] if submission is None else submission.entries,
        facets=MEANINGS,
        form=fill_form(_INPUTS, fields, errors),
        form_id=new_form_id(),
    )
