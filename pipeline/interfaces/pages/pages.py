"""The base of every page of the console: its route class, and the visit and the form that a route receives."""

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol
from urllib.parse import parse_qs, urlencode

import structlog
from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response, StreamingResponse

from pipeline.accounts.api_keys import ADMIN, Caller
from pipeline.accounts.service import explain_live
from pipeline.accounts.sessions import find_caller_by_session
from pipeline.core import tenancy
from pipeline.core.errors import DatabaseBusy, InsufficientRole, PayloadTooLarge, Refused, SignInFailed
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures
from pipeline.core.templating import add_filters, render, render_pieces
from pipeline.interfaces.api.dependencies import get_publisher, get_runtime
from pipeline.interfaces.api.errors import REFUSED, to_refusal
from pipeline.interfaces.api.places import COUNT, PERSON_PART
from pipeline.interfaces.pages.filters import FILTERS
from pipeline.interfaces.pages.list_views import FilterLink
from pipeline.interfaces.pages.session import check_csrf_token, keep_return_address, read_token, sign_form
from pipeline.ops import work_counts
from pipeline.workflow.steps import TaskMessage

add_filters(FILTERS)

#: Pages load only what this service serves. Neither script nor style may stand in a page.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

#: How many rows a page of a list shows.
PAGE_SIZE: Final = 50

#: The id of the last row of the page before.
Cursor = Annotated[str | None, Query(max_length=128)]

#: The pages that every page links to.
_NAV: Final = {
    "Today": "/console",
    "Inbox": "/console/inbox",
    "Deadlines": "/console/deadlines",
    "Exports": "/console/exports",
    "Partners": "/console/partners",
    "Dead letters": "/console/deliveries?state=dead",
    "Sandbox": "/console/sandbox",
}

#: The lists that a refused page below them leads back to.
_LISTS: Final = {
    "/console/exports": "All exports",
    "/console/partners": "All partners",
    "/console/deliveries": "All deliveries",
    "/console/keys": "All keys",
    "/console/waivers": "All waivers",
    "/console/holds": "All legal holds",
    "/console/people": "All people",
}

#: What the layout shows of a visit.
_OF_VISIT: Final = ("nav", "waiting", "account", "person", "csrf_token", "address", "live", "kept_for", "typed_at")

#: The largest form of most pages, in bytes.
_SMALL_FORM: Final = 16 * 1024


#: The start of a message about a parameter of the address, as a JSON Pointer.
_QUERY_POINTER: Final = re.compile(r"^/(?:query|path)/(\w+)(?:/\d+)?(?= )")

#: The most fields of a form: a broker profile has 200 columns of seven.
_MOST_FIELDS: Final = 2_000


class SignedOut(Exception):
    """No session, or one that has ended: the browser must go to the page at `address` that begins one."""

    def __init__(self, address: str = "/console/sign-in") -> None:
        super().__init__(address)
        self.address = address


@dataclass(frozen=True)
class Visit:
    """A request by somebody who is signed in."""

    request: Request
    caller: Caller
    csrf_tokens: Signatures

    @property
    def runtime(self) -> Runtime:
        """The runtime of the process."""
        return get_runtime(self.request)

    @property
    def account_id(self) -> str:
        """The account whose rows this visit sees."""
        return self.caller.account_id

    @property
    def person_name(self) -> str:
        """The name of who is signed in, or the e-mail address."""
        person = self.caller.person
        return self.caller.actor if person is None else person.name or person.email

    @property
    def address(self) -> str:
        """The address of the page, with its query."""
        url = self.request.url
        return f"{url.path}?{url.query}" if url.query else url.path

    def explain_unchangeable(self, subject: str) -> str:
        """Return why the visitor must not change settings of the account, empty if an administrator of live mode visits."""
        if not self.caller.has_role(ADMIN):
            return "An administrator of the account can change them."
        return f"Test mode must not change them: {explain_live(subject)}." if self.caller.test else ""

    def publish(self, tasks: Sequence[TaskMessage]) -> None:
        """Schedule task messages and return at once."""
        get_publisher(self.request).publish(tasks)

    def page(
        self,
        template: str,
        status: int = 200,
        *,
        refused: Refused | None = None,
        live: str | None = None,
        **values: object,
    ) -> Response:
        """Return a page of the console, with the status of what was `refused`; with `live`, it follows these changes."""
        return refusable_page(template, status, refused, self._base(live) | values)

    def refusal(self, refused: Refused) -> Response:
        """Return a page that only says why the request was refused."""
        return self.page(
            "console/missing.html",
            refused=refused,
            title=refused.title,
            message=describe_refusal(refused),
            request_id="",
            way_back=_find_list(self.request.url.path, allowed=not isinstance(refused, InsufficientRole)),
        )

    def page_in_pieces(self, template: str, **values: object) -> Response:
        """Return a page that is sent while it is made: a loop over an iterator of `values` sends a row at each step."""
        # A proxy must not collect the page until its end.
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        pieces = render_pieces(template, **self._base(None), **values)
        return StreamingResponse(pieces, headers=headers, media_type="text/html; charset=utf-8")

    def _base(self, live: str | None) -> dict[str, object]:
        return {
            "nav": _build_nav(self.request.url.path),
            "waiting": self._count_inbox(),
            "account": self.account_id,
            "person": self.person_name,
            "csrf_token": self.csrf_tokens.newest,
            "kept_for": self.caller.actor,
            "address": self.address,
            # Where a browser finds the page again; the answer to a form has no address of its own.
            "typed_at": self.address if self.request.method == "GET" else None,
            "live": live if self.request.method == "GET" else None,
        }

    def _count_inbox(self) -> int | None:
        # Without its count a page is still of use.
        with suppress(DatabaseBusy), self.runtime.db.read() as session:
            return work_counts.read_inbox_count(session, self.account_id)
        return None


