"""What the pages about people show: a person's own page, and the people of an account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pipeline.accounts.api_keys import ADMIN, EXECUTE, OPERATE, READ, Caller
from pipeline.accounts.credentials import CredentialView
from pipeline.accounts.people import Member
from pipeline.accounts.sessions import SessionView
from pipeline.exports.audit_trail import Action
from pipeline.exports.schemas.export import ActView
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.pages import Form

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


@dataclass(frozen=True)
class ShownMember:
    """A person of the account in a list."""

    link: str
    id: str
    name: str
    email: str
    roles: str
    state: str
    mark: str
    joined: bool


@dataclass(frozen=True)
class RoleChoice:
    """A role that a person may have, and what it allows."""

    role: str
    text: str
    chosen: bool


@dataclass(frozen=True)
class InvitationForm:
    """The form for inviting a person, with what was typed."""

    email: str
    name: str
    roles: Sequence[RoleChoice]
    test_only: bool


_ROLE_TEXTS: Final = {
    READ: "sees everything of the account",
    OPERATE: "also retries, cancels and resends",
    EXECUTE: "also executes plans",
    ADMIN: "does all of this, and manages partners, keys and people",
}


def show_member(member: Member) -> ShownMember:
    """Return a person for a list."""
    state, mark = format_instant(member.invited_at, "invited "), "busy"
    if member.disabled_at is not None:
        state, mark = format_instant(member.disabled_at, "disabled "), "bad"
    elif member.joined_at is not None:
        state, mark = format_instant(member.joined_at, "joined "), "good"
    return ShownMember(
        link=f"/console/people/{quote(member.person_id)}",
        id=member.person_id,
        name=member.name,
        email=member.email,
        roles=", ".join(member.roles) + (", only on test exports" if member.mode == "test" else ""),
        state=state,
        mark=mark,
        joined=member.joined_at is not None,
    )


def build_role_choices(chosen: Sequence[str]) -> Sequence[RoleChoice]:
    """Return every role, with those that are chosen."""
    return [RoleChoice(role, text, role in chosen) for role, text in _ROLE_TEXTS.items()]


def build_invitation_form(form: Form | None, caller: Caller) -> InvitationForm:
    """Return the form for an invitation, with what was typed."""
    typed = form or Form({})
    roles = build_role_choices(typed.get_all("role") if form else [READ])
    return InvitationForm(typed.get("email"), typed.get("name"), roles, caller.test)


@dataclass(frozen=True)
class ShownAct:
    """An act of the audit trail in a list."""

    seq: int
    when: str
    who: str
    who_link: str
    action: str
    subject: str
    subject_link: str
    detail: str


@dataclass(frozen=True)
class ActionChoice:
    """A choice of the filter by action."""

    value: str
    text: str
    chosen: bool


#: Members of an act's detail whose names do not say well what they are.
_DETAILS: Final = {"by": "superseded by"}


def show_act(act: ActView, names: Mapping[str, str]) -> ShownAct:
    """Return an act for a list; `names` are those of people, by id."""
    detail = ", ".join(f"{_DETAILS.get(key, key)}: {_format_detail(value)}" for key, value in act.detail.items())
    return ShownAct(
        seq=act.seq,
        when=format_instant(act.at),
        who=names.get(act.actor, act.actor),
        who_link=f"/console/audit?actor={quote(act.actor)}",
        action=act.action.replace("_", " "),
        subject=names.get(act.subject, act.subject),
        subject_link=("/console/exports/" if act.subject.startswith("exp_") else "/console/audit?subject=")
        + quote(act.subject, safe=""),
        detail=detail,
    )


def build_action_choices(chosen: Action | None) -> Sequence[ActionChoice]:
    """Return every action for the filter."""
    return [ActionChoice(each.value, each.value.replace("_", " "), each is chosen) for each in Action]


def _format_detail(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
