"""The console's pages of API keys: list, create, rotate and revoke. An administrator uses them."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import api_keys, lists
from pipeline.accounts.api_keys import ADMIN, ApiKeyRecord, CreatedKey
from pipeline.core.clock import utc_now
from pipeline.core.errors import InsufficientRole, Refused
from pipeline.interfaces.console.people import key_views
from pipeline.interfaces.pages.input import fill_form, read_errors
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

router = APIRouter(prefix="/console/keys", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_keys(visit: Visitor, ended: Annotated[bool, Query()] = False, cursor: Cursor = None) -> Response:  # noqa: FBT002 - a filter, on or off
    """Show the account's keys, newest first; with `ended` those that expired or were revoked."""
    visit.caller.require(ADMIN)
    now = utc_now()
    with visit.runtime.db.read() as session:
        found = lists.list_key_page(session, visit.account_id, ended=ended, now=now, after=cursor, limit=PAGE_SIZE)
    return visit.page(
        "console/people/keys.html",
        keys=[key_views.show_key(each, visit.caller, now) for each in found.items],
        ended=ended,
        next_link=build_next_link("/console/keys", found.next_cursor, ended=ended),
    )


@router.get("/new")
def show_new_key(visit: Visitor) -> Response:
    """Show the form that creates a key."""
    visit.caller.require(ADMIN)
    return _new_page(visit, Form({"id": [api_keys.generate_key_id()], "days": [str(key_views.DEFAULT_DAYS)]}), None)


@router.post("")
def create_key(visit: Visitor, fields: Fields) -> Response:
    """Create a key and show it; a second submission of the form creates nothing and shows nothing."""
    visit.caller.require(ADMIN)
    try:
        new = key_views.read_new_key(fields, utc_now())
        _check_mode(visit, new.mode)
        known = {each.id for each in lists.list_partner_names(visit.runtime, visit.account_id)}
        key_views.check_partner_roles(new.roles, known)
        created = api_keys.create_key(
            visit.runtime,
            visit.account_id,
            new.name,
            mode=new.mode,
            roles=new.roles,
            expires_at=new.expires_at,
            key_id=new.key_id,
            actor=visit.caller.actor,
        )
    except Refused as refused:
        return _new_page(visit, fields, refused)
    return _created_page(visit, created, None)


@router.get("/{id}/rotate")
def show_rotation(id: str, visit: Visitor) -> Response:
    """Say what a rotation does, and ask for the overlap."""
    visit.caller.require(ADMIN)
    return _rotation_page(visit, id, Form({"id": [api_keys.generate_key_id()]}), None)


@router.post("/{id}/rotate")
def rotate_key(id: str, visit: Visitor, fields: Fields) -> Response:
    """Create a key with the same roles, show it, and expire the old one when the overlap is over."""
    visit.caller.require(ADMIN)
    old = _load_key(visit, id)
    try:
        rotation = key_views.read_rotation(fields, utc_now())
        created = api_keys.rotate_key(
            visit.runtime,
            visit.account_id,
            id,
            overlap=timedelta(hours=rotation.overlap_hours),
            expires_at=rotation.expires_at,
            new_id=rotation.key_id,
            actor=visit.caller.actor,
        )
    except Refused as refused:
        return _rotation_page(visit, id, fields, refused)
    return _created_page(visit, created, old)


@router.get("/{id}/revoke")
def show_revocation(id: str, visit: Visitor) -> Response:
    """Say what a revocation does, and ask whether to do it."""
    visit.caller.require(ADMIN)
    key = _load_key(visit, id)
    others = [each for each in api_keys.list_keys(visit.runtime, visit.account_id) if each.id != id]
    now = utc_now()
    return visit.page(
        "console/people/key_revoke.html",
        key=key_views.show_key(key, visit.caller, now),
        effects=key_views.describe_revocation(key, others, now),
    )


@router.post("/{id}/revoke")
def revoke_key(id: str, visit: Visitor, fields: Fields) -> Response:
    """Revoke the key now, and show the list."""
    visit.caller.require(ADMIN)
    _load_key(visit, id)
    api_keys.revoke_key(visit.runtime, visit.account_id, id, actor=visit.caller.actor)
    return redirect_to("/console/keys")


def _load_key(visit: Visit, key_id: str) -> ApiKeyRecord:
    key = api_keys.get_key(visit.runtime, visit.account_id, key_id)
    _check_mode(visit, key.mode)
    return key


def _check_mode(visit: Visit, mode: api_keys.Mode) -> None:
    """Raise InsufficientRole if a test key would change or create a live key."""
    if visit.caller.test and mode == "live":
        raise InsufficientRole(
            "test mode cannot create or change live keys; ask an administrator who may act on live exports",
            field="/mode",
        )


def _new_page(visit: Visit, fields: Form, refused: Refused | None) -> Response:
    known = lists.list_partner_names(visit.runtime, visit.account_id)
    form = fill_form(key_views.list_inputs(known), fields, read_errors(refused))
    return visit.page("console/people/key_new.html", refused=refused, form=form, new_id=fields.get("id"))


def _rotation_page(visit: Visit, key_id: str, fields: Form, refused: Refused | None) -> Response:
    key = _load_key(visit, key_id)
    form = fill_form(key_views.ROTATION, fields, read_errors(refused))
    return visit.page("console/people/key_rotate.html", refused=refused, key=key, form=form, new_id=fields.get("id"))


def _created_page(visit: Visit, created: CreatedKey, old: ApiKeyRecord | None) -> Response:
    replaced = None if old is None else api_keys.get_key(visit.runtime, visit.account_id, old.id)
    key = api_keys.get_key(visit.runtime, visit.account_id, created.id)
    now = utc_now()
    return visit.page(
        "console/people/key_created.html",
        bearer=created.bearer,
        key=key_views.show_key(key, visit.caller, now),
        replaced=None if replaced is None else key_views.show_key(replaced, visit.caller, now),
    )
