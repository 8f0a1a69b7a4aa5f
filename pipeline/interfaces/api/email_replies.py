"""The page behind the link in an e-mail: a handoff and a form to answer it, without account or script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from pipeline.core.clock import utc_now
from pipeline.core.errors import InvalidState, NotFound, NotInHandoff, Purged, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.core.templating import SOURCES, render
from pipeline.deliveries.submissions import answer_forms, email_replies
from pipeline.deliveries.submissions.answer_forms import AnswerForm
from pipeline.deliveries.submissions.email_replies import Handoff, PreviousReply, ReplyLink
from pipeline.exports.field_text import describe_field
from pipeline.interfaces.api.dependencies import ApiKeyCache, RuntimeDep, retry_after_header
from pipeline.interfaces.api.request_body import read_body_up_to
from pipeline.interfaces.handoff_units import show_handed_unit

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
FIELD_ROWS: Final = 6

_CHOICES: Final = {
    "accepted": "We accept it and will file",
    "query": "We have a question",
    "rejected": "We reject it: something has to be corrected",
    "received": "Received; the answer follows",
}


@dataclass(frozen=True)
class _Choice:
    status: str
    words: str
    chosen: bool


@dataclass(frozen=True)
class _ShownAnswer:
    status: str
    at: str
    message: str | None
    entry_number: str | None
    fields: Sequence[tuple[str, str]]


@router.get("/style.css")
def read_style() -> Response:
    """Return the styles that this page adds to the console's."""
    return Response(SOURCES["email_replies/style.css"], media_type="text/css")


@router.get("/{token}")
def show_form(token: str, request: Request, runtime: RuntimeDep) -> Response:
    """Show the handoff and its form; viewing changes nothing."""
    found = _open_handoff(request, runtime, token)
    if isinstance(found, Response):
        return found
    _, handoff = found
    return _form_page(handoff, AnswerForm())


@router.post("/{token}")
async def submit_reply(token: str, request: Request, runtime: RuntimeDep) -> Response:
    """Record the answer once; a second answer gets a page that shows the first."""
    found = await run_in_threadpool(_open_handoff, request, runtime, token)
    if isinstance(found, Response):
        return found
    body = await read_body_up_to(request, MAX_FORM_BYTES)
    if body is None:
        return _message_page(
            "The answer is too long", "It has too many characters. Go back, shorten it, and send it again.", 413
        )
    return await run_in_threadpool(_record_reply, runtime, token, *found, body)


def _record_reply(runtime: Runtime, token: str, link: ReplyLink, handoff: Handoff, body: bytes) -> Response:
    form = _parse_form(body)
    if handoff.final_reply is not None or handoff.replaced is not None:
        return _form_page(handoff, form, status=409)
    try:
        kept = email_replies.record_reply(runtime, link, handoff, form).recorded or form.status == "received"
    except (ValidationFailed, NotInHandoff) as refused:
        return _form_page(handoff, form, refusal=refused.message, status=400)
    except Purged:
        return _purged_page()
    except InvalidState:
        kept = False
    if not kept:
        return _form_page(email_replies.load_handoff(runtime, link), form, status=409)
    return RedirectResponse(f"./{token}", 303, HEADERS)


def _open_handoff(request: Request, runtime: Runtime, token: str) -> tuple[ReplyLink, Handoff] | Response:
    """Return the link and the handoff that the token leads to, or the page that says why there is none."""
    try:
        link = email_replies.parse_reply_link(runtime.settings, token)
        links: ApiKeyCache = request.app.state.links
        _, wait = links.take_token(link.notification_id)
        if wait:
            return _message_page(
                "Too many requests", "This page was requested too often. Wait a minute.", 429, retry_after_header(wait)
            )
        if utc_now() >= link.ends_at:
            return _message_page(
                "This link has expired",
                "You can no longer answer by this link. Answer the sender's e-mail instead, or ask the sender to send the handoff"
                " again.",
                410,
            )
        return link, email_replies.load_handoff(runtime, link)
    except Purged:
        return _purged_page()
    except NotFound:
        return _message_page(
            "This link does not work",
            "This link is not valid. Copy the whole link from the e-mail: a mail program may have split it.",
            404,
        )


def _purged_page() -> Response:
    return _message_page(
        "This handoff was deleted",
        "The retention period of this handoff is over. It can no longer be answered; no answer was recorded.",
        410,
    )


def _parse_form(body: bytes) -> AnswerForm:
    try:
        form_values = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return AnswerForm()

    def first(name: str) -> str:
        return form_values.get(name, [""])[0]

    rows = [(first(f"place{row}"), first(f"wrong{row}")) for row in range(FIELD_ROWS)]
    return AnswerForm(first("status"), first("message"), first("entryNumber"), rows)


def _form_page(handoff: Handoff, form: AnswerForm, *, refusal: str | None = None, status: int = 200) -> Response:
    names = {pointer: place for place, pointer in handoff.field_pointers.items()}
    earlier = {each.status for each in handoff.previous_replies}
    open_now = handoff.final_reply is None and handoff.replaced is None
    html = render(
        "email_replies/handoff.html",
        message=handoff.message,
        units=[show_handed_unit(unit) for unit in handoff.message.units],
        replaced=handoff.replaced,
        again=status == 409,
        final=None if handoff.final_reply is None else _show_answer(handoff.final_reply, names),
        previous=[_show_answer(each, names) for each in handoff.previous_replies],
        open=open_now,
        choices=[
            _Choice(choice, words, choice == form.status)
            for choice, words in _CHOICES.items()
            if choice != "received" or "received" not in earlier
        ],
        form=form,
        rows=[(row, *(form.fields[row] if row < len(form.fields) else ("", ""))) for row in range(FIELD_ROWS)],
        places=list(handoff.field_pointers) if open_now else [],
        refusal=refusal,
        max_message=answer_forms.MAX_MESSAGE,
    )
    return Response(html, status, HEADERS, "text/html; charset=utf-8")


def _message_page(heading: str, sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    html = render("email_replies/plain.html", heading=heading, sentence=sentence)
    return Response(html, status, {**HEADERS, **(headers or {})}, "text/html; charset=utf-8")


def _show_answer(reply: PreviousReply, names: Mapping[str, str]) -> _ShownAnswer:
    return _ShownAnswer(
        status=reply.status,
        at=_format_instant(reply.at),
        message=reply.message,
        entry_number=reply.entry_number,
        fields=[(names.get(each.pointer) or describe_field(each.pointer), each.message) for each in reply.fields],
    )


def _format_instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
