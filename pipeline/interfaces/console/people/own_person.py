"""The page of the person who is signed in: sessions, accounts, password and recovery codes."""

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.accounts import credentials, people, sessions, sign_in
from pipeline.core import tenancy
from pipeline.core.errors import Refused
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Visit, Visitor, redirect_to

router = APIRouter(prefix="/console/me", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_own_person(visit: Visitor) -> Response:
    """Show the person's accounts, sessions and ways to sign in."""
    return show_own_page(visit)


@router.post("/account")
def enter_account(visit: Visitor, form: Fields) -> Response:
    """Act on another account of the person from now on."""
    sessions.enter_account(visit.runtime, visit.caller, form.get("account"))
    return redirect_to("/console")


@router.post("/sessions/{id}/end")
def end_session(id: str, visit: Visitor, form: Fields) -> Response:
    """End one of the person's own sessions."""
    sessions.end_session(visit.runtime, visit.caller, id)
    return redirect_to("/console/me")


@router.post("/password")
def change_password(visit: Visitor, form: Fields) -> Response:
    """Replace the password, and end the person's other sessions."""
    try:
        sign_in.change_password(
            visit.runtime,
            visit.caller,
            password=form.get("password"),
            code=form.get("code"),
            new_password=form.get("new_password"),
        )
    except Refused as refused:
        return show_own_page(visit, refused)
    return show_own_page(visit, notice="The password was changed. All your other sessions have ended.")


@router.post("/recovery-codes")
def create_recovery_codes(visit: Visitor, form: Fields) -> Response:
    """Replace the recovery codes, and show the new ones once."""
    try:
        codes = sign_in.create_recovery_codes(
            visit.runtime, visit.caller, password=form.get("password"), code=form.get("code")
        )
    except Refused as refused:
        return show_own_page(visit, refused)
    return visit.page("console/people/recovery_codes.html", codes=codes, next="/console/me")


def show_own_page(visit: Visit, refused: Refused | None = None, notice: str | None = None) -> Response:
    """Return the page of the person who is signed in, with what was refused or done."""
    caller = visit.caller
    with tenancy.account_scope(ALL_ACCOUNTS), visit.runtime.db.read() as session:
        credential = credentials.describe_credential(session, caller.actor)
        accounts = people.list_accounts_of(session, caller.actor)
        found = sessions.list_sessions(session, person_id=caller.actor)
    return visit.page(
        "console/people/me.html",
        refused=refused,
        own=caller.person,
        roles=caller.roles,
        test=caller.test,
        accounts=accounts,
        sessions=found,
        credential=credential,
        notice=notice,
        provider=visit.runtime.settings.oidc_issuer is not None,
    )
