"""The console's wizard of a new partner, the steps of its set-up, and the form that changes its settings."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.api_keys import ADMIN
from pipeline.accounts.channels import ChannelKind
from pipeline.accounts.schemas import PartnerView
from pipeline.core.errors import NotFound, PreconditionFailed, Refused
from pipeline.deliveries.streams import recovery
from pipeline.interfaces.console.partners import channels, partner_input, partner_settings_views
from pipeline.interfaces.pages.input import read_errors
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Form, Visit, Visitor, redirect_to

router = APIRouter(prefix="/console/partners", include_in_schema=False, route_class=ConsoleRoute)

Kind = Annotated[str, Query(max_length=32)]


@router.get("/new")
def show_new_partner(visit: Visitor, kind: Kind = "", channel: Kind = "") -> Response:
    """Show the next step of a new partner: its kind, then its channel, then its settings."""
    visit.caller.require(ADMIN)
    if kind not in partner_settings_views.KIND_TEXTS:
        return visit.page("console/partners/partner_kind.html", kinds=partner_settings_views.KIND_TEXTS)
    found = channels.find_kind(kind, channel)
    if found is None:
        return visit.page(
            "console/partners/partner_channel.html",
            kind=kind,
            left_out=partner_settings_views.describe_left_out(kind),
            channels=[
                (each, partner_settings_views.describe_lack(each, visit.runtime.settings))
                for each in channels.list_kinds(kind)
            ],
        )
    return _new_page(visit, kind, found, Form({}), None)


@router.post("/new")
def create_partner(visit: Visitor, fields: Fields) -> Response:
    """Create the partner as a draft, and show its signing secret once; a second submission creates nothing."""
    visit.caller.require(ADMIN)
    kind = fields.get("kind")
    channel = channels.find_kind(kind, fields.get("channel"))
    if channel is None:
        raise NotFound("the form names no channel of this kind of partner; begin with its kind")
    try:
        new = partner_input.read_new_partner(kind, channel, fields)
        created = partners.create_partner(
            visit.runtime, visit.account_id, new, test_only=visit.caller.test, actor=visit.caller.actor
        )
    except Refused as refused:
        return _new_page(visit, kind, channel, fields, refused)
    return visit.page(
        "console/partners/partner_created.html",
        partner_id=created.id,
        secret=created.secret,
        signs=partner_settings_views.describe_secret(created),
        setup=f"/console/partners/{quote(created.id)}/setup",
    )


@router.get("/{id}/setup")
def show_setup(id: str, visit: Visitor) -> Response:
    """Show the steps until the partner is live: which are done, and the next one."""
    partner = partners.get_partner(visit.runtime, visit.account_id, id)
    return visit.page(
        "console/partners/partner_setup.html",
        partner=partner,
        steps=partner_settings_views.list_setup_steps(partner),
        administers=visit.caller.has_role(ADMIN),
    )


@router.get("/{id}/settings")
def show_settings(id: str, visit: Visitor) -> Response:
    """Show the form that changes the partner, with what a change does to pending messages."""
    visit.caller.require(ADMIN)
    partner = partners.get_partner(visit.runtime, visit.account_id, id)
    return _edit_page(visit, partner, Form(partner_input.fill_fields(partner)), None)


@router.post("/{id}/settings")
def change_partner(id: str, visit: Visitor, fields: Fields) -> Response:
    """Save the changes, unless somebody else changed the partner since the form was opened."""
    visit.caller.require(ADMIN)
    partner = partners.get_partner(visit.runtime, visit.account_id, id)
    try:
        read_at = partner_input.read_instant(fields)
        changes = partner_input.read_changes(partner, fields)
        saved = recovery.update_partner(
            visit.runtime,
            visit.account_id,
            id,
            changes,
            test_only=visit.caller.test,
            actor=visit.caller.actor,
            read_at=read_at,
        )
    except Refused as refused:
        # Somebody else may have changed the partner since it was read above.
        return _edit_page(visit, partners.get_partner(visit.runtime, visit.account_id, id), fields, refused)
    page = "" if saved.state in partner_settings_views.REACHED else "/setup"
    return redirect_to(f"/console/partners/{quote(id)}{page}")


def _new_page(visit: Visit, kind: str, channel: ChannelKind, fields: Form, refused: Refused | None) -> Response:
    errors = read_errors(refused)
    form = partner_input.build_new_form(kind, channel, fields, errors, test_key=visit.caller.test)
    return visit.page("console/partners/partner_new.html", refused=refused, form=form)


def _edit_page(visit: Visit, partner: PartnerView, fields: Form, refused: Refused | None) -> Response:
    form = partner_input.build_edit_form(
        partner,
        fields,
        read_errors(refused),
        test_key=visit.caller.test,
        changed=partner_input.list_changed(partner, fields) if isinstance(refused, PreconditionFailed) else (),
    )
    return visit.page(
        "console/partners/partner_edit.html",
        refused=refused,
        partner_id=partner.id,
        form=form,
        effects=partner_settings_views.describe_change(partner),
        pending=f"/console/deliveries?state=pending&partner={quote(partner.id)}",
    )
