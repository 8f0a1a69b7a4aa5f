"""The console's pages of legal holds: which records are kept from the purge, and why. An administrator uses them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import people
from pipeline.accounts.api_keys import ADMIN
from pipeline.core.errors import ASK_FOR_LIVE, InsufficientRole, NotFound, Refused
from pipeline.core.field_types import check_printable
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.core.text_safety import check_readable
from pipeline.exports.models import LegalHold
from pipeline.interfaces.pages.input import Choice, Input, fill_form, read_errors
from pipeline.interfaces.pages.pages import (
    PAGE_SIZE,
    ConsoleRoute,
    Cursor,
    Fields,
    Form,
    Visit,
    Visitor,
    build_next_link,
    redirect_to,
)
from pipeline.ops import legal_holds

router = APIRouter(prefix="/console/holds", include_in_schema=False, route_class=ConsoleRoute)

_MAX_REASON: Final = 1000


_SCOPES: Final = (
    Choice("export", "One export", "Its records, and those of all revisions of its batch."),
    Choice("account", "The whole account", "Every record of this account, also future ones."),
)
_INPUTS: Final = (
    Input("scope", "What is kept", "radio", choices=_SCOPES),
    Input("export", "Export", help="Its id, for one export."),
    Input(
        "reason", "Reason", "area", help="Who asked to keep the records, and why. It stays on record.", required=True
    ),
)


@router.get("")
def show_holds(visit: Visitor, released: Annotated[bool, Query()] = False, cursor: Cursor = None) -> Response:  # noqa: FBT002 - on or off
    """Show the account's legal holds, newest first; with `released` those that have ended."""
    visit.caller.require(ADMIN)
    found = legal_holds.list_hold_page(
        visit.runtime, visit.account_id, released=released, after=cursor, limit=PAGE_SIZE
    )
    return visit.page(
        "console/work/holds.html",
        holds=found.items,
        names=_name_actors(visit, found.items),
        released=released,
        next_link=build_next_link("/console/holds", found.next_cursor, released=released),
        changeable=not visit.caller.test,
    )


@router.get("/new")
def show_new_hold(visit: Visitor, export: Annotated[str, Query(max_length=64)] = "") -> Response:
    """Show the form that places a hold; a link from an export fills in its id."""
    visit.caller.require(ADMIN)
    return _new_page(visit, Form({"export": [export]}), None)


@router.post("")
def place_hold(visit: Visitor, fields: Fields) -> Response:
    """Place a hold on an export's batch, or on the whole account, and show the list."""
    visit.caller.require(ADMIN)
    try:
        _refuse_test_keys(visit)
        reason, export_id = _read_hold(fields)
        legal_holds.place_hold(
            visit.runtime, visit.account_id, export_id=export_id, reason=reason, placed_by=visit.caller.actor
        )
    except Refused as refused:
        return _new_page(visit, fields, refused)
    return redirect_to("/console/holds")


@router.get("/{id}/release")
def show_release(id: str, visit: Visitor) -> Response:
    """Say what a release does, and ask whether to do it."""
    visit.caller.require(ADMIN)
    hold = legal_holds.get_hold(visit.runtime, visit.account_id, id)
    return visit.page("console/work/hold_release.html", hold=hold, names=_name_actors(visit, [hold]))


@router.post("/{id}/release")
def release_hold(id: str, visit: Visitor, fields: Fields) -> Response:
    """Release a hold of this account, and show the list."""
    visit.caller.require(ADMIN)
    _refuse_test_keys(visit)
    legal_holds.release_hold(visit.runtime, id, released_by=visit.caller.actor, account_id=visit.account_id)
    return redirect_to("/console/holds")


def _refuse_test_keys(visit: Visit) -> None:
    if visit.caller.test:
        raise InsufficientRole(f"legal holds keep live records, so test mode cannot change them; {ASK_FOR_LIVE}")


def _read_hold(fields: Form) -> tuple[str, str | None]:
    """Return the reason and the export of a hold. Raises ValidationFailed, which names each wrong input."""
    issues: list[Issue] = []
    reason = " ".join(fields.get("reason").split())
    if not 0 < len(reason) <= _MAX_REASON:
        message = f"must have 1 to {_MAX_REASON} characters; say who asked to keep the records, and why"
        issues.append(Issue(path="/reason", message=message, code="length"))
    try:
        check_readable(check_printable(reason))
    except ValueError as error:
        issues.append(Issue(path="/reason", message=str(error), code="unreadable"))
    scope, export_id = fields.get("scope"), fields.get("export")
    if scope not in ("account", "export"):
        issues.append(Issue(path="/scope", message="choose what is kept", code="missing"))
    if scope == "export" and not export_id:
        issues.append(Issue(path="/export", message="give the id of the export, such as exp_01", code="missing"))
    if issues:
        raise validation_failed(issues)
    return reason, export_id if scope == "export" else None


def _new_page(visit: Visit, fields: Form, refused: Refused | None) -> Response:
    errors = read_errors(refused)
    if isinstance(refused, NotFound) or (refused is not None and refused.status == 409):
        errors = {"/export": refused.message}
    if fields.get("export") and not fields.get("scope"):
        fields = Form({**fields.values, "scope": ["export"]})
    form = fill_form(_INPUTS, fields, errors)
    return visit.page("console/work/hold_new.html", refused=refused, form=form)


def _name_actors(visit: Visit, holds: Sequence[LegalHold]) -> Mapping[str, str]:
    """Return the names of those who placed and released the holds, by id."""
    ids = {by for each in holds for by in (each.placed_by, each.released_by) if by}
    with visit.runtime.db.read() as session:
        return people.name_actors(session, ids)
