"""The pages that begin and end a session: sign-in by password and code, one-time links, sign-out."""

import secrets
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.accounts import one_time_links, provider_sign_in, sessions, sign_in
from pipeline.accounts.one_time_links import LinkView, Purpose
from pipeline.accounts.open_id import OpenIdProvider
from pipeline.accounts.sign_in import SignedIn
from pipeline.core import tenancy
from pipeline.core.errors import NotFound, Refused, SignInFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.interfaces.api.dependencies import RuntimeDep
from pipeline.interfaces.console.people import sign_in_views
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Form, Visitor, public_page, read_fields, redirect_to
from pipeline.interfaces.pages.session import (
    begin_session,
    check_same_origin,
    delete_cookie,
    forget_return_address,
    read_client,
    read_device,
    read_return_address,
    read_set_up_mark,
    read_token,
    set_set_up_mark,
)

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

Token = Annotated[str, Path(max_length=128)]


async def read_open_form(request: Request) -> Form:
    """Return the fields of a form that needs no session; where it came from is not checked yet."""
    return await read_fields(request)


async def read_link_form(request: Request, runtime: RuntimeDep, token: Token) -> Form:
    """Return the fields of the form of a one-time link; none, and unread, if nobody has the link."""
    try:
        await run_in_threadpool(_load_link, runtime, token)
    except NotFound:
        return Form({})
    return await read_fields(request)


OpenForm = Annotated[Form, Depends(read_open_form)]
LinkForm = Annotated[Form, Depends(read_link_form)]


@router.get("/sign-in")
def show_sign_in(runtime: RuntimeDep) -> Response:
    """Show the form for e-mail address, password and code."""
    return sign_in_page(runtime, None)


@router.post("/sign-in")
def submit_sign_in(request: Request, runtime: RuntimeDep, form: OpenForm) -> Response:
    """Check the password and the code, and start a session."""
    try:
        check_same_origin(runtime.settings, request)
        signed_in = _check_password(runtime, request, form.get("email"), form)
    except Refused as refused:
        return sign_in_page(runtime, refused, email=form.get("email"))
    return start_console(runtime, request, signed_in)


@router.post("/sign-out")
def sign_out(visit: Visitor, form: Fields) -> Response:
    """End the session, and send the browser to the OpenID provider that has signed in the person, to end that one too."""
    settings, caller = visit.runtime.settings, visit.caller
    provider: OpenIdProvider | None = visit.request.app.state.provider
    id_token = provider_sign_in.read_id_token(visit.runtime, caller)
    if caller.person is not None:
        sessions.end_session(visit.runtime, caller, caller.person.session_id)
    address = None
    if provider is not None and id_token is not None:
        address = provider.build_logout_address(id_token, f"{settings.public_url}/console/sign-in")
    response = (
        redirect_to("/console/sign-in")
        if address is None
        # Browsers let a form of this site end only at this site, so the page leads on.
        else open_page("console/people/provider_next.html", provider_address=address, signed_out=True)
    )
    delete_cookie(settings, response)
    forget_return_address(settings, visit.request, response)
    return response


@router.get("/links/{token}")
def show_link(token: Token, request: Request, runtime: RuntimeDep) -> Response:
    """Show what a one-time link is for. Only the form uses it: a mail program may look at a link."""
    try:
        return _link_page(runtime, request, token, _load_link(runtime, token), None)
    except NotFound as missing:
        return _refused_link_page(missing)


@router.post("/links/{token}")
def use_link(token: Token, request: Request, runtime: RuntimeDep, form: LinkForm) -> Response:
    """Use a one-time link: enter, join an account, or set a password and a code."""
    try:
        link = _load_link(runtime, token)
    except NotFound as missing:
        return _refused_link_page(missing)
    try:
        check_same_origin(runtime.settings, request)
        return _use_link(runtime, request, token, link, form)
    except Refused as refused:
        return _link_page(runtime, request, token, link, refused)


