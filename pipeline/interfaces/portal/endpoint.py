"""The portal's pages of the partner's endpoint: its connection test, its signing secrets, and checks of a signature."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from pipeline.accounts import partners, secrets
from pipeline.accounts.secrets import Rotation
from pipeline.core.clock import utc_now
from pipeline.core.errors import InvalidState, Refused, ValidationFailed
from pipeline.deliveries import connection_tests, portal
from pipeline.deliveries.streams import circuit_breaker
from pipeline.deliveries.submissions import signature_checks
from pipeline.interfaces.pages.pages import ConsoleRoute, Form, redirect_to
from pipeline.interfaces.portal import views
from pipeline.interfaces.portal.pages import Holder, PortalFields, PortalVisit, limit_portal_form

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=ConsoleRoute)

#: A handoff of 500 lines fits.
_MAX_PASTED_BYTES: Final = 4 * 1024 * 1024
PastedMessage = Annotated[Form, Depends(limit_portal_form(_MAX_PASTED_BYTES))]

_MAX_OVERLAP_HOURS: Final = 168


@router.get("/endpoint")
def show_endpoint(visit: Holder) -> Response:
    """Show each endpoint with the stages of its last test; for a queue, how to bind it."""
    return _endpoint_page(visit)


@router.post("/endpoint/test")
def test_endpoint(visit: Holder, form: PortalFields) -> Response:
    """Test the partner's endpoints in stages."""
    visitor = visit.visitor
    try:
        if not views.can_test(visit.load_partner()):
            raise InvalidState("you have no endpoint of your own to test; a queue is bound by yourself")
        connection_tests.run_connection_test(
            visit.runtime, visitor.account_id, visitor.partner_id, tested_by=visitor.actor
        )
    except Refused as refused:
        return _endpoint_page(visit, refusal=refused)
    return redirect_to("/portal/endpoint")


@router.get("/secret")
def show_secret(visit: Holder) -> Response:
    """Show since when each signing secret is valid, and until when; not the secrets."""
    return _secret_page(visit)


@router.post("/secret/rotate")
def rotate_secret(visit: Holder, form: PortalFields) -> Response:
    """Give the partner a new signing secret; only this page shows it. The older ones stay valid during the overlap."""
    visitor, typed = visit.visitor, form.get("overlap")
    try:
        hours = _parse_hours(typed)
        newest = _parse_number(form.get("newest"))
        rotated = partners.rotate_secret(
            visit.runtime, visitor.account_id, visitor.partner_id, hours, newest=newest, actor=visitor.actor
        )
    except Refused as refused:
        return _secret_page(visit, refusal=refused, overlap=typed)
    return _secret_page(visit, rotated=rotated)


@router.get("/verify")
def show_verification(visit: Holder) -> Response:
    """Show the form into which the headers and the body of a signed message are pasted."""
    return visit.page("portal/verify.html", headers="", body="", checks=[], verdict="")


@router.post("/verify")
def verify_message(visit: Holder, form: PastedMessage) -> Response:
    """Say whether a pasted message is signed by one of the partner's secrets, and if not, exactly why."""
    runtime, visitor = visit.runtime, visit.visitor
    text, body = form.get("headers"), form.get("body")
    headers = signature_checks.parse_headers(text)
    with runtime.db.read() as reading:
        known = signature_checks.load_known_secrets(reading, runtime.settings, visitor.account_id, visitor.partner_id)
    sent = portal.find_message(runtime, visitor, headers.get("webhook-id", ""))
    checks = [*signature_checks.check_message(headers, body, known, sent, utc_now())]
    return visit.page(
        "portal/verify.html", headers=text, body=body, checks=checks, verdict=views.describe_verdict(checks)
    )


def _parse_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else -1


def _parse_hours(text: str) -> int:
    hours = _parse_number(text)
    if not 0 <= hours <= _MAX_OVERLAP_HOURS:
        raise ValidationFailed(f"the overlap must be a number of hours from 0 to {_MAX_OVERLAP_HOURS}", field="overlap")
    return hours


def _endpoint_page(visit: PortalVisit, *, refusal: Refused | None = None) -> Response:
    partner, visitor = visit.load_partner(), visit.visitor
    with visit.runtime.db.read() as reading:
        breakers = circuit_breaker.load_breaker_states(reading, visitor.account_id, visitor.partner_id)
    return visit.page(
        "portal/endpoint.html",
        refused=refusal,
        partner=views.hide_findings(partner),
        breakers=breakers,
        testable=views.can_test(partner),
    )


def _secret_page(
    visit: PortalVisit, *, rotated: Rotation | None = None, refusal: Refused | None = None, overlap: str = "24"
) -> Response:
    with visit.runtime.db.read() as reading:
        records = secrets.list_secrets(reading, visit.visitor.account_id, visit.visitor.partner_id)
    values: dict[str, Any] = {
        "secrets": records,
        "newest": records[0].number if records else 0,
        "secret": None if rotated is None else rotated.secret,
        "older": [] if rotated is None else rotated.older,
        "overlap": overlap,
    }
    return visit.page("portal/secret.html", refused=refusal, **values)
