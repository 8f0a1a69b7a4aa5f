"""People of an account: invitations, roles, removal, and that no account reaches into another."""

import threading
from datetime import timedelta

import pytest

from pipeline.accounts import one_time_links, people, sessions, sign_in
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.domains import PEOPLE, set_domains
from pipeline.accounts.models import OneTimeLink
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.errors import InsufficientRole, InvalidState, NotFound, SignInFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from tests.support import factories
from tests.support.people import (
    BROWSER,
    CLIENT,
    OTHER,
    PASSWORD,
    add_person,
    age,
    find,
    read_actions,
    try_sign_in,
    use_link,
)
from tests.support.tables import table

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
    carla = add_person(runtime, email="carla@maple.example")
    people.disable_person(runtime, "cli", carla.email)
    with pytest.raises(InvalidState, match="last administrator"):
        people.remove_person(runtime, admin, anna.id)
    people.disable_person(runtime, "cli", carla.email, disabled=False)
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
        sign_in.set_up_credentials(runtime, "another", password=PASSWORD, code="000000", client=CLIENT, browser=BROWSER)
    with pytest.raises(ValidationFailed, match="the code is not"):
        sign_in.set_up_credentials(
            runtime, invited.token, password=PASSWORD, code="000000", client=CLIENT, browser=BROWSER
        )
    age(runtime, OneTimeLink, expires_at=utc_now() - timedelta(seconds=1))
    with pytest.raises(NotFound):
        sign_in.set_up_credentials(
            runtime, invited.token, password=PASSWORD, code="000000", client=CLIENT, browser=BROWSER
        )
    person = add_person(runtime)
    assert person.id == invited.person_id
    with runtime.db.read() as session, pytest.raises(NotFound):
        one_time_links.load_link(session, invited.token)


@table(
    "email",
    [
        "",
        "anna",
        "anna@maple",
        "Anna@maple.example".replace("A", "\u212a"),
        "a b@maple.example",
        "anná@maple.example",
        "a@b.example\n\n@",
    ],
)
def test_malformed_email_is_refused(runtime: Runtime, email: str) -> None:
    with pytest.raises(ValidationFailed):
        people.invite_person(runtime, factories.ACCOUNT, "cli", email=email, roles=["read"])


def test_account_invites_only_people_of_its_domains(runtime: Runtime) -> None:
    """An address of others cannot be taken by an account that invites it first; the operator may invite any."""
    for domains, allowed in ((["Demo.example"], "demo.example"), ([], "no domain")):
        set_domains(runtime, OTHER, PEOPLE, domains)
        for email in ("anna@maple.example", "anna@sub.demo.example"):
            with pytest.raises(ValidationFailed, match=f"may invite people of {allowed};"):
                people.invite_person(runtime, OTHER, "per_1", email=email, roles=["read"])
    people.invite_person(runtime, OTHER, "cli", email="anna@maple.example", roles=["read"])
    set_domains(runtime, OTHER, PEOPLE, ["demo.example"])
    people.invite_person(runtime, OTHER, "per_1", email="bob@demo.example", roles=["read"])
    people.invite_person(runtime, factories.ACCOUNT, "per_2", email="bob@maple.example", roles=["read"])


def test_invitation_of_another_account_needs_the_persons_own_sign_in(runtime: Runtime) -> None:
    """Who holds the link of one account must not get into another account by setting that person's password."""
    person = add_person(runtime)
    invited = people.invite_person(runtime, OTHER, "cli", email=person.email, roles=["read"])
    assert invited.person_id == person.id
    caller = find(runtime, person.token)
    with pytest.raises(NotFound):
        sessions.enter_account(runtime, caller, OTHER)
    with pytest.raises(InvalidState, match=r"already; join with .* If you did not set them, ask the operator"):
        use_link(runtime, invited)
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


def test_name_of_another_account_is_not_shown_before_the_person_joins(runtime: Runtime) -> None:
    people.invite_person(runtime, OTHER, "cli", email="anna@maple.example", roles=["read"], name="Anna of Other Ltd")
    invited = people.invite_person(
        runtime, factories.ACCOUNT, "cli", email="anna@maple.example", roles=["read"], name="Chosen here"
    )

    def read_names() -> tuple[str, str]:
        with tenancy.account_scope(factories.ACCOUNT), runtime.db.read() as session:
            (member,) = people.list_members(session, factories.ACCOUNT)
            return member.name, people.name_actors(session, [member.person_id])[member.person_id]

    assert read_names() == ("Chosen here", "Chosen here")
    use_link(runtime, invited)
    assert read_names() == ("Anna of Other Ltd", "Anna of Other Ltd")


def test_administrator_cannot_take_over_a_person_of_another_account(runtime: Runtime) -> None:
    person = add_person(runtime)
    invited = people.invite_person(runtime, OTHER, "cli", email=person.email, roles=["admin"])
    people.create_reset_link(runtime, factories.ACCOUNT, "per_admin", person.id, of_operator=False)
    sign_in.accept_invitation(runtime, invited.token, find(runtime, person.token))
    with pytest.raises(InvalidState, match="also belongs to another account"):
        people.create_reset_link(runtime, factories.ACCOUNT, "per_admin", person.id, of_operator=False)
    reset = people.create_reset_link(runtime, factories.ACCOUNT, "cli", person.id, of_operator=True)
    find(runtime, use_link(runtime, reset).token)
    with pytest.raises(SignInFailed):
        find(runtime, person.token)