def _use_link(runtime: Runtime, request: Request, token: str, link: LinkView, form: Form) -> Response:
    client = read_client(request)
    if link.purpose is Purpose.ENTER:
        return start_console(runtime, request, sign_in.enter_by_link(runtime, token, client))
    known = link.purpose is Purpose.JOIN and _is_signed_in_as(runtime, request, link.person_id)
    if known or form.get("known"):
        return _accept_invitation(runtime, request, token, link, form, known=known)
    made = sign_in.set_up_credentials(
        runtime,
        token,
        password=form.get("password"),
        code=form.get("code"),
        client=client,
        browser=read_set_up_mark(request),
    )
    response = open_page("console/people/recovery_codes.html", codes=made.recovery_codes, next="/console")
    begin_session(runtime, request, response, made.signed_in)
    return response


def _accept_invitation(
    runtime: Runtime, request: Request, token: str, link: LinkView, form: Form, *, known: bool
) -> Response:
    session_token = read_token(runtime.settings, request)
    response = redirect_to("/console")
    if not known:
        signed_in = _check_password(runtime, request, link.email, form)
        begin_session(runtime, request, response, signed_in)
        session_token = signed_in.token
    caller = sessions.find_caller_by_session(runtime, session_token)
    sign_in.accept_invitation(runtime, token, caller)
    sessions.enter_account(runtime, caller, link.account_id)
    return response


def _check_password(runtime: Runtime, request: Request, email: str, form: Form) -> SignedIn:
    return sign_in.sign_in_by_password(
        runtime,
        email=email,
        password=form.get("password"),
        code=form.get("code"),
        client=read_client(request),
        device=read_device(request),
    )


def _is_signed_in_as(runtime: Runtime, request: Request, person_id: str) -> bool:
    try:
        token = read_token(runtime.settings, request)
        return sessions.find_caller_by_session(runtime, token).actor == person_id
    except SignInFailed:
        return False


def _load_link(runtime: Runtime, token: str) -> LinkView:
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        return one_time_links.load_link(session, token)


def start_console(runtime: Runtime, request: Request, signed_in: SignedIn) -> Response:
    """Return a redirect to the page that asked for sign-in, with the cookies of the new session."""
    response = redirect_to(read_return_address(request))
    forget_return_address(runtime.settings, request, response)
    begin_session(runtime, request, response, signed_in)
    return response


def sign_in_page(runtime: Runtime, refused: Refused | None, *, email: str = "", replace: str = "") -> Response:
    """Return the form for signing in, with what was wrong; `replace` is the query by which a password ends."""
    provider, host = runtime.settings.oidc_issuer is not None, urlsplit(runtime.settings.public_url).netloc
    return open_page("console/people/sign_in.html", refused, email=email, provider=provider, replace=replace, host=host)


def open_page(template: str, refused: Refused | None = None, **values: object) -> Response:
    """Return a page that needs no session; the template gets the message of `refused` as `refusal`."""
    refusal, status = (None, 200) if refused is None else (refused.message, refused.status)
    response = public_page(template, status, refusal=refusal, **values)
    if refused is not None:
        response.headers.update(refused.headers)
    # With `no-referrer`, the browser would also hide that the form came from this site.
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def _link_page(runtime: Runtime, request: Request, token: str, link: LinkView, refused: Refused | None) -> Response:
    if link.purpose is Purpose.ENTER:
        return open_page("console/people/link_enter.html", refused, link=link)
    joins = link.purpose is Purpose.JOIN
    if joins and _is_signed_in_as(runtime, request, link.person_id):
        return open_page("console/people/link_join.html", refused, link=link)
    shown = {"link": link, "joins": joins, "provider": joins and runtime.settings.oidc_issuer is not None}
    mark = read_set_up_mark(request) or secrets.token_urlsafe(16)
    set_up = sign_in_views.build_set_up(runtime.settings, link, mark)
    response = open_page("console/people/link_set_up.html", refused, set_up=set_up, token=token, **shown)
    set_set_up_mark(runtime.settings, response, mark)
    return response


def _refused_link_page(refused: Refused) -> Response:
    return open_page("console/people/link_refused.html", refused)
