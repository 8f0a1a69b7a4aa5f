"""Sign-in of the person whom an OpenID provider has named: who it is here, and which accounts they join."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline.accounts import credentials, guessing
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.models import Credential, Membership, Person, SignedInSession
from pipeline.accounts.one_time_links import Purpose, end_links, load_link, spend_link
from pipeline.accounts.people import PERSON_PREFIX, check_name, join_account, list_accounts_of, write_person
from pipeline.accounts.provider_memberships import read_given_roles, write_given_roles
from pipeline.accounts.secrets import build_secret_box
from pipeline.accounts.sessions import Client, end_sessions, start_session
from pipeline.accounts.sign_in import SignedIn, choose_account
from pipeline.core import tenancy
from pipeline.core.errors import CredentialsInDoubt, InvalidState, SecretUnreadable, SignInFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.audit_trail import PROVIDER, Action, record_act

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProvenIdentity:
    """What an OpenID provider said about a person."""

    issuer: str
    subject: str
    email: str | None  # None if the provider has not verified it
    name: str = ""
    #: The values of the claim for roles; None if the provider sent no such claim.
    role_values: Sequence[str] | None = None
    id_token: str = ""


def sign_in_by_provider(
    runtime: Runtime,
    identity: ProvenIdentity,
    client: Client,
    *,
    link_token: str | None = None,
    replaces_password: bool = False,
) -> SignedIn:
    """Start a session for the person whom an OpenID provider has named.

    A person is known by issuer and subject. At the first sign-in it is the verified e-mail address of an invitation that
    counts, and only as long as the person has no credentials: another person may have made those. `replaces_password`
    ends such credentials if nobody but another account vouches for them. A person joins the account of the link that they
    opened. Without a link, only a person without any account joins the one that invited them.
    If the provider gives the roles, the person needs no invitation, and gets and loses memberships before.
    Raises SignInFailed in plain words, and NotFound if the link does not work any more.
    """
    if runtime.settings.oidc_roles.given:
        _update_roles(runtime, identity, replaces_password=replaces_password)
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        person = find_person(session, identity)
        is_new = person is None
        if person is None:
            person = _find_invited(session, identity, link_token, replaces_password=replaces_password)
        if person.disabled_at is not None:
            raise SignInFailed("your access was disabled; ask an administrator")
        account_id = _join_invited(session, person, link_token)
        if is_new:
            credentials.connect_provider(session, person.id, identity.issuer, identity.subject)
            record_act(session, account_id, person.id, Action.PROVIDER_CONNECTED, person.id)
        id_token = build_secret_box(runtime.settings).seal(identity.id_token, person.id)
        token = start_session(session, person.id, account_id, "provider", client, id_token=id_token)
        return SignedIn(token, guessing.create_device(runtime.settings, person.email))


def _update_roles(runtime: Runtime, identity: ProvenIdentity, *, replaces_password: bool) -> None:
    """Make the person's memberships those that the provider gives, in a transaction of its own.

    Raises SignInFailed if it gives none. The person has lost the memberships then.
    """
    settings = runtime.settings
    given = read_given_roles(settings.oidc_roles.given, identity.role_values or ())
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        person = find_person(session, identity)
        if person is None and given:
            person = _create_person(session, identity, given, replaces_password=replaces_password)
        if person is not None and person.disabled_at is None:
            write_given_roles(session, person.id, settings.oidc_roles.given, given)
    if not given:
        found = None if identity.role_values is None else len(identity.role_values)
        log.warning("provider_gives_no_role", claim=settings.oidc_roles_claim, values=found)
        lacks = (
            f"did not send the claim {settings.oidc_roles_claim}, which says what you may do here"
            if identity.role_values is None
            else "gives you no role here"
        )
        raise SignInFailed(f"your OpenID provider {lacks}; ask an administrator of the provider")


def _create_person(
    session: Session, identity: ProvenIdentity, given: Collection[str], *, replaces_password: bool
) -> Person:
    """Return the person of the provider's verified address, created if there is none. Raises SignInFailed."""
    if identity.email is None:
        raise SignInFailed("your provider has not verified your e-mail address, which names you here")
    try:
        name = check_name(identity.name)
    except ValidationFailed:
        name = ""
    person = write_person(session, identity.email, name)
    _end_doubtful_credentials(session, person, given, replaces_password=replaces_password)
    if person.disabled_at is None:
        credentials.connect_provider(session, person.id, identity.issuer, identity.subject)
    return person


