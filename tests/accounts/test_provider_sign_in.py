"""Sign-in by an OpenID provider: who is known, which account they join, and that no address alone opens an account."""

import pytest

from pipeline.accounts import people, provider_sign_in, sessions
from pipeline.accounts.provider_sign_in import ProvenIdentity
from pipeline.core import tenancy
from pipeline.core.errors import CredentialsInDoubt, InvalidState, NotFound, SignInFailed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from tests.support import factories
from tests.support.people import CLIENT, OTHER, TestPerson, add_person, find, read_actions, try_sign_in, use_link

ISSUER = "https://id.example"
EMAIL = "anna@maple.example"


@pytest.fixture
def runtime(two_accounts: Runtime) -> Runtime:
    """A runtime with two accounts, on each database."""
    return two_accounts


def connect(runtime: Runtime, person: TestPerson, identity: ProvenIdentity) -> None:
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        provider_sign_in.connect_own_provider(session, find(runtime, person.token), identity)


def invite(runtime: Runtime, account: str = factories.ACCOUNT) -> people.Invitation:
    return people.invite_person(runtime, account, "cli", email=EMAIL, roles=["read"])


def test_provider_signs_in_who_was_invited_by_a_verified_address(runtime: Runtime) -> None:
    identity = ProvenIdentity(ISSUER, "sub-1", "anna@maple.example")
    with pytest.raises(SignInFailed, match="was not invited"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT)
    people.invite_person(runtime, factories.ACCOUNT, "cli", email="anna@maple.example", roles=["read"])
    with pytest.raises(SignInFailed, match="not verified"):
        provider_sign_in.sign_in_by_provider(runtime, ProvenIdentity(ISSUER, "sub-1", None), CLIENT)
    first = find(runtime, provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT).token)
    renamed = ProvenIdentity(ISSUER, "sub-1", "anna.new@maple.example")
    assert find(runtime, provider_sign_in.sign_in_by_provider(runtime, renamed, CLIENT).token).actor == first.actor
    with pytest.raises(SignInFailed, match="signs in in another way"):
        provider_sign_in.sign_in_by_provider(runtime, ProvenIdentity(ISSUER, "sub-2", "anna@maple.example"), CLIENT)
    people.disable_person(runtime, "cli", "anna@maple.example")
    with pytest.raises(SignInFailed, match="disabled"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT)


def test_provider_is_not_connected_to_a_password_by_address_alone(runtime: Runtime) -> None:
    person = add_person(runtime)
    identity = ProvenIdentity(ISSUER, "sub-1", person.email)
    with pytest.raises(SignInFailed, match="signs in in another way"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT)
    connect(runtime, person, identity)
    assert find(runtime, provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT).token).actor == person.id
    find(runtime, try_sign_in(runtime, person))
    bob = add_person(runtime, email="bob@maple.example")
    with pytest.raises(InvalidState, match="another person"):
        connect(runtime, bob, identity)


def test_person_of_the_provider_joins_another_account_only_by_its_link(runtime: Runtime) -> None:
    """Any administrator can invite any address: the person must not work on that account without knowing it."""
    identity = ProvenIdentity(ISSUER, "sub-1", EMAIL)
    invite(runtime)
    provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT)
    link = invite(runtime, OTHER)
    assert find(runtime, provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT).token).account_id == (
        factories.ACCOUNT
    )
    assert "person_joined" not in read_actions(runtime, OTHER)
    renamed = ProvenIdentity(ISSUER, "sub-1", None)
    by_link = provider_sign_in.sign_in_by_provider(runtime, renamed, CLIENT, link_token=link.token)
    assert find(runtime, by_link.token).account_id == OTHER
    with pytest.raises(NotFound):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, link_token=link.token)


def test_person_whom_two_accounts_invited_chooses_by_link(runtime: Runtime) -> None:
    identity = ProvenIdentity(ISSUER, "sub-1", EMAIL)
    invite(runtime)
    link = invite(runtime, OTHER)
    with pytest.raises(SignInFailed, match="several accounts have invited you"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT)
    by_link = provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, link_token=link.token)
    assert find(runtime, by_link.token).account_id == OTHER
    assert read_actions(runtime, OTHER) == ["person_invited", "person_joined", "provider_connected", "signed_in"]
    assert "person_joined" not in read_actions(runtime)


@pytest.mark.parametrize("connected", [False, True])
def test_provider_ends_a_password_that_only_another_account_vouches_for(runtime: Runtime, *, connected: bool) -> None:
    """An administrator who opens an invitation in the person's place must not keep the person from other accounts."""
    squatted = use_link(runtime, people.invite_person(runtime, OTHER, "per_squatter", email=EMAIL, roles=["admin"]))
    if connected:
        connect(runtime, squatted, ProvenIdentity(ISSUER, "sub-of-squatter", "squatter@other.example"))
    kept = people.create_reset_link(runtime, OTHER, "per_squatter", squatted.id, of_operator=False)
    identity, link = ProvenIdentity(ISSUER, "sub-1", EMAIL), invite(runtime)
    with pytest.raises(SignInFailed, match="signs in in another way"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, replaces_password=True)
    with pytest.raises(CredentialsInDoubt, match="If you did not"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, link_token=link.token)
    assert find(runtime, squatted.token).account_id == OTHER
    owner = find(
        runtime,
        provider_sign_in.sign_in_by_provider(
            runtime, identity, CLIENT, link_token=link.token, replaces_password=True
        ).token,
    )
    assert (owner.actor, owner.account_id) == (squatted.id, factories.ACCOUNT)
    with pytest.raises(SignInFailed):
        find(runtime, squatted.token)
    with pytest.raises(SignInFailed):
        try_sign_in(runtime, squatted)
    with pytest.raises(NotFound):
        use_link(runtime, kept)
    with pytest.raises(NotFound):
        sessions.enter_account(runtime, owner, OTHER)
    assert read_actions(runtime, OTHER)[-1] == "credentials_ended"


@pytest.mark.parametrize("vouched", ["invitation", "link"])
def test_provider_leaves_a_password_that_the_operator_vouches_for(runtime: Runtime, vouched: str) -> None:
    by = "cli" if vouched == "invitation" else "per_admin"
    person = use_link(runtime, people.invite_person(runtime, OTHER, by, email=EMAIL, roles=["admin"]))
    if vouched == "link":
        person = use_link(runtime, people.create_reset_link(runtime, OTHER, "cli", person.id, of_operator=True))
    identity, link = ProvenIdentity(ISSUER, "sub-1", EMAIL), invite(runtime)
    with pytest.raises(SignInFailed, match="signs in in another way"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, link_token=link.token, replaces_password=True)
    assert find(runtime, person.token).account_id == OTHER


def test_new_credentials_disconnect_the_provider(runtime: Runtime) -> None:
    """Who had the old credentials may have connected an account of their own."""
    person, identity = add_person(runtime), ProvenIdentity(ISSUER, "sub-of-a-thief", "thief@maple.example")
    connect(runtime, person, identity)
    use_link(runtime, people.create_reset_link(runtime, factories.ACCOUNT, "cli", person.id, of_operator=True))
    with pytest.raises(SignInFailed, match="was not invited"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT)


def test_link_for_new_credentials_does_not_sign_in_by_the_provider(runtime: Runtime) -> None:
    person, identity = add_person(runtime), ProvenIdentity(ISSUER, "sub-1", EMAIL)
    connect(runtime, person, identity)
    link = people.create_reset_link(runtime, factories.ACCOUNT, "cli", person.id, of_operator=True)
    with pytest.raises(SignInFailed, match="the link is for"):
        provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, link_token=link.token)
    use_link(runtime, link)
