"""What the pages about people show: a person's own page, and the people of an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.accounts.api_keys import Caller
from pipeline.accounts.credentials import CredentialView
from pipeline.accounts.sessions import SessionView
from pipeline.interfaces.console.instants import format_instant

_METHODS: Final = {"provider": "OpenID provider", "link": "one-time link"}


@dataclass(frozen=True)
class ShownSession:
    """A session in a list."""

    id: str
    who: str
    where: str
    account: str
    method: str
    began: str
    seen: str
    own: bool


@dataclass(frozen=True)
class ShownAccount:
    """An account of the person; `entered` is the one of this session."""

    id: str
    entered: bool


@dataclass(frozen=True)
class OwnPage:
    """The page of the person who is signed in."""

    name: str
    email: str
    roles: str
    test: bool
    accounts: Sequence[ShownAccount]
    sessions: Sequence[ShownSession]
    has_password: bool
    has_provider: bool
    recovery_codes: int


def build_own_page(
    caller: Caller, *, accounts: Sequence[str], found: Sequence[SessionView], credential: CredentialView
) -> OwnPage:
    """Return the page of the caller, who is a person."""
    person = caller.person
    return OwnPage(
        name="" if person is None else person.name,
        email="" if person is None else person.email,
        roles=", ".join(sorted(caller.roles)),
        test=caller.test,
        accounts=[ShownAccount(each, each == caller.account_id) for each in accounts],
        sessions=[show_session(each, caller) for each in found],
        has_password=credential.has_password,
        has_provider=credential.has_provider,
        recovery_codes=credential.recovery_codes,
    )


def show_session(view: SessionView, caller: Caller) -> ShownSession:
    """Return a session for a list."""
    return ShownSession(
        id=view.id,
        who=view.name or view.email,
        where=f"{view.agent}, {view.address}",
        account=view.account_id,
        method=_METHODS.get(view.method, f"{view.method} and code"),
        began=format_instant(view.created_at),
        seen=format_instant(view.seen_at),
        own=caller.person is not None and caller.person.session_id == view.id,
    )
