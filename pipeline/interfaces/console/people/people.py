"""The pages of an account's people: who they are, what they may do, and their sessions."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.accounts import lists, people, sessions
from pipeline.accounts.api_keys import ADMIN, EXECUTE, OPERATE, READ
from pipeline.accounts.people import Invitation
from pipeline.core.errors import Refused
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

#: What each role allows a person.
ROLE_TEXTS: Final = {
    READ: "sees everything of the account",
    OPERATE: "also retries, cancels and resends",
    EXECUTE: "also executes plans",
    ADMIN: "does all of this, and manages partners, keys and people",
}

router = APIRouter(prefix="/console/people", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_people(visit: Visitor, cursor: Cursor = None) -> Response:
    """Show the account's people and sessions."""
    visit.caller.require(ADMIN)
    return _people_page(visit, cursor=cursor)


@router.post("")
def invite_person(visit: Visitor, form: Fields) -> Response:
    """Invite a person, and show the one-time link once."""
    caller = visit.caller
    caller.require(ADMIN)
    try:
        invited = people.invite_person(
            visit.runtime,
            visit.account_id,
            caller.actor,
            email=form.get("email"),
            name=form.get("name"),
            roles=form.get_all("role"),
            mode="test" if caller.test or form.get("test") else "live",
            test_only=caller.test,
        )
    except Refused as refused:
        return _people_page(visit, form, refused)
    return _link_page(visit, invited)


@router.post("/sessions/{id}/end")
def end_session(id: str, visit: Visitor, form: Fields) -> Response:
    """End any session on the account."""
    visit.caller.require(ADMIN)
    sessions.end_session(visit.runtime, visit.caller, id, of_account=True)
    return redirect_to("/console/people")


@router.get("/{id}")
def show_person(id: str, visit: Visitor) -> Response:
    """Show one person of the account: roles, a new link, and removal."""
    visit.caller.require(ADMIN)
    return _person_page(visit, id)


@router.post("/{id}/roles")
def change_roles(id: str, visit: Visitor, form: Fields) -> Response:
    """Give the person other roles."""
    visit.caller.require(ADMIN)
    try:
        people.change_roles(visit.runtime, visit.caller, id, form.get_all("role"))
    except Refused as refused:
        return _person_page(visit, id, refused)
    return redirect_to("/console/people")


@router.post("/{id}/link")
def create_link(id: str, visit: Visitor, form: Fields) -> Response:
    """Show a new one-time link for a person who lost the first one, the password or the app."""
    visit.caller.require(ADMIN)
    try:
        invited = people.create_reset_link(
            visit.runtime, visit.account_id, visit.caller.actor, id, of_operator=False, test_only=visit.caller.test
        )
    except Refused as refused:
        return _person_page(visit, id, refused)
    return _link_page(visit, invited)


@router.post("/{id}/remove")
def remove_person(id: str, visit: Visitor, form: Fields) -> Response:
    """Remove the person from the account; their sessions on it end now."""
    visit.caller.require(ADMIN)
    try:
        people.remove_person(visit.runtime, visit.caller, id)
    except Refused as refused:
        return _person_page(visit, id, refused)
    return redirect_to("/console/people")


def _people_page(
    visit: Visit, form: Form | None = None, refused: Refused | None = None, *, cursor: str | None = None
) -> Response:
    with visit.runtime.db.read() as session:
        members = lists.list_member_page(session, visit.account_id, after=cursor, limit=PAGE_SIZE)
        found = sessions.list_sessions(session, account_id=visit.account_id, test_only=visit.caller.test)
    return visit.page(
        "console/people/people.html",
        refused=refused,
        people=members.items,
        next_link=build_next_link("/console/people", members.next_cursor),
        sessions=found,
        own_session=visit.caller.person.session_id if visit.caller.person else "",
        form=form or Form({"role": [READ]}),
        roles=ROLE_TEXTS,
        test_only=visit.caller.test,
    )


def _person_page(visit: Visit, person_id: str, refused: Refused | None = None) -> Response:
    with visit.runtime.db.read() as session:
        member = people.get_member(session, visit.account_id, person_id)
    return visit.page("console/people/person.html", refused=refused, member=member, roles=ROLE_TEXTS)


def _link_page(visit: Visit, invited: Invitation) -> Response:
    address = f"{visit.runtime.settings.public_url}/console/links/{invited.token}"
    return visit.page("console/people/person_link.html", email=invited.email, link=address)