def _end_doubtful_credentials(
    session: Session, person: Person, wanted: Collection[str], *, replaces_password: bool
) -> None:
    """End credentials that only administrators of accounts which the person has joined vouch for.

    Such an administrator may have opened the invitation in the person's place, so that the person cannot join `wanted`,
    and have connected an identity of their own: beside a password, the provider's identity and roles vouch for nothing.
    The memberships become invitations again: the provider speaks for the person, not for those accounts.
    Raises SignInFailed if the provider or the operator vouches for the credentials, or the person wants to join no other
    account; CredentialsInDoubt unless `replaces_password`.
    """
    credential = session.get(Credential, person.id)
    if credential is None:
        return
    joined = session.scalars(
        select(Membership).where(
            col(Membership.person_id) == person.id,
            col(Membership.joined_at).is_not(None),
            col(Membership.invited_by) != PROVIDER,
        )
    ).all()
    is_vouched_for = credential.password_hash is None or any(
        not each.invited_by.startswith(PERSON_PREFIX) for each in joined
    )
    if is_vouched_for or {*wanted} <= {each.account_id for each in joined}:
        raise SignInFailed(
            f"{person.email} signs in in another way; sign in so, then connect your provider on your own page"
        )
    if not replaces_password:
        raise CredentialsInDoubt(
            f"{person.email} has a password. If you set it, sign in with it, and connect your provider on your own page."
            " If you did not, an administrator of another account may have set it: end it"
        )
    credentials.delete_credentials(session, person.id)
    end_links(session, person.id, purpose=Purpose.RESET)
    end_sessions(session, col(SignedInSession.person_id) == person.id)
    session.execute(update(Membership).where(col(Membership.person_id) == person.id).values(joined_at=None))
    for each in joined:
        record_act(session, each.account_id, PROVIDER, Action.CREDENTIALS_ENDED, person.id)


def read_id_token(runtime: Runtime, caller: Caller) -> str | None:
    """Return the ID token of the caller's session, empty if no key opens it. None if the session is not by a provider."""
    if caller.person is None:
        return None
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        sealed = session.scalar(
            select(col(SignedInSession.id_token)).where(col(SignedInSession.id) == caller.person.session_id)
        )
    if sealed is None:
        return None
    try:
        return build_secret_box(runtime.settings).open(sealed, caller.actor)
    except SecretUnreadable:
        return ""


def find_person(session: Session, identity: ProvenIdentity) -> Person | None:
    """Return the person who is known by issuer and subject. None if there is none."""
    known = (
        select(Person)
        .join(Credential, col(Credential.person_id) == col(Person.id))
        .where(col(Credential.issuer) == identity.issuer, col(Credential.subject) == identity.subject)
    )
    return session.execute(known).scalar_one_or_none()


def connect_own_provider(session: Session, caller: Caller, identity: ProvenIdentity) -> None:
    """Let the caller also sign in by the OpenID provider, and record it. Raises InvalidState if another person does."""
    taken = find_person(session, identity)
    if taken is not None and taken.id != caller.actor:
        raise InvalidState("another person of this installation signs in with that account of your provider")
    credentials.connect_provider(session, caller.actor, identity.issuer, identity.subject)
    for account_id in sorted({caller.account_id, *list_accounts_of(session, caller.actor)}):
        record_act(session, account_id, caller.actor, Action.PROVIDER_CONNECTED, caller.actor)


def _find_invited(
    session: Session, identity: ProvenIdentity, link_token: str | None, *, replaces_password: bool
) -> Person:
    """Return the person without credentials whom the provider's address names. Raises SignInFailed."""
    if identity.email is None:
        raise SignInFailed("your provider has not verified your e-mail address, so no invitation can be found for it")
    person: Person | None = session.scalar(select(Person).where(col(Person.email) == identity.email).with_for_update())
    if person is None:
        raise SignInFailed(f"{identity.email} was not invited; ask an administrator for an invitation")
    wanted = [] if link_token is None else [load_link(session, link_token).account_id]
    _end_doubtful_credentials(session, person, wanted, replaces_password=replaces_password)
    return person


def _join_invited(session: Session, person: Person, link_token: str | None) -> str:
    """Let the person join the account that invited them, and return the account of the new session.

    Only a link shows that the person wants to join one more account: anybody can invite anybody.
    """
    if link_token is not None:
        link = load_link(session, link_token)
        if link.person_id != person.id or link.purpose is not Purpose.JOIN:
            raise SignInFailed(f"the link is for {link.email}; your provider signed in another person")
        spend_link(session, link)
        join_account(session, link.account_id, person.id)
        return link.account_id
    if not list_accounts_of(session, person.id):
        invited = select(col(Membership.account_id)).where(col(Membership.person_id) == person.id)
        accounts = session.scalars(invited).all()
        if len(accounts) > 1:
            raise SignInFailed("several accounts have invited you; open the link of the one that you want to join")
        for account_id in accounts:
            join_account(session, account_id, person.id)
    return choose_account(session, person.id)
