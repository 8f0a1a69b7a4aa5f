"""The console's pages of a customs broker's own import file: its columns, a preview, and the form that changes it."""

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.api_keys import ADMIN
from pipeline.accounts.partner_documents import choose_own_file
from pipeline.accounts.schemas import PartnerChanges, PartnerView
from pipeline.core.errors import NotFound, PreconditionFailed, Refused
from pipeline.deliveries.streams import recovery
from pipeline.documents.schemas.profile import BrokerProfile, OwnFile
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.interfaces.console.partners import broker_profile_views, partner_input
from pipeline.interfaces.console.partners.broker_profile_views import ProfilePreview
from pipeline.interfaces.pages.input import read_errors
from pipeline.interfaces.pages.pages import ConsoleRoute, Form, Visit, Visitor, limit_form, redirect_to
from pipeline.workflow import examples, queries

router = APIRouter(prefix="/console/partners", include_in_schema=False, route_class=ConsoleRoute)

#: A profile has up to 200 columns, each with its words.
_LARGE_FORM: Final = 512 * 1024
LargeFields = Annotated[Form, Depends(limit_form(_LARGE_FORM, ADMIN))]

#: The most exports to choose from.
_MOST_EXPORTS: Final = 20

Source = Annotated[str, Query(max_length=64)]


@router.get("/{id}/profile")
def show_profile(id: str, visit: Visitor, source: Source = broker_profile_views.EXAMPLE) -> Response:
    """Show the broker's profile, and its file for an example plan or for one of the account's exports."""
    partner = _load_broker(visit, id)
    profile = partner.own_file
    return visit.page(
        "console/partners/broker_profile.html",
        partner_id=partner.id,
        name=partner.name,
        link=f"/console/partners/{quote(partner.id)}",
        profile=profile,
        form=None if profile is None else broker_profile_views.describe_form(profile),
        columns=profile.columns if isinstance(profile, BrokerProfile) else (),
        preview=None if profile is None else _build_preview(visit, profile, source),
        sources=_list_sources(visit, source),
        administers=visit.caller.has_role(ADMIN),
    )


@router.get("/{id}/profile/edit")
def show_profile_form(id: str, visit: Visitor) -> Response:
    """Show the form of the profile; without one, a form with its first columns."""
    visit.caller.require(ADMIN)
    partner = _load_broker(visit, id)
    return _edit_page(visit, partner, Form(broker_profile_views.fill_fields(partner.own_file)), None)


@router.post("/{id}/profile/edit")
def change_profile(id: str, visit: Visitor, fields: LargeFields) -> Response:
    """Save, remove or preview the profile, or show more rows, as the button says; a preview saves nothing."""
    partner = _load_broker(visit, id)
    act = fields.get("act")
    if act == "rows":
        return _edit_page(visit, partner, fields, None, more=True)
    try:
        if act == "remove":
            changes = PartnerChanges(profile=None)
        else:
            changes = broker_profile_views.read_profile(fields)
            own_file = choose_own_file(changes)
            if act == "preview" and own_file is not None:
                preview = _build_preview(visit, own_file, fields.get("source", broker_profile_views.EXAMPLE))
                return _edit_page(visit, partner, fields, None, preview=preview)
        recovery.update_partner(
            visit.runtime,
            visit.account_id,
            id,
            changes,
            test_only=visit.caller.test,
            read_at=partner_input.read_instant(fields),
            actor=visit.caller.actor,
        )
    except Refused as refused:
        return _edit_page(visit, _load_broker(visit, id), fields, refused)
    return redirect_to(f"/console/partners/{quote(id)}/profile")


def _load_broker(visit: Visit, partner_id: str) -> PartnerView:
    partner = partners.get_partner(visit.runtime, visit.account_id, partner_id)
    if partner.kind != "customs_broker":
        raise NotFound(f"{partner_id} is a {partner.kind.replace('_', ' ')}; only a customs broker has an import file")
    return partner


def _build_preview(visit: Visit, profile: OwnFile, source: str) -> ProfilePreview:
    """Return the preview, with the reason in its place if the chosen export cannot be shown."""
    try:
        if source == broker_profile_views.EXAMPLE:
            invoice = examples.build_example_unit(visit.account_id, visit.runtime.clock().date()).invoice
        else:
            invoice = examples.load_invoice(visit.runtime, visit.account_id, source)
        return broker_profile_views.build_preview(profile, invoice, source)
    except Refused as refused:
        return ProfilePreview(source, refusal=refused.message)


def _list_sources(visit: Visit, chosen: str) -> Sequence[tuple[str, str, bool]]:
    with visit.runtime.db.read() as session:
        page = queries.list_exports(session, visit.account_id, ExportFilter(), cursor=None, limit=_MOST_EXPORTS)
    newest = [(each.export_id, f"export {each.batch_id}, revision {each.revision}") for each in page.items]
    sources = [(broker_profile_views.EXAMPLE, "an example plan"), *newest]
    if chosen not in dict(sources):
        sources.append((chosen, chosen))
    return [(value, text, value == chosen) for value, text in sources]


def _edit_page(
    visit: Visit,
    partner: PartnerView,
    fields: Form,
    refused: Refused | None,
    *,
    preview: ProfilePreview | None = None,
    more: bool = False,
) -> Response:
    errors = read_errors(refused)
    # After a refusal because of another person's change, the form goes on with the version that it shows now.
    keep = not isinstance(refused, PreconditionFailed) and fields.get("read_at")
    return visit.page(
        "console/partners/broker_profile_edit.html",
        refused=refused,
        partner_id=partner.id,
        link=f"/console/partners/{quote(partner.id)}/profile",
        exists=partner.own_file is not None,
        form=broker_profile_views.build_form(fields, errors, more=more),
        read_at=keep or partner.updated_at.isoformat(),
        preview=preview,
        sources=_list_sources(visit, fields.get("source", broker_profile_views.EXAMPLE)),
        names=broker_profile_views.FIELD_NAMES,
    )
