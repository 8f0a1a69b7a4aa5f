"""The cookies of a session of the console, the CSRF tokens of its forms, and the client that it comes from."""

from typing import Final
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from config.settings import Settings
from pipeline.accounts.one_time_links import LINK_SECONDS
from pipeline.accounts.secrets import build_secret_box
from pipeline.accounts.sessions import LIFETIME_SECONDS, Client, describe_client, end_replaced_session
from pipeline.accounts.sign_in import SignedIn
from pipeline.core.errors import ForeignForm
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures, sign_text

#: Over https the browser binds the cookie to this host: no other host of the domain can set it.
_COOKIE: Final = "exports_console"
_HOST_COOKIE: Final = "__Host-exports_console"
_DEVICE_COOKIE: Final = "exports_device"
#: The page to come back to after sign-in, for some minutes.
_RETURN_COOKIE: Final = "exports_return"
_RETURN_SECONDS: Final = 600
_MAX_RETURN_CHARACTERS: Final = 1000
_DEVICE_SECONDS: Final = 365 * 24 * 3600
#: The random mark of a browser that was shown a TOTP secret.
_SET_UP_COOKIE: Final = "exports_set_up"
_SET_UP_PATH: Final = "/console/links"


def cookie_name(settings: Settings) -> str:
    """Return the name of the cookie with the session's token."""
    return _HOST_COOKIE if is_secure(settings) else _COOKIE


def is_secure(settings: Settings) -> bool:
    """Return whether browsers reach this service over https."""
    return settings.public_url.startswith("https:")


def read_token(settings: Settings, request: Request) -> str:
    """Return the session's token; empty if the browser sent none."""
    return request.cookies.get(cookie_name(settings), "")


def read_device(request: Request) -> str | None:
    """Return the mark of a browser in which somebody has signed in before; None if it has none."""
    return request.cookies.get(_DEVICE_COOKIE)


def read_client(request: Request) -> Client:
    """Return the client as far as a session keeps it."""
    host = None if request.client is None else request.client.host
    return describe_client(host, request.headers.get("user-agent", ""))


def read_set_up_mark(request: Request) -> str:
    """Return the mark of the browser, which the TOTP secret of a one-time link depends on; empty if it has none."""
    return request.cookies.get(_SET_UP_COOKIE, "")


def set_set_up_mark(settings: Settings, response: Response, mark: str) -> None:
    """Give the browser its mark. It is sent when the page is opened by a link in an e-mail too."""
    response.set_cookie(
        _SET_UP_COOKIE,
        mark,
        max_age=LINK_SECONDS,
        path=_SET_UP_PATH,
        secure=is_secure(settings),
        httponly=True,
        samesite="lax",
    )


def begin_session(runtime: Runtime, request: Request, response: Response, signed_in: SignedIn) -> None:
    """Give the browser the token of a new session, and end the one that it had."""
    end_replaced_session(runtime, read_token(runtime.settings, request))
    _set_cookies(runtime.settings, response, signed_in)


def _set_cookies(settings: Settings, response: Response, signed_in: SignedIn) -> None:
    # With `strict`, the browser would not send it with the request that follows the OpenID provider's page.
    _set_cookie(settings, response, cookie_name(settings), signed_in.token, LIFETIME_SECONDS)
    _set_cookie(settings, response, _DEVICE_COOKIE, signed_in.device, _DEVICE_SECONDS)


def _set_cookie(settings: Settings, response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=is_secure(settings), httponly=True, samesite="lax"
    )


def delete_cookie(settings: Settings, response: Response) -> None:
    """Remove the session's token from the browser."""
    response.delete_cookie(cookie_name(settings), path="/", secure=is_secure(settings), httponly=True, samesite="lax")


def keep_return_address(settings: Settings, response: Response, path: str, query: str) -> None:
    """Let the browser come back to a page of the console after it has signed in."""
    address = quote(f"{path}?{query}" if query else path, safe="")
    if path.startswith("/console/") and len(address) <= _MAX_RETURN_CHARACTERS:
        _set_cookie(settings, response, _RETURN_COOKIE, address, _RETURN_SECONDS)


def read_return_address(request: Request) -> str:
    """Return the page to come back to, which is always one of the console on this host."""
    address = unquote(request.cookies.get(_RETURN_COOKIE, ""))
    # Another host of the domain may have set the cookie, so it is not trusted.
    return address if address.startswith("/console/") and address.isprintable() else "/console"


def forget_return_address(settings: Settings, request: Request, response: Response) -> None:
    """Let the next sign-in lead to the first page."""
    if _RETURN_COOKIE in request.cookies:
        response.delete_cookie(_RETURN_COOKIE, path="/", secure=is_secure(settings), httponly=True, samesite="lax")


def sign_form(runtime: Runtime, token: str, account_id: str) -> Signatures:
    """Return the tokens that forms may carry, so that only a page of this session can send them.

    They hold for one account: a page that was opened before the person entered another account cannot act there.
    """
    text = f"form\n{account_id}\n{token}".encode(errors="replace")
    return sign_text(build_secret_box(runtime.settings), "console-sessions", text)


def check_csrf_token(valid: Signatures, given: str) -> None:
    """Raise ForeignForm unless the form's token is one of the session and the account.

    A page of another site in the same browser cannot know the token: it is not part of the cookie.
    """
    if valid.find_key(given) is None:
        raise ForeignForm("this form does not belong to your session and account; load the page again")


def check_same_origin(settings: Settings, request: Request) -> None:
    """Raise ForeignForm if the browser says that a page of another site sent the form.

    Before sign-in there is no CSRF token; another site's page could sign the user in as somebody else. An old browser,
    or one without TLS, names only the page's origin; a program names nothing.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        own = site in {"same-origin", "none"}
    else:
        here = {request.headers.get("host"), urlsplit(settings.public_url).netloc}
        own = origin is None or origin.partition("://")[2] in here
    if not own:
        raise ForeignForm("this form came from another site; open this service's own page and sign in there")