def test_reset_link_ends_when_the_person_joins_another_account(runtime: Runtime) -> None:
    """An administrator who kept such a link would act as the person on the other account."""
    person = add_person(runtime)
    link = people.create_reset_link(runtime, factories.ACCOUNT, "per_admin", person.id, of_operator=False)
    invited = people.invite_person(runtime, OTHER, "cli", email=person.email, roles=["admin"])
    sign_in.accept_invitation(runtime, invited.token, find(runtime, person.token))
    with pytest.raises(NotFound):
        use_link(runtime, link)


def test_disabled_person_cannot_use_a_link_made_after_that(runtime: Runtime) -> None:
    person = add_person(runtime)
    people.disable_person(runtime, "cli", person.email)
    link = people.create_reset_link(runtime, factories.ACCOUNT, "cli", person.id, of_operator=True)
    with pytest.raises(NotFound):
        use_link(runtime, link)


def test_operator_gives_a_squatted_person_new_credentials(runtime: Runtime) -> None:
    """An administrator who opens an invitation in the person's place must not keep the person from other accounts."""
    squatted = use_link(
        runtime, people.invite_person(runtime, OTHER, "per_squatter", email="anna@maple.example", roles=["read"])
    )
    people.invite_person(runtime, factories.ACCOUNT, "per_admin", email=squatted.email, roles=["operate"])
    own = use_link(runtime, people.create_reset_link(runtime, factories.ACCOUNT, "cli", squatted.id, of_operator=True))
    assert (find(runtime, own.token).account_id, find(runtime, own.token).roles) == (
        factories.ACCOUNT,
        frozenset({"operate"}),
    )
    with pytest.raises(SignInFailed):
        find(runtime, squatted.token)


def test_administrator_of_test_exports_cannot_reach_live_ones(runtime: Runtime) -> None:
    anna = add_person(runtime)
    tester = find(runtime, add_person(runtime, email="tess@maple.example", mode="test").token)
    pending = people.invite_person(runtime, factories.ACCOUNT, "cli", email="bob@maple.example", roles=["admin"])
    assert tester.test
    for person_id in (anna.id, pending.person_id):
        with pytest.raises(InsufficientRole, match="only on test exports"):
            people.create_reset_link(
                runtime, factories.ACCOUNT, tester.actor, person_id, of_operator=False, test_only=True
            )
        with pytest.raises(InsufficientRole):
            people.change_roles(runtime, tester, person_id, ["read"])
        with pytest.raises(InsufficientRole):
            people.remove_person(runtime, tester, person_id)
    with pytest.raises(InsufficientRole):
        people.invite_person(
            runtime,
            factories.ACCOUNT,
            tester.actor,
            email="bob@maple.example",
            roles=["admin"],
            mode="test",
            test_only=True,
        )
    with runtime.db.read() as session:
        (seen,) = sessions.list_sessions(session, account_id=factories.ACCOUNT, test_only=True)
    assert seen.person_id == tester.actor
    of_anna = find(runtime, anna.token).person
    assert of_anna is not None
    with pytest.raises(NotFound):
        sessions.end_session(runtime, tester, of_anna.session_id, of_account=True)


def test_administrator_of_test_exports_does_not_count_as_the_other_one(runtime: Runtime) -> None:
    anna = find(runtime, add_person(runtime).token)
    add_person(runtime, email="tess@maple.example", mode="test")
    with pytest.raises(InvalidState, match="last administrator"):
        people.remove_person(runtime, anna, anna.actor)
    with pytest.raises(InvalidState, match="last administrator"):
        people.change_roles(runtime, anna, anna.actor, ["read"])


def test_same_person_is_invited_twice_at_the_same_time(runtime: Runtime) -> None:
    together, failed = threading.Barrier(2), []

    def invite(account: str) -> None:
        together.wait()
        try:
            people.invite_person(runtime, account, "cli", email="new@maple.example", roles=["read"])
        except Exception as error:  # noqa: BLE001 - any failure is one too many
            failed.append(error)

    threads = [threading.Thread(target=invite, args=[account]) for account in (factories.ACCOUNT, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with runtime.db.read() as session:
        assert people.find_member(session, OTHER, email="new@maple.example").person_id == (
            people.find_member(session, factories.ACCOUNT, email="new@maple.example").person_id
        )


def test_new_credentials_are_recorded_on_every_account_of_the_person(runtime: Runtime) -> None:
    person = add_person(runtime)
    invited = people.invite_person(runtime, OTHER, "cli", email=person.email, roles=["read"])
    sign_in.accept_invitation(runtime, invited.token, find(runtime, person.token))
    use_link(runtime, people.create_reset_link(runtime, factories.ACCOUNT, "cli", person.id, of_operator=True))
    assert read_actions(runtime, OTHER)[-1] == "credentials_set"
