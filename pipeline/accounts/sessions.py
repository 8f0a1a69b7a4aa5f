"""Sessions of people: started at sign-in, checked at each request, listed and ended."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final, cast

from sqlalchemy import ColumnElement, Select, delete, insert, select, update
from sqlmodel import Session, col

from pipeline.accounts.api_keys import Caller, Identity, Mode
from pipeline.accounts.models import Membership, Person, SignedInSession
from pipeline.core import tenancy
from pipeline.core.db import database_now, row_count, statement_now
from pipeline.core.errors import NotFound, SignInFailed
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.audit_trail import Action, record_act

#: A session ends when it was not used for so long, and at the latest after its lifetime.
IDLE_SECONDS: Final = 2 * 3600
LIFETIME_SECONDS: Final = 12 * 3600
#: `seen_at` is written at most this often.
SEEN_PRECISION_SECONDS: Final = 60.0

#: How long an ended session is kept; the audit trail keeps what was done in it.
_KEPT_SECONDS: Final = 30 * 24 * 3600
_MAX_LISTED: Final = 200
_TOKEN_BYTES: Final = 32
_UNKNOWN: Final = "unknown"

_BROWSERS: Final = (
    ("Edge", "Edg"),
    ("Opera", "OPR/"),
    ("Firefox", "Firefox/"),
    ("Chrome", "Chrome/"),
    ("Safari", "Safari/"),
)
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("macOS", "Mac OS X"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True)
class Client:
    """Where a session comes from, as far as it is kept: a network, and a browser with its system."""

    address: str
    agent: str


@dataclass(frozen=True)
class SessionView:
    """A session that lasts."""

    id: str
    person_id: str
    email: str
    name: str
    account_id: str
    method: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime


def describe_client(address: str | None, user_agent: str) -> Client:
    """Return the client with its address cut to the network, and its user agent to the browser and system."""
    browser = next((name for name, mark in _BROWSERS if mark in user_agent), None)
    system = next((name for name, mark in _SYSTEMS if mark in user_agent), None)
    agent = " on ".join(each for each in (browser, system) if each) or _UNKNOWN
    return Client(find_network(address), agent)


def find_network(address: str | None) -> str:
    """Return the network that an address belongs to, as of one household or office; `unknown` for another text."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return _UNKNOWN
    mapped = getattr(parsed, "ipv4_mapped", None)
    kept = 24 if isinstance(mapped or parsed, IPv4Address) else 48
    return str(ip_network(f"{mapped or parsed}/{kept}", strict=False))


def start_session(
    session: Session, person_id: str, account_id: str, method: str, client: Client, *, id_token: str | None = None
) -> str:
    """Start a session on the account, in the caller's transaction, and record it; return its token, the only copy.

    `id_token` is that of an OpenID provider, encrypted.
    """
    token, session_id = secrets.token_urlsafe(_TOKEN_BYTES), new_id("ses")
    forgotten = delete(SignedInSession).where(col(SignedInSession.expires_at) < statement_now(-_KEPT_SECONDS))
    session.execute(forgotten)
    session.execute(
        insert(SignedInSession).values(
            id=session_id,
            token_hash=hash_token(token),
            person_id=person_id,
            account_id=account_id,
            method=method,
            address=client.address,
            agent=client.agent,
            id_token=id_token,
            expires_at=database_now(LIFETIME_SECONDS),
        )
    )
    detail = {"method": method, "address": client.address, "agent": client.agent}
    record_act(session, account_id, person_id, Action.SIGNED_IN, session_id, detail)
    return token


