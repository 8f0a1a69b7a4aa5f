"""Memberships that an OpenID provider gives: they follow its claim at each sign-in, and nothing keeps what it takes away."""

from collections.abc import Iterator, Sequence

import pytest

from config.settings import Settings
from pipeline.accounts import people, provider_sign_in, service
from pipeline.accounts.provider_sign_in import ProvenIdentity
from pipeline.core import tenancy
from pipeline.core.errors import CredentialsInDoubt, NotFound, SignInFailed
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.ops import audit
from tests.support import factories
from tests.support.people import CLIENT, OTHER, add_person, find, read_actions, try_sign_in, use_link

ISSUER = "https://id.example"
EMAIL = "anna@maple.example"
MAPPED = {
    "desk": {factories.ACCOUNT: ["operate"]},
    "leads": {factories.ACCOUNT: ["admin"], OTHER: ["read"]},
    "elsewhere": {"acc_unknown": ["admin"]},
}


@pytest.fixture
def runtime(database_url: str) -> Iterator[Runtime]:
    """A runtime with two accounts, on each database, whose people get their roles from the provider."""
    given = {
        "database_url": database_url,
        "artifacts_url": "memory:",
        "oidc_issuer": ISSUER,
        "oidc_client_id": "exports",
        "oidc_roles": MAPPED,
    }
    opened = open_runtime(Settings.model_validate(given))
    for account in (factories.ACCOUNT, OTHER):
        service.create_account(opened, account, "Maple Goods Ltd")
    yield opened
    opened.close()


def sign_in(
    runtime: Runtime,
    values: Sequence[str] | None,
    subject: str = "sub-1",
    email: str | None = EMAIL,
    *,
    replaces_password: bool = False,
) -> str:
    identity = ProvenIdentity(ISSUER, subject, email, "Anna \u202e", values)
    return provider_sign_in.sign_in_by_provider(runtime, identity, CLIENT, replaces_password=replaces_password).token


def read_roles(runtime: Runtime, account: str = factories.ACCOUNT) -> dict[str, Sequence[str]]:
    with runtime.db.read() as session:
        return {each.email: each.roles for each in people.list_members(session, account)}


def test_person_gets_and_loses_roles_at_each_sign_in(runtime: Runtime) -> None:
    caller = find(runtime, sign_in(runtime, ["desk", "others"]))
    assert (caller.account_id, caller.roles, caller.mode) == (factories.ACCOUNT, frozenset({"operate"}), "live")
    first = sign_in(runtime, ["leads", "desk"])
    assert find(runtime, first).roles == {"admin", "operate"}
    assert read_roles(runtime, OTHER) == {EMAIL: ["read"]}
    assert find(runtime, sign_in(runtime, ["desk"])).roles == {"operate"}
    assert find(runtime, first).roles == {"operate"}, "open sessions have the new roles at once"
    assert read_roles(runtime, OTHER) == {}
    with pytest.raises(SignInFailed, match="gives you no role here"):
        sign_in(runtime, ["others"])
    with pytest.raises(SignInFailed):
        find(runtime, first)
    assert read_roles(runtime) == {}
    assert [each for each in read_actions(runtime) if each.startswith(("person", "roles"))] == [
        "person_joined", "roles_changed", "roles_changed", "person_removed",
    ]  # fmt: skip
    assert audit.verify_chains(runtime).intact


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "gives you no role here"), (None, "did not send the claim groups"), (["elsewhere"], "not a member")],
)
def test_person_without_a_role_gets_no_session(runtime: Runtime, values: Sequence[str] | None, message: str) -> None:
    with pytest.raises(SignInFailed, match=message):
        sign_in(runtime, values)
    assert read_roles(runtime) == {}


def test_new_person_needs_a_verified_address_of_nobody_else(runtime: Runtime) -> None:
    with pytest.raises(SignInFailed, match="has not verified"):
        sign_in(runtime, ["desk"], email=None)
    person = add_person(runtime, "read")
    with pytest.raises(SignInFailed, match="signs in in another way"):
        sign_in(runtime, ["leads"])
    assert read_roles(runtime) == {person.email: ["read"]}


def test_roles_of_the_provider_outrank_the_password_of_another_account(runtime: Runtime) -> None:
    squatted = use_link(runtime, people.invite_person(runtime, OTHER, "per_squatter", email=EMAIL, roles=["read"]))
    with pytest.raises(CredentialsInDoubt):
        sign_in(runtime, ["desk"])
    assert read_roles(runtime) == {}
    owner = find(runtime, sign_in(runtime, ["desk"], replaces_password=True))
    assert (owner.actor, owner.account_id, owner.roles) == (squatted.id, factories.ACCOUNT, frozenset({"operate"}))
    assert read_roles(runtime, OTHER) == {}


def test_password_does_not_keep_what_the_provider_takes_away(runtime: Runtime) -> None:
    person = add_person(runtime, "read")
    find(runtime, try_sign_in(runtime, person))
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.write() as session:
        identity = ProvenIdentity(ISSUER, "sub-1", EMAIL)
        provider_sign_in.connect_own_provider(session, find(runtime, person.token), identity)
    assert find(runtime, sign_in(runtime, ["leads"])).roles == {"admin"}
    with pytest.raises(SignInFailed, match="sign in with it"):
        try_sign_in(runtime, person, code=next(iter(person.recovery_codes)))


def test_disabled_person_gets_no_role_back(runtime: Runtime) -> None:
    sign_in(runtime, ["desk"])
    people.disable_person(runtime, "cli", EMAIL)
    with pytest.raises(SignInFailed, match="disabled"):
        sign_in(runtime, ["leads"])
    assert read_roles(runtime) == {EMAIL: ["operate"]}


def test_reset_link_ends_when_the_provider_adds_an_account(runtime: Runtime) -> None:
    find(runtime, sign_in(runtime, ["desk"]))
    with runtime.db.read() as session:
        person_id = people.find_member(session, factories.ACCOUNT, email=EMAIL).person_id
    link = people.create_reset_link(runtime, factories.ACCOUNT, "per_admin", person_id, of_operator=False)
    sign_in(runtime, ["leads"])
    with pytest.raises(NotFound):
        use_link(runtime, link)
