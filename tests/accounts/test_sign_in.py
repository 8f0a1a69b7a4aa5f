"""Signing in: what proves a person, and that guessing is bounded without locking anybody out."""

import runpy
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr
from sqlalchemy import select

from pipeline.accounts import credentials, guessing, one_time_links, people, sessions, sign_in
from pipeline.accounts.models import Credential, Guessing, OneTimeLink, SignedInSession
from pipeline.core.clock import utc_now
from pipeline.core.errors import RateLimited, SignInFailed, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.ops import audit
from tests.support import factories, stored
from tests.support.people import BROWSER, CLIENT, PASSWORD, add_person, age, find, read_actions, try_sign_in
from tests.support.tables import table


@pytest.fixture
def runtime(two_accounts: Runtime) -> Runtime:
    """A runtime with two accounts, on each database."""
    return two_accounts


def test_person_sets_up_signs_in_and_acts_with_their_roles(runtime: Runtime) -> None:
    person = add_person(runtime, "read", "operate")
    caller = find(runtime, try_sign_in(runtime, person, email=" Anna@Maple.example "))
    assert (caller.account_id, caller.actor, caller.mode) == (factories.ACCOUNT, person.id, "live")
    assert caller.roles == {"read", "operate"}
    assert caller.person is not None
    assert caller.person.email == "anna@maple.example"
    assert read_actions(runtime) == [
        "person_invited", "credentials_set", "person_joined", "signed_in", "signed_in",
    ]  # fmt: skip
    assert audit.verify_chains(runtime).intact


def test_a_hash_costs_what_owasp_recommends() -> None:
    product = runpy.run_path(credentials.__file__)  # the tests' own copy takes less
    assert product["hash_password"](PASSWORD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_nothing_secret_is_stored_in_clear(runtime: Runtime) -> None:
    person = add_person(runtime)
    with runtime.db.read() as session:
        row = session.scalars(select(Credential)).one()
        link = session.scalars(select(OneTimeLink)).one()
        stored = session.scalars(select(SignedInSession)).one()
    kept = f"{row.password_hash} {row.totp_secret} {link.token_hash} {stored.token_hash}"
    assert row.password_hash is not None
    assert row.password_hash.startswith("$argon2id$")
    for secret in (PASSWORD, person.secret, person.token, *person.recovery_codes):
        assert secret not in kept


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "another horse battery"},
        {"password": ""},
        {"password": "x" * 100_000},
        {"code": "000000"},
        {"code": ""},
        {"code": "x" * 10_000},
        {"code": "\ud800"},
        {"password": "\ud800"},
        {"email": "\x00"},
        {"code": "\x00"},
        {"email": "nobody@maple.example"},
        {"email": "\ud800"},
        {"email": ""},
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(runtime: Runtime, changes: dict[str, str]) -> None:
    person = add_person(runtime)
    with pytest.raises(SignInFailed) as refused:
        try_sign_in(runtime, person, **changes)
    assert refused.value.message == sign_in._WRONG


def test_unknown_person_costs_a_hash_too(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = PasswordHasher.verify

    def count(hasher: PasswordHasher, hash: str, password: str) -> bool:  # noqa: A002 - as in the library
        verified.append(hash)
        return bool(verify(hasher, hash, password))

    monkeypatch.setattr(PasswordHasher, "verify", count)
    person = add_person(runtime)
    for email in (person.email, "nobody@maple.example"):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, email=email, password="wrong and long enough")
    assert len(verified) == 2


def test_code_and_recovery_code_work_once(runtime: Runtime) -> None:
    person = add_person(runtime)
    for steps in (-2, 2):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, code=person.code(runtime, steps=steps))
    code = person.code(runtime)
    find(runtime, try_sign_in(runtime, person, code=f"{code[:3]} {code[3:]}"))
    with pytest.raises(SignInFailed):
        try_sign_in(runtime, person, code=code)
    first = next(iter(person.recovery_codes))
    find(runtime, try_sign_in(runtime, person, code=first.upper().replace("-", " ")))
    with pytest.raises(SignInFailed):
        try_sign_in(runtime, person, code=first)
    with runtime.db.read() as session:
        assert credentials.describe_credential(session, person.id).recovery_codes == credentials.RECOVERY_CODES - 1


def test_recovery_code_works_under_another_secret_key(runtime: Runtime) -> None:
    """And no other answer says that the password is right."""
    person = add_person(runtime)
    settings = runtime.settings.model_copy(update={"secret_key": SecretStr("another key of at least 32 characters")})
    other = replace(runtime, settings=settings)
    for wrong in ({}, {"password": "not the password"}):
        with pytest.raises(SignInFailed, match="the e-mail address, the password or the code is wrong"):
            try_sign_in(other, person, **wrong)
    assert find(other, try_sign_in(other, person, code=next(iter(person.recovery_codes)))).actor == person.id


def test_code_of_an_earlier_step_is_refused_after_a_later_one(runtime: Runtime) -> None:
    person = add_person(runtime)
    try_sign_in(runtime, person)
    with pytest.raises(SignInFailed):
        try_sign_in(runtime, person, code=person.code(runtime, steps=0))


def test_same_code_at_the_same_time_opens_one_session(runtime: Runtime) -> None:
    person = add_person(runtime)
    code, together, opened = person.code(runtime), threading.Barrier(4), []

    def attempt() -> None:
        together.wait()
        try:
            opened.append(try_sign_in(runtime, person, code=code))
        except SignInFailed:
            return

    run_together(attempt, 4)
    assert len(opened) == 1


