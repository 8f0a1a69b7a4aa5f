"""The console's page of a partner's signing secrets: which are valid, and their rotation."""

from typing import Final
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.accounts import partners, secrets
from pipeline.accounts.api_keys import ADMIN
from pipeline.accounts.secrets import SecretRecord
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.interfaces.pages.input import Input, fill_form, read_errors
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Form, Visit, Visitor

router = APIRouter(prefix="/console/partners", include_in_schema=False, route_class=ConsoleRoute)

_MAX_OVERLAP_HOURS: Final = 168
_DEFAULT_OVERLAP_HOURS: Final = 24


_INPUTS: Final = (
    Input(
        "overlap",
        "Hours that the older secrets stay valid",
        "number",
        str(_DEFAULT_OVERLAP_HOURS),
        f"0 to {_MAX_OVERLAP_HOURS}. With 0, they end at once: do that if one leaked.",
        required=True,
    ),
)


@router.get("/{id}/secret")
def show_secrets(id: str, visit: Visitor) -> Response:
    """Show which secrets of the partner are valid, and the form that rotates the newest."""
    visit.caller.require(ADMIN)
    return _secrets_page(visit, id, Form({}), None)


@router.post("/{id}/secret")
def rotate_secret(id: str, visit: Visitor, fields: Fields) -> Response:
    """Give the partner a new secret and show it; a second submission of the form rotates and shows nothing."""
    visit.caller.require(ADMIN)
    try:
        overlap = _read_number(fields.get("overlap"), _MAX_OVERLAP_HOURS, "/overlap")
        rotated = partners.rotate_secret(
            visit.runtime,
            visit.account_id,
            id,
            overlap,
            test_only=visit.caller.test,
            actor=visit.caller.actor,
            newest=_read_number(fields.get("newest"), 10**6, "/newest"),
        )
    except Refused as refused:
        return _secrets_page(visit, id, fields, refused)
    return visit.page(
        "console/partners/secret_rotated.html",
        partner_id=id,
        link=f"/console/partners/{quote(id)}/secret",
        secret=rotated.secret,
        older=rotated.older,
        secrets=_list_secrets(visit, id),
    )


def _secrets_page(visit: Visit, partner_id: str, fields: Form, refused: Refused | None) -> Response:
    partner = partners.get_partner(visit.runtime, visit.account_id, partner_id)
    shown = _list_secrets(visit, partner_id)
    return visit.page(
        "console/partners/partner_secret.html",
        refused=refused,
        partner_id=partner.id,
        name=partner.name,
        link=f"/console/partners/{quote(partner.id)}",
        secrets=shown,
        changeable=partner.test or not visit.caller.test,
        newest=max((each.number for each in shown), default=0),
        form=fill_form(_INPUTS, fields, read_errors(refused)),
    )


def _list_secrets(visit: Visit, partner_id: str) -> list[SecretRecord]:
    with visit.runtime.db.read() as session:
        return secrets.list_secrets(session, visit.account_id, partner_id)


def _read_number(text: str, most: int, field: str) -> int:
    """Return a whole number of a form. Raises ValidationFailed."""
    if text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= most:
        return int(text)
    raise ValidationFailed(f"must be a whole number from 0 to {most}", field=field)
