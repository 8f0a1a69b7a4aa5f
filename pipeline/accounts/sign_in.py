"""How a person signs in: by password and code, by a one-time link, or by an OpenID provider."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline.accounts import credentials, guessing
from pipeline.accounts.api_keys import Caller, Identity
from pipeline.accounts.models import Credential, Person, SignedInSession
from pipeline.accounts.one_time_links import LinkView, Purpose, load_link, spend_link
from pipeline.accounts.people import is_email, join_account, list_accounts_of
from pipeline.accounts.sessions import Client, end_sessions, start_session
from pipeline.core import tenancy
from pipeline.core.db import database_now
from pipeline.core.errors import InvalidState, SignInFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.audit_trail import Action, record_act

log = structlog.get_logger(__name__)

#: The same for an unknown person, a wrong password and a wrong code, so that it reveals nothing.
_WRONG: Final = (
    "the e-mail address, the password or the code is wrong. A code works once: wait for the next one."
    " If you have no password yet, ask an administrator for a link"
)


@dataclass(frozen=True)
class SignedIn:
    """A new session's token, its only copy, and the mark for the browser."""

    token: str
    device: str


@dataclass(frozen=True)
class SetUp:
    """A new session with the recovery codes of new credentials."""

    signed_in: SignedIn
    recovery_codes: Sequence[str]


def sign_in_by_password(
    runtime: Runtime, *, email: str, password: str, code: str, client: Client, device: str | None = None
) -> SignedIn:
    """Check the password with a TOTP or recovery code and start a session.

    Raises SignInFailed with the same message whatever was wrong, and RateLimited after too many failures.
    """
    address = email.strip().lower()
    counters = guessing.choose_counters(runtime.settings, address, client.address, device)
    with tenancy.account_scope(ALL_ACCOUNTS):
        with runtime.db.write() as session:
            guessing.take_attempt(session, counters)
            found = session.execute(
                select(Person, Credential)
                .join(Credential, col(Credential.person_id) == col(Person.id))
                # No database accepts every character.
                .where(col(Person.email) == (address if is_email(address) else ""), col(Person.disabled_at).is_(None))
            ).one_or_none()
        person, credential = (None, None) if found is None else (found[0], found[1])
        is_right = credentials.is_password(None if credential is None else credential.password_hash, password)
        with runtime.db.write() as session:
            if (
                is_right
                and person is not None
                and credential is not None
                and _is_current(session, credential)
                and _use_code(session, runtime, credential, code)
            ):
                if runtime.settings.oidc_roles.given and credential.subject is not None:
                    # A password must not keep the roles that the provider takes away.
                    raise SignInFailed("your OpenID provider says what you may do here; sign in with it")
                guessing.forget_attempts(session, counters)
                token = start_session(session, person.id, choose_account(session, person.id), "password", client)
                return SignedIn(token, guessing.create_device(runtime.settings, address))
            _record_failure(session, None if person is None else person.id, client, counters)
    raise SignInFailed(_WRONG)


def set_up_credentials(
    runtime: Runtime, token: str, *, password: str, code: str, client: Client, browser: str
) -> SetUp:
    """Give the person of a one-time link a password and TOTP, let them join the account, and start a session.

    `browser` is the random mark of the browser that showed the TOTP secret.
    Raises NotFound if the link does not work any more, ValidationFailed for a weak password or a wrong code, InvalidState
    if the person has credentials and the link is only an invitation: then `accept_invitation` applies.
    """
    with tenancy.account_scope(ALL_ACCOUNTS):
        with runtime.db.read() as session:
            link = load_link(session, token)
            now: datetime = session.execute(select(database_now())).scalar_one()
        if link.purpose is Purpose.ENTER:
            raise InvalidState("this link signs in by itself; it sets no password")
        credentials.check_password(password, known=(link.email, link.name))
        secret = credentials.derive_totp_secret(runtime.settings, link.token_hash, browser)
        step = credentials.find_totp_step(secret, code, now)
        if step is None:
            raise ValidationFailed(
                "the code is not the one that your app shows now; scan the picture again, and check this device's clock",
                field="/code",
            )
        password_hash = credentials.hash_password(password)
        with runtime.db.write() as session:
            spend_link(session, link)
            # After the code was checked: otherwise a try would say whether the person has credentials.
            if link.purpose is Purpose.JOIN and session.get(Credential, link.person_id) is not None:
                raise InvalidState(
                    f"{link.email} signs in here already; join with that password and code. If you did not set them, ask the"
                    " operator of this installation for new ones:"
                    f" `exports people link --account {link.account_id} --email {link.email}`"
                )
            codes = credentials.store_password(session, runtime.settings, link.person_id, password_hash, secret, step)
            if link.purpose is Purpose.RESET:
                end_sessions(session, col(SignedInSession.person_id) == link.person_id)
            _record_credentials(session, link.person_id, link.account_id)
            if link.account_id not in list_accounts_of(session, link.person_id):
                join_account(session, link.account_id, link.person_id)
            session_token = start_session(session, link.person_id, link.account_id, "password", client)
    return SetUp(SignedIn(session_token, guessing.create_device(runtime.settings, link.email)), codes)