def run_together(what: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=what) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_guessing_pauses_and_the_pause_ends(runtime: Runtime) -> None:
    person = add_person(runtime)
    for _ in range(guessing.FREE_OF_PERSON):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, code="000000")
    with pytest.raises(RateLimited, match="try again in 30 s") as refused:
        try_sign_in(runtime, person)
    assert refused.value.headers["Retry-After"] == "30"
    age(runtime, Guessing, locked_until=utc_now() - timedelta(seconds=1))
    find(runtime, try_sign_in(runtime, person))
    assert [row.failures for row in stored.rows(runtime, select(Guessing))] == [guessing.FREE_OF_PERSON]


def test_pauses_double_up_to_the_longest(runtime: Runtime) -> None:
    add_person(runtime)
    counter, pauses = guessing.Counter("k", 1), []
    for _ in range(9):
        with runtime.db.write() as session:
            guessing.take_attempt(session, [counter])
        row = stored.get(runtime, Guessing, "k")
        assert row.locked_until is not None
        pauses.append((row.locked_until - row.last_at).total_seconds())
        age(runtime, Guessing, locked_until=utc_now() - timedelta(seconds=1))
    assert pauses == [30, 60, 120, 240, 480, 900, 900, 900, 900]


def test_failures_are_forgotten_after_an_hour(runtime: Runtime) -> None:
    person = add_person(runtime)
    for _ in range(guessing.FREE_OF_PERSON):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, code="000000")
    age(runtime, Guessing, last_at=utc_now() - timedelta(hours=2))
    find(runtime, try_sign_in(runtime, person))


def test_guesses_at_the_same_time_all_count(runtime: Runtime) -> None:
    person = add_person(runtime)
    answers: list[type[Exception]] = []

    def guess() -> None:
        try:
            try_sign_in(runtime, person, code="000000")
        except (SignInFailed, RateLimited) as error:
            answers.append(type(error))

    run_together(guess, 10)
    assert answers.count(SignInFailed) == guessing.FREE_OF_PERSON
    assert answers.count(RateLimited) == 10 - guessing.FREE_OF_PERSON


def test_attacker_cannot_lock_out_a_known_browser(runtime: Runtime) -> None:
    person = add_person(runtime)
    device = guessing.create_device(runtime.settings, person.email)
    for _ in range(guessing.FREE_OF_PERSON):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, code="000000")
    for forged in (None, "", "a.b", guessing.create_device(runtime.settings, "bob@maple.example"), "\ud800"):
        with pytest.raises(RateLimited):
            try_sign_in(runtime, person, device=forged)
    find(runtime, try_sign_in(runtime, person, device=device))
    for _ in range(guessing.FREE_OF_PERSON):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, device=device, code="000000")
    with pytest.raises(RateLimited):
        try_sign_in(runtime, person, device=device)


def test_one_network_cannot_guess_for_many_people(runtime: Runtime) -> None:
    person = add_person(runtime)
    network = sessions.describe_client("192.0.2.7", "")
    for number in range(guessing.FREE_OF_NETWORK):
        with pytest.raises(SignInFailed):
            try_sign_in(runtime, person, email=f"p{number}@maple.example", client=network)
    with pytest.raises(RateLimited):
        try_sign_in(runtime, person, client=network)
    find(runtime, try_sign_in(runtime, person))


def test_changed_password_ends_the_other_sessions(runtime: Runtime) -> None:
    person = add_person(runtime)
    other = try_sign_in(runtime, person)
    caller = find(runtime, person.token)
    new = "another long horse battery"
    codes = iter(person.recovery_codes)
    for password, code in (("no", next(codes)), (PASSWORD, "000000")):
        with pytest.raises(SignInFailed):
            sign_in.change_password(runtime, caller, password=password, code=code, new_password=new)
    with pytest.raises(ValidationFailed):
        sign_in.change_password(runtime, caller, password=PASSWORD, code=next(codes), new_password="short")
    assert read_actions(runtime)[-2:] == ["sign_in_failed", "sign_in_failed"]
    sign_in.change_password(runtime, caller, password=PASSWORD, code=next(codes), new_password=new)
    find(runtime, person.token)
    with pytest.raises(SignInFailed):
        find(runtime, other)
    with pytest.raises(SignInFailed):
        try_sign_in(runtime, person, code=next(codes))
    assert try_sign_in(runtime, person, password=new, code=next(codes))


@table(
    "password",
    [
        "",
        "short",
        "aaaaaaaaaaaaaaaa",
        "my anna@maple.example",
        "x" * 257,
        "abababababababab",
        "123456789012",
        "password1234",
        "Administrator",
        "qwertyuiop12",
        "PasswordPassword",
        "exports123456",
        "2026-Welcome!",
    ],
)
def test_weak_password_is_refused_and_the_link_stays(runtime: Runtime, password: str) -> None:
    invited = people.invite_person(runtime, factories.ACCOUNT, "cli", email="anna@maple.example", roles=["read"])
    with pytest.raises(ValidationFailed, match="password"):
        sign_in.set_up_credentials(
            runtime, invited.token, password=password, code="000000", client=CLIENT, browser=BROWSER
        )
    with runtime.db.read() as session:
        assert one_time_links.load_link(session, invited.token).email == "anna@maple.example"
