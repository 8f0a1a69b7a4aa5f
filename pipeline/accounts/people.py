"""People and their memberships of accounts: invitations by one-time links, roles, removal."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from sqlalchemy import and_, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from pipeline.accounts.api_keys import ADMIN, ROLES, Caller, Mode
from pipeline.accounts.domains import PEOPLE, check_domain
from pipeline.accounts.models import ApiKey, Credential, Membership, Partner, Person, PortalLink, SignedInSession
from pipeline.accounts.one_time_links import Purpose, end_links, write_link
from pipeline.accounts.sessions import end_sessions
from pipeline.core import tenancy
from pipeline.core.db import database_now, row_count
from pipeline.core.errors import InsufficientRole, InvalidState, NotFound, ValidationFailed
from pipeline.core.field_types import check_printable
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.core.text_safety import check_readable
from pipeline.exports.audit_trail import COMMAND_LINE, PORTAL_PREFIX, PROVIDER, Action, record_act
from pipeline.exports.models import Account

#: The ids of people begin with it; those of keys have no `_`.
PERSON_PREFIX: Final = "per_"

MAX_MEMBERS_LISTED: Final = 500

_EMAIL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_MAX_EMAIL: Final = 254
_MAX_NAME: Final = 100


@dataclass(frozen=True)
class Member:
    """A person of an account."""

    person_id: str
    email: str
    name: str
    mode: Mode
    roles: Sequence[str]
    invited_at: datetime
    joined_at: datetime | None
    disabled_at: datetime | None


@dataclass(frozen=True)
class Invitation:
    """A person with a new one-time link; `token` is its only copy."""

    person_id: str
    email: str
    token: str


def is_email(text: str) -> bool:
    """Return whether the text is an e-mail address of ASCII characters."""
    return len(text) <= _MAX_EMAIL and _EMAIL.fullmatch(text) is not None


def normalize_email(email: str) -> str:
    """Return the e-mail address in lower case. Raises ValidationFailed if it is none."""
    text = email.strip()
    # Checked first: some letters that are not ASCII have a lower case that is, such as the Kelvin sign.
    if not is_email(text):
        raise ValidationFailed(
            "the e-mail address must be like anna@maple.example, in ASCII characters", field="/email"
        )
    return text.lower()


def invite_person(
    runtime: Runtime,
    account_id: str,
    actor: str,
    *,
    email: str,
    roles: Collection[str],
    name: str = "",
    mode: Mode = "live",
    purpose: Purpose = Purpose.JOIN,
    test_only: bool = False,
) -> Invitation:
    """Invite a person to the account and return the one-time link; an earlier link to the account ends.

    The command line may invite people of any domain. Raises ValidationFailed; NotFound for an unknown account;
    InvalidState if the person is a member; InsufficientRole if `test_only` and the person was invited to act on live
    exports.
    """
    address, wanted, shown = normalize_email(email), _check_roles(roles), check_name(name)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        if (account := session.get(Account, account_id)) is None:
            raise NotFound(f"there is no account {account_id}")
        if actor != COMMAND_LINE:
            check_domain(PEOPLE, account.people_domains, address, field="/email")
        person = write_person(session, address, shown)
        membership = session.get(Membership, (account_id, person.id))
        if membership is not None and membership.joined_at is not None and purpose is Purpose.JOIN:
            raise InvalidState(f"{address} is a member of {account_id} already; change the roles instead")
        if membership is None:
            membership = Membership(
                account_id=account_id, person_id=person.id, mode=mode, roles=wanted, invited_by=actor
            )
        else:
            _check_may_manage(membership, test_only=test_only)
            membership.roles, membership.mode = wanted, mode
        membership.invited_name = shown
        session.add(membership)
        session.flush()
        record_act(session, account_id, actor, Action.PERSON_INVITED, person.id, {"roles": wanted, "mode": mode})
        return Invitation(person.id, address, write_link(session, account_id, person.id, purpose))


def write_person(session: Session, email: str, name: str) -> Person:
    """Return the person with the e-mail address, created if there is none, and locked until the transaction ends."""
    kind = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    new = kind(Person).values(id=new_id("per"), email=email, name=name)
    session.execute(new.on_conflict_do_nothing(index_elements=["email"]))
    found: Person = session.execute(select(Person).where(col(Person.email) == email).with_for_update()).scalar_one()
    return found


def create_reset_link(
    runtime: Runtime, account_id: str, actor: str, person_id: str, *, of_operator: bool, test_only: bool = False
) -> Invitation:
    """Return a new one-time link by which a member joins or, if they have joined, sets new credentials.

    Raises NotFound; InvalidState if an administrator asks for somebody who has also joined another account: the holder of
    the link can act there too. Only `of_operator`, who has the command line, may do that: such a link also gives new
    credentials to a person who joins by it. Raises InsufficientRole if `test_only` and the person may act on live exports:
    the holder of the link could too.
    """
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        # A person who joins another account, which ends such links, waits for this transaction.
        _lock_person(session, person_id)
        person, membership = _load_member(session, account_id, person_id)
        _check_may_manage(membership, test_only=test_only)
        purpose = Purpose.JOIN if membership.joined_at is None else Purpose.RESET
        if of_operator:
            membership.invited_by = actor
            if session.get(Credential, person_id) is not None:
                purpose = Purpose.RESET
        elif purpose is Purpose.RESET and {*list_accounts_of(session, person_id)} != {account_id}:
            raise InvalidState(
                f"{person.email} also belongs to another account, so only the operator of this installation can help:"
                f" `exports people link --account {account_id} --email {person.email}`"
            )
        record_act(session, account_id, actor, Action.LINK_CREATED, person_id, {"purpose": purpose.value})
        return Invitation(person_id, person.email, write_link(session, account_id, person_id, purpose))


def list_members(session: Session, account_id: str) -> Sequence[Member]:
    """Return the people of the account by e-mail address, at most MAX_MEMBERS_LISTED."""
    found = session.execute(
        select(Person, Membership)
        .join(Membership, col(Membership.person_id) == col(Person.id))
        .where(col(Membership.account_id) == account_id)
        .order_by(col(Person.email))
        .limit(MAX_MEMBERS_LISTED)
    )
    return [build_member(person, membership) for person, membership in found]


def find_member(session: Session, account_id: str, *, email: str) -> Member:
    """Return the member with the e-mail address. Raises NotFound."""
    found = session.execute(
        select(Person, Membership)
        .join(Membership, col(Membership.person_id) == col(Person.id))
        .where(col(Membership.account_id) == account_id, col(Person.email) == email.strip().lower())
    ).one_or_none()
    if found is None:
        raise NotFound(f"{email} is not a person of account {account_id}")
    return build_member(*found)


def get_member(session: Session, account_id: str, person_id: str) -> Member:
    """Return the member with the id. Raises NotFound."""
    return build_member(*_load_member(session, account_id, person_id))


def list_accounts_of(session: Session, person_id: str) -> Sequence[str]:
    """Return the ids of the accounts that the person has joined."""
    joined = select(col(Membership.account_id)).where(
        col(Membership.person_id) == person_id, col(Membership.joined_at).is_not(None)
    )
    return session.scalars(joined.order_by(col(Membership.account_id))).all()


def find_member_caller(runtime: Runtime, account_id: str, person_id: str) -> Caller:
    """Return the person as a caller on the account, without a session. Raises NotFound if they may not act there."""
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        person, membership = _load_member(session, account_id, person_id)
    if person.disabled_at is not None or membership.joined_at is None:
        raise NotFound(f"{person_id} may not act on account {account_id}")
    return Caller(account_id, person_id, cast("Mode", membership.mode), frozenset(membership.roles))


def name_actors(session: Session, ids: Collection[str]) -> dict[str, str]:
    """Return the names of those ids that are people's or API keys'.

    A person has the name that the account of this context may see, or the e-mail address if there is none. A key is
    `API key` with its name. A portal link is the portal of the partner's name, with the link's id.
    """
    of_account = (col(Membership.person_id) == col(Person.id), col(Membership.account_id) == tenancy.current_account())
    found = session.execute(
        select(Person, Membership).join(Membership, and_(*of_account), isouter=True).where(col(Person.id).in_(ids))
    )
    names = {person.id: _shown_name(person, membership) or person.email for person, membership in found}
    keys = session.execute(select(col(ApiKey.id), col(ApiKey.name)).where(col(ApiKey.id).in_({*ids} - names.keys())))
    links = {each.removeprefix(PORTAL_PREFIX) for each in ids if each.startswith(PORTAL_PREFIX)}
    of_link = (col(Partner.account_id) == col(PortalLink.account_id), col(Partner.id) == col(PortalLink.partner_id))
    portals = session.execute(
        select(col(PortalLink.id), col(Partner.name)).join(Partner, and_(*of_link)).where(col(PortalLink.id).in_(links))
    )
    return (
        names
        | {row.id: f"API key {row.name or row.id}" for row in keys}
        | {f"{PORTAL_PREFIX}{row.id}": f"portal of {row.name} ({row.id})" for row in portals}
        | {COMMAND_LINE: "command line", PROVIDER: "OpenID provider"}
    )


def change_roles(runtime: Runtime, caller: Caller, person_id: str, roles: Collection[str]) -> None:
    """Give a member of the caller's account other roles; they apply to the next request of each session.

    Raises ValidationFailed; NotFound; InvalidState if no administrator would be left; InsufficientRole if the caller may
    act only on test exports, and the person on live ones.
    """
    wanted = _check_roles(roles)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        _, membership = _load_member(session, caller.account_id, person_id, lock=True)
        _check_may_manage(membership, test_only=caller.test)
        before = membership.roles
        if before == wanted:
            return
        if ADMIN in before and ADMIN not in wanted:
            _check_other_administrator(session, membership)
        membership.roles = wanted
        session.add(membership)
        session.flush()
        detail = {"from": before, "to": wanted}
        record_act(session, caller.account_id, caller.actor, Action.ROLES_CHANGED, person_id, detail)


def remove_person(runtime: Runtime, caller: Caller, person_id: str) -> None:
    """Remove a member from the caller's account, and end their sessions and links on it.

    Raises NotFound; InvalidState if no administrator would be left; InsufficientRole as `change_roles` does.
    """
    account_id = caller.account_id
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        _, membership = _load_member(session, account_id, person_id, lock=True)
        _check_may_manage(membership, test_only=caller.test)
        if ADMIN in membership.roles:
            _check_other_administrator(session, membership)
        end_access(session, membership)
        session.flush()
        record_act(session, account_id, caller.actor, Action.PERSON_REMOVED, person_id)


def end_access(session: Session, membership: Membership) -> None:
    """Delete the membership, and end the person's sessions and links on the account, in the caller's transaction."""
    account_id, person_id = membership.account_id, membership.person_id
    end_sessions(session, col(SignedInSession.person_id) == person_id, col(SignedInSession.account_id) == account_id)
    end_links(session, person_id, account_id=account_id)
    session.delete(membership)


def disable_person(runtime: Runtime, actor: str, email: str, *, disabled: bool = True) -> None:
    """Disable a person on all accounts, and end their sessions and links at once; or enable them again.

    Raises NotFound.
    """
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        person = session.execute(select(Person).where(col(Person.email) == email.strip().lower())).scalar_one_or_none()
        if person is None:
            raise NotFound(f"there is no person {email}")
        session.execute(
            update(Person).where(col(Person.id) == person.id).values(disabled_at=database_now() if disabled else None)
        )
        if disabled:
            end_sessions(session, col(SignedInSession.person_id) == person.id)
            end_links(session, person.id)
        accounts = select(col(Membership.account_id)).where(col(Membership.person_id) == person.id)
        for account_id in session.scalars(accounts.order_by(col(Membership.account_id))).all():
            action = Action.PERSON_DISABLED if disabled else Action.PERSON_ENABLED
            record_act(session, account_id, actor, action, person.id)


def join_account(session: Session, account_id: str, person_id: str) -> None:
    """Let the person act on the account from now on, in the caller's transaction, and record it.

    Links for new credentials end: an administrator of another account, who may hold one, must not act on this one.
    Raises NotFound if the invitation was withdrawn.
    """
    _lock_person(session, person_id)
    end_links(session, person_id, purpose=Purpose.RESET)
    joined = update(Membership).where(col(Membership.account_id) == account_id, col(Membership.person_id) == person_id)
    if not row_count(session.execute(joined.values(joined_at=func.coalesce(Membership.joined_at, database_now())))):
        raise NotFound(
            f"the invitation to {account_id} was withdrawn; ask an administrator of the account for a new one"
        )
    record_act(session, account_id, person_id, Action.PERSON_JOINED, person_id)


def _lock_person(session: Session, person_id: str) -> None:
    session.execute(select(col(Person.id)).where(col(Person.id) == person_id).with_for_update())


def _load_member(session: Session, account_id: str, person_id: str, *, lock: bool = False) -> tuple[Person, Membership]:
    if lock:
        # Two administrators who remove each other at the same time would leave none.
        session.execute(select(col(Account.id)).where(col(Account.id) == account_id).with_for_update())
    person, membership = session.get(Person, person_id), session.get(Membership, (account_id, person_id))
    if person is None or membership is None:
        raise NotFound(f"{person_id} is not a person of account {account_id}")
    return person, membership


def _check_may_manage(membership: Membership, *, test_only: bool) -> None:
    """Raise InsufficientRole if somebody who may act only on test exports would change who acts on live ones."""
    if test_only and membership.mode != "test":
        raise InsufficientRole(
            "you may act only on test exports, and this person also on live ones; ask an administrator who may do both"
        )


def _check_other_administrator(session: Session, membership: Membership) -> None:
    others = session.execute(
        select(col(Membership.roles))
        .join(Person, col(Person.id) == col(Membership.person_id))
        .where(
            col(Membership.account_id) == membership.account_id,
            col(Membership.person_id) != membership.person_id,
            # One who may act only on test exports cannot help on live ones.
            col(Membership.mode).in_(("live", membership.mode)),
            col(Membership.joined_at).is_not(None),
            col(Person.disabled_at).is_(None),
        )
    )
    if not any(ADMIN in roles for (roles,) in others):
        raise InvalidState("this is the last administrator of the account; make another person administrator first")


def _check_roles(roles: Collection[str]) -> list[str]:
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        named = f"{unknown[0]} is not a role" if unknown else "a person needs a role"
        raise ValidationFailed(f"{named}; give {', '.join(ROLES)}", field="/roles")
    return sorted(set(roles))


def check_name(name: str) -> str:
    """Return the name of a person without spaces at its ends; it may be empty. Raises ValidationFailed."""
    text = name.strip()
    if len(text) > _MAX_NAME:
        raise ValidationFailed(f"the name must have at most {_MAX_NAME} characters", field="/name")
    try:
        return check_readable(check_printable(text)) if text else ""
    except ValueError as error:
        raise ValidationFailed(f"the name {error}", field="/name") from error


def build_member(person: Person, membership: Membership) -> Member:
    """Return a person of an account from both rows."""
    return Member(
        person_id=person.id,
        email=person.email,
        name=_shown_name(person, membership),
        mode=cast("Mode", membership.mode),
        roles=membership.roles,
        invited_at=membership.invited_at,
        joined_at=membership.joined_at,
        disabled_at=person.disabled_at,
    )


def _shown_name(person: Person, membership: Membership | None) -> str:
    """Return the name that the account may see; empty without one.

    Another account may have chosen the name of a person who has not joined: then it is that of the own invitation.
    """
    if membership is None:
        return ""
    return (membership.invited_name or "") if membership.joined_at is None else person.name
