"""The console's page of printed pages: languages and logo of new exports, with an example of what they print."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from pipeline.accounts import print_settings
from pipeline.accounts.api_keys import ADMIN, READ
from pipeline.accounts.print_settings import ENGLISH, FRENCH
from pipeline.accounts.service import explain_live
from pipeline.core.errors import InsufficientRole, NotFound, Refused, ValidationFailed
from pipeline.documents.pdf.logos import MAX_BYTES
from pipeline.interfaces.pages.input import read_errors
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Visit, Visitor, redirect_to
from pipeline.interfaces.pages.upload import Upload, limit_upload
from pipeline.workflow.pro_forma import draw_print_example

router = APIRouter(prefix="/console/print-settings", include_in_schema=False, route_class=ConsoleRoute)

_HERE = "/console/print-settings"
#: One byte more: a picture that is too large is refused as such, and not as a form.
LogoForm = Annotated[Upload, Depends(limit_upload(MAX_BYTES + 64 * 1024, ADMIN))]


@router.get("")
def show_print_settings(visit: Visitor) -> Response:
    """Show what new exports print; an administrator of live mode may change it."""
    return _page(visit)


@router.post("")
def change_languages(visit: Visitor, fields: Fields) -> Response:
    """Let new exports print French beside English, or English alone; then show the page."""
    _check_may_change(visit)
    languages = [ENGLISH, FRENCH] if fields.get("french") else [ENGLISH]
    print_settings.set_languages(visit.runtime, visit.account_id, languages, changed_by=visit.caller.actor)
    return redirect_to(_HERE)


@router.post("/logo")
def upload_logo(visit: Visitor, upload: LogoForm) -> Response:
    """Let new exports print the picture of the form; then show the page."""
    _check_may_change(visit)
    try:
        picture = upload.files.get("logo")
        if picture is None:
            raise ValidationFailed("the form has no picture; choose a PNG or a JPEG", field="/logo")
        print_settings.set_logo(visit.runtime, visit.account_id, picture, changed_by=visit.caller.actor)
    except Refused as refused:
        return _page(visit, refused)
    return redirect_to(_HERE)


@router.post("/logo/remove")
def remove_logo(visit: Visitor, fields: Fields) -> Response:
    """Let new exports print no logo; then show the page."""
    _check_may_change(visit)
    print_settings.remove_logo(visit.runtime, visit.account_id, changed_by=visit.caller.actor)
    return redirect_to(_HERE)


@router.get("/logo.png")
def show_logo(visit: Visitor) -> Response:
    """Return the logo as it is printed. Raises NotFound without one."""
    visit.caller.require(READ)
    with visit.runtime.db.read() as session:
        logo = print_settings.find_logo(session, visit.account_id)
    if logo is None:
        raise NotFound("the account has no logo; upload one on the page of printed pages")
    return _picture(logo.picture)


@router.get("/example.png")
def show_example(visit: Visitor) -> Response:
    """Return the first page of an example invoice with the settings. The answer is text with the reason if it fails."""
    visit.caller.require(READ)
    try:
        return _picture(draw_print_example(visit.runtime, visit.account_id))
    except Refused as refused:
        return Response(refused.message, refused.status, media_type="text/plain; charset=utf-8")


def _picture(png: bytes) -> Response:
    return Response(png, headers={"Cache-Control": "no-store"}, media_type="image/png")


def _check_may_change(visit: Visit) -> None:
    visit.caller.require(ADMIN)
    if visit.caller.test:
        raise InsufficientRole(explain_live("print settings"))


def _page(visit: Visit, refused: Refused | None = None) -> Response:
    visit.caller.require(READ)
    with visit.runtime.db.read() as session:
        settings = print_settings.find_print_settings(session, visit.account_id)
        logo = print_settings.find_logo(session, visit.account_id)
    return visit.page(
        "console/people/print_settings.html",
        refused=refused,
        french=settings.french,
        logo=logo,
        why_not=visit.explain_unchangeable("they"),
        error=" ".join(read_errors(refused).values()),
    )
