"""People of tests: set up with a password and TOTP, as by a one-time link, and signed in."""

import secrets
from base64 import b32decode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from sqlalchemy import select, update

from pipeline.accounts import credentials, people, sessions, sign_in
from pipeline.accounts.api_keys import ADMIN, Caller, Mode
from pipeline.accounts.sessions import Client, hash_token
from pipeline.core import tenancy
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.audit_trail import list_acts
from pipeline.interfaces.pages.session import cookie_name
from tests.support import factories

OTHER: Final = "acc_other"
PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - it protects nothing
BROWSER: Final = "a-browser"
CLIENT: Final = Client("127.0.0.0/24", "Firefox on Linux")


@dataclass(frozen=True)
class TestPerson:
    """A person with credentials: what they know, and the token of their first session."""

    __test__ = False

    id: str
    email: str
    secret: str
    token: str
    recovery_codes: Collection[str]

    def code(self, runtime: Runtime, *, steps: int = 1) -> str:
        """Return the code of the authenticator app, `steps` after now: the present one is used already."""
        return generate_code(self.secret, shifted(read_now(runtime), steps))


def sign_in_client(
    client: httpx.Client, runtime: Runtime, *roles: str, account: str = factories.ACCOUNT, mode: Mode = "live"
) -> TestPerson:
    """Sign in a new person in the client's browser, and return the person."""
    person = add_person(runtime, *roles, email=f"{secrets.token_hex(4)}@maple.example", account=account, mode=mode)
    client.cookies.set(cookie_name(runtime.settings), person.token, domain=client.base_url.host)
    return person


def generate_code(secret: str, now: datetime) -> str:
    """Return the code of an authenticator app at the instant."""
    # Authenticator apps know only SHA-1.
    return TOTP(b32decode(secret), 6, SHA1(), 30).generate(int(now.timestamp())).decode()  # noqa: S303


def read_now(runtime: Runtime) -> datetime:
    """Return the database's time."""
    with runtime.db.read() as session:
        now: datetime = session.execute(select(database_now())).scalar_one()
    return now


def shifted(now: datetime, steps: int) -> datetime:
    """Return the instant `steps` time steps after `now`."""
    return datetime.fromtimestamp(now.timestamp() + steps * credentials.STEP_SECONDS, now.tzinfo)


def add_person(
    runtime: Runtime,
    *roles: str,
    email: str = "anna@maple.example",
    account: str = factories.ACCOUNT,
    mode: Mode = "live",
) -> TestPerson:
    """Invite a person, by default an administrator, and follow the link: set a password and TOTP."""
    with tenancy.account_scope(ALL_ACCOUNTS):
        invitation = people.invite_person(runtime, account, "cli", email=email, roles=roles or (ADMIN,), mode=mode)
        return use_link(runtime, invitation)


def use_link(runtime: Runtime, link: people.Invitation) -> TestPerson:
    """Follow a one-time link: set a password and TOTP, and sign in."""
    secret = credentials.derive_totp_secret(runtime.settings, hash_token(link.token), BROWSER)
    made = sign_in.set_up_credentials(
        runtime,
        link.token,
        password=PASSWORD,
        code=generate_code(secret, read_now(runtime)),
        client=CLIENT,
        browser=BROWSER,
    )
    return TestPerson(link.person_id, link.email, secret, made.signed_in.token, made.recovery_codes)


def try_sign_in(runtime: Runtime, person: TestPerson, **changes: Any) -> str:
    """Sign in by password and the next code, with `changes`, and return the token."""
    given: dict[str, Any] = {
        "email": person.email,
        "password": PASSWORD,
        "code": person.code(runtime),
        "client": CLIENT,
    } | changes
    return sign_in.sign_in_by_password(runtime, **given).token


def find(runtime: Runtime, token: str) -> Caller:
    """Return the caller of the session."""
    return sessions.find_caller_by_session(runtime, token)


def read_actions(runtime: Runtime, account: str = factories.ACCOUNT) -> list[str]:
    """Return the actions of the account's audit trail, oldest first."""
    with runtime.db.read() as session:
        return [each.action for each in list_acts(session, account, limit=200).items][::-1]


def age(runtime: Runtime, model: Any, **columns: datetime) -> None:
    """Set instants in all rows of a table, as if time had passed."""
    with runtime.db.write() as session:
        session.execute(update(model).values(**columns))