def _build_nav(path: str) -> list[FilterLink]:
    """Return the links to the pages; the one of `path`, or of a page below it, is chosen."""
    places = [(name, link, link.partition("?")[0]) for name, link in _NAV.items()]
    return [
        FilterLink(name, link, path == place or (place != "/console" and path.startswith(f"{place}/")))
        for name, link, place in places
    ]


def _find_list(path: str, *, allowed: bool) -> FilterLink:
    """Return the link to the list that a page belongs to; to all exports if it has none, or the caller may not see it."""
    below = (link for link in _LISTS if allowed and path.startswith(f"{link}/"))
    link = next(below, "/console/exports")
    return FilterLink(_LISTS[link], link, chosen=False)


@dataclass(frozen=True)
class Form:
    """The fields of a form that a page of this session sent. Values have no space at their ends."""

    values: Mapping[str, Sequence[str]]

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a field; `default` if it is empty or missing."""
        return next(iter(self.values.get(name, ())), default)

    def get_all(self, name: str) -> list[str]:
        """Return all values of a field, in order, without repetitions."""
        return [*dict.fromkeys(self.values.get(name, ()))]


class RefusingVisit(Protocol):
    """A visit that can show why its request was refused."""

    def refusal(self, refused: Refused) -> Response:
        """Return a page that only says why the request was refused."""
        ...


class ConsoleRoute(APIRoute):
    """A route whose refusals are pages, and which redirects to sign-in if nobody is signed in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except SignedOut as signed_out:
                return _redirect_to_sign_in(request, signed_out.address)
            except (Refused, RequestValidationError) as error:
                visit: RefusingVisit | None = getattr(request.state, "visit", None)
                show = public_refusal if visit is None else visit.refusal
                refused = request.scope[REFUSED] = to_refusal(error)
                page = await run_in_threadpool(show, refused)
                page.headers.update(refused.headers)
                return page

        return answer


async def open_visit(request: Request) -> Visit:
    """Return the visit of who is signed in; raises SignedOut if nobody is."""
    runtime = get_runtime(request)
    token = read_token(runtime.settings, request)
    # A page that refreshes itself or follows changes must not keep a session alive that nobody uses.
    touch = "hx-request" not in request.headers and "text/event-stream" not in request.headers.get("accept", "")
    try:
        caller = await run_in_threadpool(find_caller_by_session, runtime, token, touch=touch)
    except SignInFailed as refused:
        raise SignedOut from refused
    # Set here, in the context of the request: a thread's own context ends with its call.
    tenancy.set_account(caller.account_id)
    structlog.contextvars.bind_contextvars(account_id=caller.account_id, person_id=caller.actor)
    visit = Visit(request, caller, sign_form(runtime, token, caller.account_id))
    # Before the visit is kept: a page with its account's facts would cost a full process more than the refusal.
    request.scope[COUNT](caller.account_id, caller.actor, PERSON_PART)
    request.state.visit = visit
    return visit


