"""People of an account: invitations, roles, removal, and that no account reaches into another."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pipeline.accounts import credentials, people, sessions, sign_in
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.models import OneTimeLink
from pipeline.core.clock import utc_now
from pipeline.core.errors import InvalidState, NotFound, SignInFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from tests.support import factories
from tests.support.people import CLIENT, OTHER, PASSWORD, add_person, age, find, read_actions, try_sign_in

ISSUER = "https://id.example"


@pytest.fixture
def runtime(two_accounts: Runtime) -> Runtime:
    """A runtime with two accounts, on each database."""
    return two_accounts


def test_removed_disabled_and_changed_people_lose_access_at_once(runtime: Runtime) -> None:
    anna, bob = add_person(runtime), add_person(runtime, "read", email="bob@maple.example")
    admin = find(runtime, anna.token)
    people.change_roles(runtime, admin, bob.id, ["operate"])
    assert find(runtime, bob.token).roles == {"operate"}
    people.disable_person(runtime, "cli", bob.email)
    with pytest.raises(SignInFailed):
        find(runtime, bob.token)
    with pytest.raises(SignInFailed):
        try_sign_in(runtime, bob)
    people.disable_person(runtime, "cli", bob.email, disabled=False)
    again = try_sign_in(runtime, bob)
    people.remove_person(runtime, admin, bob.id)
    with pytest.raises(SignInFailed):
        find(runtime, again)
    with pytest.raises(SignInFailed, match="not a member of any account"):
        try_sign_in(runtime, bob, code=next(iter(bob.recovery_codes)))
    assert [each for each in read_actions(runtime) if each.startswith(("person_", "roles_"))][-4:] == [
        "roles_changed", "person_disabled", "person_enabled", "person_removed",
    ]  # fmt: skip


def test_last_administrator_stays(runtime: Runtime) -> None:
    anna = add_person(runtime)
    admin = find(runtime, anna.token)
    invited = people.invite_person(runtime, factories.ACCOUNT, anna.id, email="bob@maple.example", roles=["admin"])
    with pytest.raises(InvalidState, match="last administrator"):
        people.remove_person(runtime, admin, anna.id)
    with pytest.raises(InvalidState, match="last administrator"):
        people.change_roles(runtime, admin, anna.id, ["read"])
    with pytest.raises(ValidationFailed):
        people.change_roles(runtime, admin, anna.id, [])
    assert find(runtime, anna.token).roles == {"admin"}
    people.remove_person(runtime, admin, invited.person_id)
    add_person(runtime, email="carla@maple.example")
    people.change_roles(runtime, admin, anna.id, ["read"])


def test_two_administrators_cannot_remove_each_other(runtime: Runtime) -> None:
    anna, bob = add_person(runtime), add_person(runtime, email="bob@maple.example")
    callers = [find(runtime, each.token) for each in (anna, bob)]
    together, kept = threading.Barrier(2), []

    def remove(own: Caller, other: Caller) -> None:
        together.wait()
        try:
            people.remove_person(runtime, own, other.actor)
        except InvalidState:
            kept.append(other.actor)

    threads = [threading.Thread(target=remove, args=pair) for pair in (callers, callers[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 1


def test_link_works_once_and_not_after_its_end(runtime: Runtime) -> None:
    invited = people.invite_person(runtime, factories.ACCOUNT, "cli", email="anna@maple.example", roles=["read"])
    with pytest.raises(NotFound):
        sign_in.set_up_credentials(runtime, "another", password=PASSWORD, code="000000", client=CLIENT)
    with pytest.raises(ValidationFailed, match="the code is not"):
        sign_in.set_up_credentials(runtime, invited.token, password=PASSWORD, code="000000", client=CLIENT)
    age(runtime, OneTimeLink, expires_at=utc_now() - timedelta(seconds=1))
    with pytest.raises(NotFound):
        sign_in.set_up_credentials(runtime, invited.token, password=PASSWORD, code="000000", client=CLIENT)
    person = add_person(runtime)
    assert person.id == invited.person_id
    with runtime.db.read() as session, pytest.raises(NotFound):
        people.load_link(session, invited.token)


@pytest.mark.parametrize(
    "email", ["", "anna", "anna@maple", "a b@maple.example", "anná@maple.example", "a@b.example\n\n@"]
)
def test_malformed_email_is_refused(runtime: Runtime, email: str) -> None:
    with pytest.raises(ValidationFailed):
        people.invite_person(runtime, factories.ACCOUNT, "cli", email=email, roles=["read"])


def test_invitation_of_another_account_needs_the_persons_own_sign_in(runtime: Runtime) -> None:
    """Who holds the link of one account must not get into another account by setting that person's password."""
    person = add_person(runtime)
    invited = people.invite_person(runtime, OTHER, "cli", email=person.email, roles=["read"])
    assert invited.person_id == person.id
    caller = find(runtime, person.token)
    with pytest.raises(NotFound):
        sessions.enter_account(runtime, caller, OTHER)
    with pytest.raises(InvalidState, match="has a way to sign in"):
        sign_in.set_up_credentials(runtime, invited.token, password=PASSWORD, code="000000", client=CLIENT)
    stranger = add_person(runtime, email="bob@maple.example")
    with pytest.raises(InvalidState, match=r"is for anna@maple\.example"):
        sign_in.accept_invitation(runtime, invited.token, find(runtime, stranger.token))
    sign_in.accept_invitation(runtime, invited.token, caller)
    sessions.enter_account(runtime, caller, OTHER)
    entered = find(runtime, person.token)
    assert (entered.account_id, sorted(entered.roles)) == (OTHER, ["read"])
    assert read_actions(runtime, OTHER) == ["person_invited", "person_joined", "account_entered"]
    with pytest.raises(NotFound):
        sign_in.accept_invitation(runtime, invited.token, caller)


def test_administrator_cannot_take_over_a_person_of_another_account(runtime: Runtime) -> None:
    person = add_person(runtime)
    link = people.create_reset_link(runtime, factories.ACCOUNT, "per_admin", person.id, of_operator=False)
    assert link.email == person.email
    people.invite_person(runtime, OTHER, "cli", email=person.email, roles=["admin"])
    with pytest.raises(InvalidState, match="also belongs to another account"):
        people.create_reset_link(runtime, factories.ACCOUNT, "per_admin", person.id, of_operator=False)
    reset = people.create_reset_link(runtime, factories.ACCOUNT, "cli", person.id, of_operator=True)
    secret = credentials.derive_totp_secret(runtime.settings, sessions.hash_token(reset.token))
    made = sign_in.set_up_credentials(
        runtime, reset.token, password=PASSWORD, code=credentials.generate_code(secret, utc_now()), client=CLIENT
    )
    find(runtime, made.signed_in.token)
    with pytest.raises(SignInFailed):
        find(runtime, person.token)