def accept_invitation(runtime: Runtime, token: str, caller: Caller) -> LinkView:
    """Let the person who is signed in join the account of the link, and return it.

    Raises NotFound if the link does not work any more, InvalidState if it belongs to another person.
    """
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        link = load_link(session, token)
        if link.person_id != caller.actor or link.purpose is not Purpose.JOIN:
            raise InvalidState(f"this link is for {link.email}; sign in as that person first")
        spend_link(session, link)
        join_account(session, link.account_id, link.person_id)
    return link


def enter_by_link(runtime: Runtime, token: str, client: Client) -> SignedIn:
    """Start a session by a link that needs no credentials. Raises NotFound, InvalidState for another link."""
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        link = load_link(session, token)
        if link.purpose is not Purpose.ENTER:
            raise InvalidState("this link does not sign in by itself; set a password first")
        spend_link(session, link)
        join_account(session, link.account_id, link.person_id)
        session_token = start_session(session, link.person_id, link.account_id, "link", client)
    return SignedIn(session_token, guessing.create_device(runtime.settings, link.email))


def change_password(runtime: Runtime, caller: Caller, *, password: str, code: str, new_password: str) -> None:
    """Replace the caller's password, and end all of the caller's other sessions.

    Raises SignInFailed if the password or the code is wrong, RateLimited, ValidationFailed for a weak new password.
    """
    person = _require_person(caller)
    credentials.check_password(new_password, known=(person.email, person.name))
    new_hash = credentials.hash_password(new_password)
    with prove_again(runtime, caller, password, code) as session:
        session.execute(
            update(Credential)
            .where(col(Credential.person_id) == caller.actor)
            .values(password_hash=new_hash, changed_at=database_now())
        )
        others = (col(SignedInSession.person_id) == caller.actor, col(SignedInSession.id) != person.session_id)
        ended = end_sessions(session, *others)
        _record_credentials(session, caller.actor, caller.account_id, sessionsEnded=len(ended))


def create_recovery_codes(runtime: Runtime, caller: Caller, *, password: str, code: str) -> Sequence[str]:
    """Replace the caller's recovery codes and return the new ones, the only copy.

    Raises SignInFailed if the password or the code is wrong, RateLimited.
    """
    with prove_again(runtime, caller, password, code) as session:
        codes = credentials.replace_recovery_codes(session, caller.actor)
        record_act(session, caller.account_id, caller.actor, Action.RECOVERY_CODES_CREATED, caller.actor)
    return codes


def _require_person(caller: Caller) -> Identity:
    if caller.person is None:
        raise SignInFailed("a key has no password")
    return caller.person


@contextmanager
def prove_again(runtime: Runtime, caller: Caller, password: str, code: str) -> Iterator[Session]:
    """Yield a transaction after the caller has proven again who they are. Raises SignInFailed, RateLimited."""
    _require_person(caller)
    counters = (guessing.Counter(f"person:{caller.actor}", guessing.FREE_OF_PERSON),)
    with tenancy.account_scope(ALL_ACCOUNTS):
        with runtime.db.write() as session:
            guessing.take_attempt(session, counters)
            credential = session.get(Credential, caller.actor)
        is_right = credentials.is_password(None if credential is None else credential.password_hash, password)
        with runtime.db.write() as session:
            if (
                credential is not None
                and is_right
                and _is_current(session, credential)
                and _use_code(session, runtime, credential, code)
            ):
                guessing.forget_attempts(session, counters)
                yield session
                return
            detail = {"session": "" if caller.person is None else caller.person.session_id}
            record_act(session, caller.account_id, caller.actor, Action.SIGN_IN_FAILED, caller.actor, detail)
    raise SignInFailed("the password or the code is wrong; a code works once, so wait for the next one")


def _is_current(session: Session, credential: Credential) -> bool:
    """Return whether the password is still that of `credential`, which was read before it was checked."""
    current = session.get(Credential, credential.person_id)
    return current is not None and current.password_hash == credential.password_hash


def _use_code(session: Session, runtime: Runtime, credential: Credential, code: str) -> bool:
    now: datetime = session.execute(select(database_now())).scalar_one()
    return credentials.use_code(session, runtime.settings, credential, code, now)


def _record_credentials(session: Session, person_id: str, account_id: str, **detail: object) -> None:
    """Record new credentials on this account and on all others of the person: they hold there too."""
    for each in sorted({account_id, *list_accounts_of(session, person_id)}):
        record_act(session, each, person_id, Action.CREDENTIALS_SET, person_id, detail)


def choose_account(session: Session, person_id: str) -> str:
    """Return the account of the person's last session, or the first one. Raises SignInFailed if there is none."""
    joined = list_accounts_of(session, person_id)
    if not joined:
        raise SignInFailed("you are not a member of any account; ask an administrator for an invitation")
    last: str | None = session.scalar(
        select(col(SignedInSession.account_id))
        .where(col(SignedInSession.person_id) == person_id)
        .order_by(col(SignedInSession.id).desc())
        .limit(1)
    )
    return last if last is not None and last in joined else joined[0]


def _record_failure(
    session: Session, person_id: str | None, client: Client, counters: Sequence[guessing.Counter]
) -> None:
    """Record a failed sign-in in the trails of the person's accounts."""
    log.warning("sign_in_failed", person_id=person_id, network=client.address)
    # Without this write, the answer for an unknown person would come sooner.
    guessing.touch(session, counters[0])
    if person_id is None:
        return
    detail = {"address": client.address, "agent": client.agent}
    for account_id in list_accounts_of(session, person_id):
        record_act(session, account_id, person_id, Action.SIGN_IN_FAILED, person_id, detail)