def hash_token(token: str) -> str:
    """Return what is stored of a token. A fast hash is enough for 256 random bits."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def find_caller_by_session(runtime: Runtime, token: str, *, touch: bool = True) -> Caller:
    """Return the caller of a session that lasts, with the roles that the person has now; `touch` records its use.

    Raises SignInFailed if there is none: it has ended, or the person was disabled or removed from the account.
    """
    query = (
        select(
            col(SignedInSession.id),
            col(SignedInSession.account_id),
            col(SignedInSession.person_id),
            (col(SignedInSession.seen_at) <= database_now(-SEEN_PRECISION_SECONDS)).label("unseen"),
            col(Person.email),
            col(Person.name),
            col(Membership.mode),
            col(Membership.roles),
        )
        .join(Person, col(Person.id) == col(SignedInSession.person_id))
        .join(
            Membership,
            (col(Membership.person_id) == col(SignedInSession.person_id))
            & (col(Membership.account_id) == col(SignedInSession.account_id)),
        )
        .where(
            col(SignedInSession.token_hash) == hash_token(token),
            col(Person.disabled_at).is_(None),
            col(Membership.joined_at).is_not(None),
            *_lasts(),
        )
    )
    with tenancy.account_scope(ALL_ACCOUNTS):
        with runtime.db.read() as session:
            row = session.execute(query).one_or_none()
        if row is None:
            raise SignInFailed("your session has ended; sign in again")
        if touch and row.unseen:
            with runtime.db.write() as session:
                seen = update(SignedInSession).where(col(SignedInSession.id) == row.id)
                session.execute(seen.values(seen_at=database_now()))
    identity = Identity(row.email, row.name, row.id)
    return Caller(row.account_id, row.person_id, cast("Mode", row.mode), frozenset(row.roles), identity)


def list_sessions(
    session: Session, *, person_id: str | None = None, account_id: str | None = None, test_only: bool = False
) -> Sequence[SessionView]:
    """Return the newest sessions that last: of a person, on an account, or of a person on an account.

    With `test_only`, those of the account's people who may act only on test exports.
    """
    wanted = [*_lasts()]
    if person_id is not None:
        wanted.append(col(SignedInSession.person_id) == person_id)
    if account_id is not None:
        wanted.append(col(SignedInSession.account_id) == account_id)
        if test_only:
            wanted.append(col(SignedInSession.person_id).in_(_select_test_people(account_id)))
    found = session.execute(
        select(SignedInSession, col(Person.email), col(Person.name))
        .join(Person, col(Person.id) == col(SignedInSession.person_id))
        .where(*wanted)
        .order_by(col(SignedInSession.id).desc())
        .limit(_MAX_LISTED)
    )
    return [
        SessionView(
            id=row.id,
            person_id=row.person_id,
            email=email,
            name=name,
            account_id=row.account_id,
            method=row.method,
            address=row.address,
            agent=row.agent,
            created_at=row.created_at,
            seen_at=row.seen_at,
        )
        for row, email, name in found
    ]


def end_session(runtime: Runtime, caller: Caller, session_id: str, *, of_account: bool = False) -> None:
    """End one of the caller's own sessions, or with `of_account` any session on the caller's account.

    Raises NotFound if the session is unknown or has ended, or if the caller may act only on test exports, and the person
    of the session on live ones.
    """
    wanted = [col(SignedInSession.id) == session_id, *_lasts()]
    if of_account:
        wanted.append(col(SignedInSession.account_id) == caller.account_id)
        if caller.test:
            wanted.append(col(SignedInSession.person_id).in_(_select_test_people(caller.account_id)))
    else:
        wanted.append(col(SignedInSession.person_id) == caller.actor)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        ended = end_sessions(session, *wanted)
        if not ended:
            raise NotFound("there is no such session, or it has ended")
        own = caller.person is not None and caller.person.session_id == session_id
        for account_id in ended:
            action = Action.SIGNED_OUT if own else Action.SESSION_ENDED
            record_act(session, account_id, caller.actor, action, session_id)


def end_sessions(session: Session, *wanted: ColumnElement[bool]) -> list[str]:
    """End the sessions that fulfil the conditions, in the caller's transaction; return the account of each."""
    ending = (
        update(SignedInSession)
        .where(col(SignedInSession.ended_at).is_(None), *wanted)
        .values(ended_at=database_now(), id_token=None)
        .returning(col(SignedInSession.account_id))
    )
    return list(session.scalars(ending).all())


def enter_account(runtime: Runtime, caller: Caller, account_id: str) -> None:
    """Let the caller's session act on another account of the person. Raises NotFound if the person is not a member."""
    if caller.person is None:
        raise NotFound("a key belongs to one account")
    is_member = select(col(Membership.person_id)).where(
        col(Membership.account_id) == account_id,
        col(Membership.person_id) == caller.actor,
        col(Membership.joined_at).is_not(None),
    )
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        if session.execute(is_member).one_or_none() is None:
            raise NotFound(f"you are not a member of an account {account_id}")
        changed = update(SignedInSession).where(
            col(SignedInSession.id) == caller.person.session_id, col(SignedInSession.ended_at).is_(None)
        )
        if row_count(session.execute(changed.values(account_id=account_id))):
            record_act(session, account_id, caller.actor, Action.ACCOUNT_ENTERED, caller.person.session_id)


def end_replaced_session(runtime: Runtime, token: str) -> None:
    """End the session that a browser had before it signed in again, if it lasts, and record it."""
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        replaced = session.execute(
            select(col(SignedInSession.id), col(SignedInSession.account_id), col(SignedInSession.person_id)).where(
                col(SignedInSession.token_hash) == hash_token(token), *_lasts()
            )
        ).one_or_none()
        if replaced is not None and end_sessions(session, col(SignedInSession.id) == replaced.id):
            record_act(session, replaced.account_id, replaced.person_id, Action.SIGNED_OUT, replaced.id)


def _select_test_people(account_id: str) -> Select[str]:
    return select(col(Membership.person_id)).where(
        col(Membership.account_id) == account_id, col(Membership.mode) == "test"
    )


def _lasts() -> Sequence[ColumnElement[bool]]:
    return (
        col(SignedInSession.ended_at).is_(None),
        col(SignedInSession.expires_at) > database_now(),
        col(SignedInSession.seen_at) > database_now(-IDLE_SECONDS),
    )
