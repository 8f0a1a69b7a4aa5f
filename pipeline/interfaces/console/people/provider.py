"""Sign-in by an OpenID provider: the way to it, and back."""

import json
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.accounts import provider_sign_in, sessions, sign_in
from pipeline.accounts.open_id import Authorization, OpenIdProvider
from pipeline.accounts.secrets import build_secret_box
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.errors import CredentialsInDoubt, NotFound, Refused, SecretUnreadable, SignInFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.interfaces.api.dependencies import RuntimeDep
from pipeline.interfaces.console.people.own_person import show_own_page
from pipeline.interfaces.console.people.sign_in import open_page, sign_in_page, start_console
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Visitor, redirect_to
from pipeline.interfaces.pages.session import check_same_origin, is_secure, read_client, read_token

router = APIRouter(prefix="/console/provider", include_in_schema=False, route_class=ConsoleRoute)

#: What the browser must bring back, sealed. Over https no other host of the domain can plant it.
_COOKIE: Final = "exports_provider"
_HOST_COOKIE: Final = "__Host-exports_provider"
_SECONDS: Final = 600
_OWNER: Final = "sign-in-by-provider"


@router.get("")
def begin_sign_in(
    request: Request,
    runtime: RuntimeDep,
    link: Annotated[str, Query(max_length=128)] = "",
    replace: Annotated[str, Query(max_length=8)] = "",
) -> Response:
    """Send the browser to the provider; `link` is a one-time link to use, `replace` ends a password of the person."""
    try:
        if link or replace:
            # Another site's page must not make the person join an account, or lose a password.
            check_same_origin(runtime.settings, request)
        begun = _find_provider(request).begin(_callback(runtime))
    except Refused as refused:
        return sign_in_page(runtime, refused)
    response = redirect_to(begun.url)
    _keep(runtime, response, begun, link=link, replace=bool(replace))
    return response


@router.post("/connect")
def begin_connection(visit: Visitor, form: Fields) -> Response:
    """Check the password and a code again, and send the browser to the provider that the person connects."""
    runtime = visit.runtime
    try:
        begun = _find_provider(visit.request).begin(_callback(runtime))
        with sign_in.prove_again(runtime, visit.caller, form.get("password"), form.get("code")):
            pass
    except Refused as refused:
        return show_own_page(visit, refused)
    # Browsers let a form of this site end only at this site, so the page leads on.
    response = open_page("console/people/provider_next.html", provider_address=begun.url, signed_out=False)
    _keep(runtime, response, begun, person=visit.caller.actor)
    return response


@router.get("/callback")
def finish_sign_in(request: Request, runtime: RuntimeDep) -> Response:
    """Take the provider's answer, and start a session or connect the provider."""
    link = ""
    try:
        kept = _read_kept(runtime, request)
        begun = Authorization("", kept["state"], kept["nonce"], kept["verifier"])
        identity = _find_provider(request).finish(begun, _callback(runtime), dict(request.query_params))
        link = kept["link"]
        if kept["person"]:
            _connect(runtime, request, kept["person"], identity)
            response = redirect_to("/console/me")
        else:
            signed_in = provider_sign_in.sign_in_by_provider(
                runtime, identity, read_client(request), link_token=link or None, replaces_password=kept["replace"]
            )
            response = start_console(runtime, request, signed_in)
    except CredentialsInDoubt as refused:
        response = sign_in_page(runtime, refused, replace=urlencode({"link": link, "replace": "true"}))
    except Refused as refused:
        response = sign_in_page(runtime, refused)
    secure = is_secure(runtime.settings)
    response.delete_cookie(_cookie_name(runtime), path="/", secure=secure, httponly=True, samesite="lax")
    return response


def _connect(runtime: Runtime, request: Request, person_id: str, identity: provider_sign_in.ProvenIdentity) -> None:
    caller = sessions.find_caller_by_session(runtime, read_token(runtime.settings, request))
    if caller.actor != person_id:
        raise SignInFailed("another person has signed in since; connect the provider again")
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        provider_sign_in.connect_own_provider(session, caller, identity)


def _find_provider(request: Request) -> OpenIdProvider:
    provider: OpenIdProvider | None = request.app.state.provider
    if provider is None:
        raise NotFound("this installation has no OpenID provider; sign in with your password and a code")
    return provider


def _callback(runtime: Runtime) -> str:
    return f"{runtime.settings.public_url}/console/provider/callback"


def _cookie_name(runtime: Runtime) -> str:
    return _HOST_COOKIE if is_secure(runtime.settings) else _COOKIE


def _keep(
    runtime: Runtime,
    response: Response,
    begun: Authorization,
    *,
    link: str = "",
    person: str = "",
    replace: bool = False,
) -> None:
    """Let the browser keep what belongs to the sign-in; with `person`, it connects the provider to that person."""
    kept = {
        "state": begun.state,
        "nonce": begun.nonce,
        "verifier": begun.verifier,
        "link": link,
        "person": person,
        "replace": replace,
        "until": utc_now().timestamp() + _SECONDS,
    }
    response.set_cookie(
        _cookie_name(runtime),
        build_secret_box(runtime.settings).seal(json.dumps(kept), _OWNER),
        max_age=_SECONDS,
        path="/",
        secure=is_secure(runtime.settings),
        httponly=True,
        samesite="lax",
    )


def _read_kept(runtime: Runtime, request: Request) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(
            build_secret_box(runtime.settings).open(request.cookies.get(_cookie_name(runtime), ""), _OWNER)
        )
    except (SecretUnreadable, ValueError) as error:
        raise SignInFailed(
            "this browser did not begin this sign-in, or its cookies are blocked; begin again"
        ) from error
    if kept["until"] < utc_now().timestamp():
        raise SignInFailed("the sign-in took too long; begin again")
    return kept
