"""Sign-in by an OpenID provider: the way to it, and back."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.accounts import sessions, sign_in
from pipeline.accounts.open_id import Authorization, OpenIdProvider
from pipeline.accounts.secrets import build_secret_box
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound, Refused, SecretUnreadable, SignInFailed
from pipeline.core.runtime import Runtime
from pipeline.interfaces.api.dependencies import RuntimeDep
from pipeline.interfaces.console.pages import ConsoleRoute, redirect_to
from pipeline.interfaces.console.session import is_secure, read_client, read_token
from pipeline.interfaces.console.sign_in import sign_in_page, start_console

router = APIRouter(prefix="/console/provider", include_in_schema=False, route_class=ConsoleRoute)

#: What the browser must bring back, sealed; only to the address below.
_COOKIE: Final = "exports_provider"
_PATH: Final = "/console/provider"
_SECONDS: Final = 600
_OWNER: Final = "sign-in-by-provider"


@router.get("")
def begin_sign_in(
    request: Request,
    runtime: RuntimeDep,
    link: Annotated[str, Query(max_length=128)] = "",
    connect: Annotated[bool, Query()] = False,  # noqa: FBT002 - a choice in an address
) -> Response:
    """Send the browser to the provider; `link` is a one-time link to use, `connect` adds the provider to who is signed in."""
    try:
        begun = _find_provider(request).begin(_callback(runtime))
    except Refused as refused:
        return sign_in_page(runtime, refused)
    kept = {
        "state": begun.state,
        "nonce": begun.nonce,
        "verifier": begun.verifier,
        "link": link,
        "connect": connect,
        "until": utc_now().timestamp() + _SECONDS,
    }
    response = redirect_to(begun.url)
    response.set_cookie(
        _COOKIE,
        build_secret_box(runtime.settings).seal(json.dumps(kept), _OWNER),
        max_age=_SECONDS,
        path=_PATH,
        secure=is_secure(runtime.settings),
        httponly=True,
        samesite="lax",
    )
    return response


@router.get("/callback")
def finish_sign_in(request: Request, runtime: RuntimeDep) -> Response:
    """Take the provider's answer, and start a session or connect the provider."""
    try:
        kept = _read_kept(runtime, request)
        begun = Authorization("", kept["state"], kept["nonce"], kept["verifier"])
        identity = _find_provider(request).finish(begun, _callback(runtime), dict(request.query_params))
        if kept["connect"]:
            caller = sessions.find_caller_by_session(runtime, read_token(runtime.settings, request))
            sign_in.connect_own_provider(runtime, caller, identity)
            response = redirect_to("/console/me")
        else:
            signed_in = sign_in.sign_in_by_provider(
                runtime, identity, read_client(request), link_token=kept["link"] or None
            )
            response = start_console(runtime, signed_in)
    except Refused as refused:
        response = sign_in_page(runtime, refused)
    response.delete_cookie(_COOKIE, path=_PATH, secure=is_secure(runtime.settings), httponly=True, samesite="lax")
    return response


def _find_provider(request: Request) -> OpenIdProvider:
    provider: OpenIdProvider | None = request.app.state.provider
    if provider is None:
        raise NotFound("this installation has no OpenID provider; sign in with your password and a code")
    return provider


def _callback(runtime: Runtime) -> str:
    return f"{runtime.settings.public_url.rstrip('/')}{_PATH}/callback"


def _read_kept(runtime: Runtime, request: Request) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(
            build_secret_box(runtime.settings).open(request.cookies.get(_COOKIE, ""), _OWNER)
        )
    except (SecretUnreadable, ValueError) as error:
        raise SignInFailed(
            "this browser did not begin this sign-in, or its cookies are blocked; begin again"
        ) from error
    if kept["until"] < utc_now().timestamp():
        raise SignInFailed("the sign-in took too long; begin again")
    return kept
