"""The portal's pages of a customs broker's handoffs: list, documents, and a form to answer one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from pipeline.accounts.portal_links import PartnerVisitor
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound, Refused
from pipeline.deliveries import portal
from pipeline.deliveries.portal import PartnerHandoff
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import answer_forms, attachments, broker_answers
from pipeline.deliveries.submissions.answer_forms import AnswerForm
from pipeline.deliveries.submissions.attachments import NewFile
from pipeline.deliveries.submissions.carried_answers import COPIED
from pipeline.exports.audit_trail import Action
from pipeline.exports.schemas.plan import MAX_UNITS
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.pages.form_ids import name_content, new_form_id
from pipeline.interfaces.pages.pages import ConsoleRoute, Form, build_next_link, redirect_to
from pipeline.interfaces.pages.upload import Upload
from pipeline.interfaces.portal import handoff_views
from pipeline.interfaces.portal.handoff_views import HandoffLinks
from pipeline.interfaces.portal.pages import PAGE_SIZE, Holder, PortalAnswer, PortalVisit


def _require_broker(visit: Holder) -> None:
    if visit.load_partner().kind != "customs_broker":
        raise NotFound("only a customs broker has handoffs")


router = APIRouter(
    prefix="/portal/handoffs",
    include_in_schema=False,
    route_class=ConsoleRoute,
    dependencies=[Depends(_require_broker)],
)

FIELD_ROWS: Final = 6
#: The most earlier answers that a form offers to take back.
_CORRECTABLE: Final = 20
#: How many units of a handoff stand on the pages before.
UnitsBefore = Annotated[int, Query(ge=0, le=MAX_UNITS)]


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
        ahead=found.ahead,
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
    return _handoff_page(visit, handoff, after, AnswerForm(), new_form_id(), missed=wanted)


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
def answer_handoff(id: str, visit: Holder, upload: PortalAnswer, after: UnitsBefore = 0) -> Response:
    """Record an answer; a form that is sent twice counts once, one that was changed meanwhile is another answer."""
    runtime, visitor = visit.runtime, visit.visitor
    fields, form = upload.form, parse_form(upload.form)
    handoff = portal.read_handoff(runtime, visitor, id)
    try:
        answer, files = check_answer(handoff, visitor, upload, visitor.actor)
        attachments.attach_files(runtime, files, visitor.actor)
        broker_answers.receive_answer(runtime, id, answer, visitor.actor, by_person=True)
    except NotFound:
        raise
    except Refused as refused:
        return _handoff_page(visit, handoff, after, form, fields.get("form_id"), refusal=refused)
    return redirect_to(f"/portal/handoffs/{quote(id)}")


def parse_form(fields: Form) -> AnswerForm:
    """Return the answer that was typed into the form."""
    rows = [(fields.get(f"place{row}"), fields.get(f"wrong{row}")) for row in range(FIELD_ROWS)]
    return AnswerForm(
        fields.get("status"),
        fields.get("message"),
        fields.get("entryNumber"),
        rows,
        fields.get("package"),
        holder=fields.get("holder"),
        agency=fields.get("agency"),
        kind=fields.get("kind"),
        corrects=fields.get("corrects"),
    )


def check_answer(
    handoff: PartnerHandoff, visitor: PartnerVisitor, upload: Upload, by: str
) -> tuple[AcknowledgementBody, list[NewFile]]:
    """Return the answer of the form, and its files, which are to be attached before it.

    Its id has `by`, who answers, so that the same form cannot answer twice. Raises ValidationFailed with what is wrong.
    """
    files = attachments.check_files(handoff.export_id, visitor.partner_id, upload.named)
    form = replace(parse_form(upload.form), attachments=[each.id for each in files])
    answer_id = name_content(by, upload.form.get("form_id"), repr(form))
    return answer_forms.check_form(form, handoff.list_fields(), answer_id, handoff.list_packages()), files


def describe_handoff(
    handoff: PartnerHandoff,
    links: HandoffLinks,
    after: int,
    form: AnswerForm,
    form_id: str,
    *,
    missed: str = "",
    refusal: Refused | None = None,
) -> dict[str, Any]:
    """Return what the page of one handoff shows: the units after the first `after`, and the form as it was typed."""
    some = handoff.read_units(range(after, after + handoff_views.UNITS_ON_A_PAGE))
    submission = handoff.submission
    answered = {each.status for each in submission.acknowledgements}
    return {
        "refused": refusal,
        "handoff": handoff,
        "shown": handoff_views.show_handoff(handoff, some, after, links),
        "now": utc_now(),
        "form": form,
        "statuses": answer_forms.list_choices(
            submission.submission_status, answered, withdrawing=handoff.withdrawal is not None or handoff.is_reassigned
        ),
        "rare": answer_forms.list_rare_choices(answered),
        "holders": answer_forms.HOLDERS,
        "kinds": answer_forms.HOLD_KINDS,
        "earlier": [each for each in submission.acknowledgements if COPIED not in each.id][: -_CORRECTABLE - 1 : -1],
        "rows": [*form.fields, *[("", "")] * FIELD_ROWS][:FIELD_ROWS],
        "errors": _list_errors(refusal),
        "form_id": form_id,
        "places": list(some.fields),
        "missed": missed,
        "answerable": handoff.message is not None,
        "max_message": answer_forms.MAX_MESSAGE,
    }


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
    page = f"/portal/handoffs/{handoff.submission.id}"
    links = HandoffLinks(page, f"{page}/answer", f"{page}/documents/", f"{page}/bundle")
    described = describe_handoff(handoff, links, after, form, form_id, missed=missed, refusal=refusal)
    return visit.page("portal/handoff.html", 404 if missed else 200, **described)


def _list_errors(refusal: Refused | None) -> Mapping[str, str]:
    """Return what is wrong with each input, by the input's name."""
    issues = [] if refusal is None else (refusal.details or {}).get("issues", [])
    return {issue["path"].removeprefix("/"): issue["message"] for issue in issues}