async def is_still_signed_in(visit: Visit) -> bool:
    """Return whether the session of a long request still lasts."""
    token = read_token(visit.runtime.settings, visit.request)
    try:
        caller = await run_in_threadpool(find_caller_by_session, visit.runtime, token, touch=False)
    except SignInFailed:
        return False
    return caller.account_id == visit.account_id


Visitor = Annotated[Visit, Depends(open_visit)]


def limit_form(max_bytes: int, *roles: str) -> Callable[[Request, Visit], Coroutine[Any, Any, Form]]:
    """Return the dependency that reads a form of at most `max_bytes` and checks its CSRF token.

    It reads nothing from who has none of the `roles`. A large form must name them: it costs time before its route begins.
    """

    async def read_form(request: Request, visit: Visitor) -> Form:
        if roles:
            visit.caller.require(*roles)
        form = await read_fields(request, max_bytes)
        check_csrf_token(visit.csrf_tokens, form.get("csrf_token"))
        return form

    return read_form


Fields = Annotated[Form, Depends(limit_form(_SMALL_FORM))]


async def read_fields(request: Request, max_bytes: int = _SMALL_FORM) -> Form:
    """Return the fields of a form; raises PayloadTooLarge if it has more than `max_bytes` or _MOST_FIELDS."""
    body = b"".join([piece async for piece in stream_body(request, max_bytes)])
    # A form of a megabyte takes a second, in which this thread would answer nothing else.
    return await run_in_threadpool(_parse_fields, body)


async def stream_body(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body of the request as it arrives; raises PayloadTooLarge if it has more than `max_bytes`."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > max_bytes:
            raise PayloadTooLarge(
                f"the form has more than {max_bytes} bytes; send less", headers={"Connection": "close"}
            )
        yield piece


def _parse_fields(body: bytes) -> Form:
    try:
        given = parse_qs(body.decode(errors="replace"), max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise PayloadTooLarge(f"the form has more than {_MOST_FIELDS} fields; send less") from error
    return Form({name: [value.strip() for value in values] for name, values in given.items()})


def build_next_link(address: str, cursor: str | None, **filters: bool) -> str | None:
    """Return the address of a list's next page, with the filters that are on; None without a `cursor`."""
    chosen = {name: "true" for name, on in filters.items() if on}
    return None if cursor is None else f"{address}?{urlencode(chosen | {'cursor': cursor})}"


def public_refusal(refused: Refused, request_id: str = "") -> Response:
    """Return a page for everybody that only says why the request was refused, and the id of the request if it is given."""
    facts = {"title": refused.title, "message": describe_refusal(refused), "request_id": request_id}
    return public_page("console/missing.html", refused.status, way_back=None, **facts)


def describe_refusal(refused: Refused) -> str:
    """Return why a request was refused, for its page; a parameter of the address is named, not pointed to."""
    return _QUERY_POINTER.sub(r"the value `\1` in the address", refused.message)


def public_page(template: str, status: int = 200, **values: object) -> Response:
    """Return a page for everybody, without menu and account."""
    return page_response(render(template, **dict.fromkeys(_OF_VISIT), **values), status)


def refusable_page(template: str, status: int, refused: Refused | None, values: Mapping[str, object]) -> Response:
    """Return a page with the status and the message of what was refused; the message is None if nothing was."""
    refusal = None if refused is None else refused.message
    page = render(template, **({"refusal": refusal} | dict(values)))
    return page_response(page, status if refused is None else refused.status)


def page_response(html: str, status: int = 200) -> Response:
    """Return a page of the console."""
    return Response(html, status, HEADERS, "text/html; charset=utf-8")


def redirect_to(address: str) -> Response:
    """Return a redirect that makes the browser load `address` with GET."""
    return RedirectResponse(address, 303, HEADERS)


def _redirect_to_sign_in(request: Request, address: str) -> Response:
    # A page that stays open longer than its session asks again and again.
    request.scope[REFUSED] = None
    if "hx-request" in request.headers:
        # The script would put the page of a redirect into a part of this one, and open an ended stream again at once.
        # It says itself that the session has ended, and the page keeps what was typed.
        return Response(status_code=401, headers=HEADERS)
    response = redirect_to(address)
    if request.method == "GET" and request.headers.get("sec-fetch-dest", "document") == "document":
        keep_return_address(get_runtime(request).settings, response, request.url.path, request.url.query)
    return response
