"""The portal's pages of a customs broker's handoffs: list, documents, and a form to answer one."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound, Refused, ValidationFailed
from pipeline.deliveries import portal
from pipeline.deliveries.portal import PartnerHandoff
from pipeline.deliveries.submissions import answer_forms, broker_answers
from pipeline.deliveries.submissions.answer_forms import AnswerForm
from pipeline.exports.audit_trail import Action
from pipeline.exports.schemas.plan import MAX_UNITS
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.pages.pages import ConsoleRoute, Form, build_next_link, redirect_to
from pipeline.interfaces.portal import handoff_views
from pipeline.interfaces.portal.pages import PAGE_SIZE, Holder, PortalFields, PortalVisit


def _require_broker(visit: Holder) -> None:
    if visit.load_partner().kind != "customs_broker":
        raise NotFound("only a customs broker has handoffs")


router = APIRouter(
    prefix="/portal/handoffs",
    include_in_schema=False,
    route_class=ConsoleRoute,
    dependencies=[Depends(_require_broker)],
)

#: answer -> its words on the form
ANSWERS: Final = {
    "received": "Received; our answer follows",
    "accepted": "We accept it and will file",
    "query": "We have a question",
    "rejected": "We reject it: something has to be corrected",
    "filed": "The entry is filed",
    "held": "Customs holds the goods",
    "released": "Customs released the goods",
}
FIELD_ROWS: Final = 6
#: How many units of a handoff stand on the pages before.
UnitsBefore = Annotated[int, Query(ge=0, le=MAX_UNITS)]

_FORM_ID: Final = re.compile(r"[0-9a-f]{32}")


@router.get("")
def show_handoffs(
    visit: Holder,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
    every: Annotated[bool, Query(alias="all")] = False,  # noqa: FBT002 - a parameter of the address
) -> Response:
    """Show the handoffs that the customs broker must answer, the earliest deadline first; or all, the last changed first."""
    now = utc_now()
    found = portal.list_handoffs(visit.runtime, visit.visitor, after=cursor, limit=PAGE_SIZE, due=not every)
    return visit.page(
        "portal/handoffs.html",
        handoffs=found.items,
        now=now,
        filters=handoff_views.build_due_links(due=not every),
        due=not every,
        next_link=build_next_link("/portal/handoffs", found.next_cursor, all=every),
    )


@router.get("/{id}")
def show_handoff(
    id: str, visit: Holder, after: UnitsBefore = 0, find: Annotated[str, Query(max_length=128)] = ""
) -> Response:
    """Show one handoff: statuses and answers so far, the units after the first `after`, and a form to answer it.

    With `find`, redirect to the unit with this reference, package number or invoice number.
    """
    handoff = portal.read_handoff(visit.runtime, visit.visitor, id)
    wanted = find.strip()
    if wanted and (place := handoff.find_unit(wanted)) is not None:
        return redirect_to(f"/portal/handoffs/{quote(id)}?after={place}")
    return _handoff_page(visit, handoff, after, AnswerForm(), _new_form_id(), missed=wanted)


@router.get("/{id}/documents/{artifact}")
def download_document(id: str, artifact: str, visit: Holder) -> Response:
    """Return a document of one handoff."""
    link, body = portal.read_document(visit.runtime, visit.visitor, id, artifact)
    visit.record(Action.DOCUMENT_DOWNLOADED, artifact)
    headers = {**download_headers(link.filename), "Cache-Control": "no-store"}
    return Response(body, headers=headers, media_type=link.media_type)


@router.get("/{id}/bundle")
def download_bundle(id: str, visit: Holder) -> Response:
    """Return the message and all documents of one handoff as a zip file."""
    batch_id, parts = portal.pack_documents(visit.runtime, visit.visitor, id)
    visit.record(Action.DOCUMENT_DOWNLOADED, id)
    headers = {**download_headers(f"{batch_id}.zip"), "Cache-Control": "no-store"}
    return StreamingResponse(parts, headers=headers, media_type="application/zip")


@router.post("/{id}/answer")
def answer_handoff(id: str, visit: Holder, fields: PortalFields, after: UnitsBefore = 0) -> Response:
    """Record an answer; a form that is sent twice counts once, one that was changed meanwhile is another answer."""
    runtime, visitor = visit.runtime, visit.visitor
    form = _parse_form(fields)
    form_id = fields.get("form_id")
    handoff = portal.read_handoff(runtime, visitor, id)
    try:
        if not _FORM_ID.fullmatch(form_id):
            raise ValidationFailed("the form is incomplete; load the page again", field="/form_id")
        answer_id = f"{visitor.actor}:{form_id}:{hashlib.sha256(repr(form).encode()).hexdigest()[:16]}"
        answer = answer_forms.check_form(form, handoff.list_fields(), ANSWERS, answer_id, handoff.list_packages())
        broker_answers.receive_answer(runtime, id, answer, visitor.actor, by_person=True)
    except NotFound:
        raise
    except Refused as refused:
        return _handoff_page(visit, handoff, after, form, form_id, refusal=refused)
    return redirect_to(f"/portal/handoffs/{quote(id)}")


def _parse_form(fields: Form) -> AnswerForm:
    rows = [(fields.get(f"place{row}"), fields.get(f"wrong{row}")) for row in range(FIELD_ROWS)]
    return AnswerForm(
        fields.get("status"), fields.get("message"), fields.get("entryNumber"), rows, fields.get("package")
    )


def _handoff_page(
    visit: PortalVisit,
    handoff: PartnerHandoff,
    after: int,
    form: AnswerForm,
    form_id: str,
    *,
    missed: str = "",
    refusal: Refused | None = None,
) -> Response:
    shown = range(after, after + handoff_views.UNITS_ON_A_PAGE)
    some = handoff.read_units(shown)
    return visit.page(
        "portal/handoff.html",
        404 if missed else 200,
        refused=refusal,
        handoff=handoff,
        shown=handoff_views.show_handoff(handoff, some, after),
        now=utc_now(),
        form=form,
        statuses=ANSWERS,
        rows=[*form.fields, *[("", "")] * FIELD_ROWS][:FIELD_ROWS],
        errors=_list_errors(refusal),
        form_id=form_id,
        places=list(some.fields),
        missed=missed,
        answerable=handoff.message is not None,
        max_message=answer_forms.MAX_MESSAGE,
    )


def _list_errors(refusal: Refused | None) -> Mapping[str, str]:
    """Return what is wrong with each input, by the input's name."""
    issues = [] if refusal is None else (refusal.details or {}).get("issues", [])
    return {issue["path"].removeprefix("/"): issue["message"] for issue in issues}


def _new_form_id() -> str:
    return secrets.token_hex(16)
