"""The page behind the link in an e-mail: one handoff and a form to answer it, without account or script."""

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from pipeline.accounts.portal_links import PartnerVisitor
from pipeline.core import tenancy
from pipeline.core.errors import InvalidState, NotFound, PayloadTooLarge, Purged, Refused
from pipeline.core.runtime import Runtime
from pipeline.core.templating import render
from pipeline.deliveries import portal
from pipeline.deliveries.portal import PartnerHandoff
from pipeline.deliveries.submissions import attachments, broker_answers
from pipeline.deliveries.submissions.answer_forms import AnswerForm
from pipeline.deliveries.submissions.attachments import MAX_BYTES
from pipeline.deliveries.submissions.reply_links import ReplyLink, open_reply_link, parse_reply_link
from pipeline.exports.states import ExportState
from pipeline.interfaces.api.dependencies import ApiKeyCache, RuntimeDep, retry_after_header
from pipeline.interfaces.pages.form_ids import new_form_id
from pipeline.interfaces.pages.pages import read_fields
from pipeline.interfaces.pages.upload import Upload, read_upload
from pipeline.interfaces.portal.handoff_views import HandoffLinks
from pipeline.interfaces.portal.handoffs import UnitsBefore, check_answer, describe_handoff, parse_form

router = APIRouter(prefix="/answers", include_in_schema=False)

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}

#: Maximum requests a minute for one link: a person and the scanners of a mail program need a few.
REQUESTS_PER_MINUTE: Final = 60

MAX_FORM_BYTES: Final = 16 * 1024


@router.get("/{token}")
def show_form(
    token: str,
    request: Request,
    runtime: RuntimeDep,
    after: UnitsBefore = 0,
    find: Annotated[str, Query(max_length=128)] = "",
) -> Response:
    """Show the handoff, its units after the first `after`, and its form; viewing changes nothing.

    With `find`, redirect to the unit with this reference, package number or invoice number.
    """
    opened = _open_link(request, runtime, token)
    if isinstance(opened, Response):
        return opened
    handoff, wanted = opened[-1], find.strip()
    if wanted and (place := handoff.find_unit(wanted)) is not None:
        return RedirectResponse(f"./{token}?after={place}", 303, HEADERS)
    return _form_page(token, handoff, after, AnswerForm(), new_form_id(), missed=wanted)


@router.post("/{token}")
async def submit_reply(token: str, request: Request, runtime: RuntimeDep, after: UnitsBefore = 0) -> Response:
    """Record the answer; a form that is sent twice counts once."""
    opened = await run_in_threadpool(_open_link, request, runtime, token)
    if isinstance(opened, Response):
        return opened
    try:
        upload = await read_upload(request, MAX_BYTES, None, lambda plain: read_fields(plain, MAX_FORM_BYTES))
    except PayloadTooLarge:
        return _message_page(
            "The answer is too large",
            "Its text or its files are too large. Go back, shorten them, and send the answer again.",
            413,
        )
    return await run_in_threadpool(_record_reply, runtime, *opened, upload, after)


def _record_reply(
    runtime: Runtime, link: ReplyLink, visitor: PartnerVisitor, handoff: PartnerHandoff, upload: Upload, after: int
) -> Response:
    form, form_id = parse_form(upload.form), upload.form.get("form_id")
    if handoff.state is ExportState.CANCELLED:
        return _form_page(link.token, handoff, after, form, form_id, status=409)
    try:
        answer, files = check_answer(handoff, visitor, upload, f"link:{link.notification_id}")
        with tenancy.account_scope(visitor.account_id):
            attachments.attach_files(runtime, files, f"partner:{visitor.partner_id}")
            broker_answers.receive_answer(runtime, handoff.submission.id, answer, f"partner:{visitor.partner_id}")
    except Purged:
        return _purged_page()
    except Refused as refused:
        return _form_page(link.token, handoff, after, form, form_id, refusal=refused, status=refused.status)
    return RedirectResponse(f"./{link.token}", 303, HEADERS)


def _open_link(
    request: Request, runtime: Runtime, token: str
) -> tuple[ReplyLink, PartnerVisitor, PartnerHandoff] | Response:
    """Return what the token leads to, or the page that says why that is nothing."""
    try:
        link = parse_reply_link(runtime.settings, token)
        links: ApiKeyCache = request.app.state.links
        _, wait = links.take_token(link.notification_id)
        if wait:
            return _message_page(
                "Too many requests", "This page was requested too often. Wait a minute.", 429, retry_after_header(wait)
            )
        visitor, submission_id = open_reply_link(runtime, link)
        with tenancy.account_scope(visitor.account_id):
            handoff = portal.read_handoff(runtime, visitor, submission_id)
    except NotFound:
        return _message_page(
            "This link does not work",
            "This link is not valid. Copy the whole link from the e-mail: a mail program may have split it.",
            404,
        )
    except InvalidState:
        return _message_page(
            "This link was revoked",
            "You can no longer answer by this link. Answer the sender's e-mail instead, or ask the sender to send the handoff"
            " again.",
            410,
        )
    return _purged_page() if handoff.message is None else (link, visitor, handoff)


def _purged_page() -> Response:
    return _message_page(
        "This handoff was deleted",
        "The retention period of this handoff is over. It can no longer be answered; no answer was recorded.",
        410,
    )


def _form_page(
    token: str,
    handoff: PartnerHandoff,
    after: int,
    form: AnswerForm,
    form_id: str,
    *,
    missed: str = "",
    refusal: Refused | None = None,
    status: int = 200,
) -> Response:
    links = HandoffLinks(f"./{token}", f"./{token}")
    described = describe_handoff(handoff, links, after, form, form_id, missed=missed, refusal=refusal)
    described |= {"answerable": handoff.state is not ExportState.CANCELLED, "refusal": refusal and refusal.message}
    html = render("email_replies/handoff.html", **described)
    return Response(html, 404 if missed else status, HEADERS, "text/html; charset=utf-8")


def _message_page(heading: str, sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    html = render("email_replies/plain.html", heading=heading, sentence=sentence)
    return Response(html, status, {**HEADERS, **(headers or {})}, "text/html; charset=utf-8")
