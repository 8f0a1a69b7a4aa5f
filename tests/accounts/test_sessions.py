"""Sessions: how they end, whose they are, and what is kept of the client."""

from datetime import timedelta

import pytest

from pipeline.accounts import sessions
from pipeline.accounts.models import SignedInSession
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound, SignInFailed
from pipeline.core.runtime import Runtime
from tests.support import factories
from tests.support.people import OTHER, add_person, age, find, read_actions, try_sign_in

ISSUER = "https://id.example"


@pytest.fixture
def runtime(two_accounts: Runtime) -> Runtime:
    """A runtime with two accounts, on each database."""
    return two_accounts


def test_session_ends_by_idleness_lifetime_and_sign_out(runtime: Runtime) -> None:
    person = add_person(runtime)
    first, second = person.token, try_sign_in(runtime, person)
    caller = find(runtime, second)
    with runtime.db.read() as session:
        assert len(sessions.list_sessions(session, person_id=person.id)) == 2
    assert caller.person is not None
    sessions.end_session(runtime, caller, caller.person.session_id)
    with pytest.raises(SignInFailed):
        find(runtime, second)
    assert read_actions(runtime)[-1] == "signed_out"
    with pytest.raises(NotFound):
        sessions.end_session(runtime, caller, caller.person.session_id)
    age(runtime, SignedInSession, seen_at=utc_now() - timedelta(seconds=sessions.IDLE_SECONDS - 60))
    find(runtime, first)  # its use is recorded
    with runtime.db.read() as session:
        (view,) = sessions.list_sessions(session, account_id=factories.ACCOUNT)
        assert utc_now() - view.seen_at < timedelta(minutes=5)
    age(runtime, SignedInSession, seen_at=utc_now() - timedelta(seconds=sessions.IDLE_SECONDS + 1))
    with pytest.raises(SignInFailed):
        find(runtime, first)
    age(runtime, SignedInSession, seen_at=utc_now(), expires_at=utc_now() - timedelta(seconds=1))
    with pytest.raises(SignInFailed):
        find(runtime, first)


@pytest.mark.parametrize("token", ["", "a", "\ud800", "x" * 100_000])
def test_unknown_tokens_are_refused(runtime: Runtime, token: str) -> None:
    add_person(runtime)
    with pytest.raises(SignInFailed):
        find(runtime, token)


def test_session_of_another_person_cannot_be_ended(runtime: Runtime) -> None:
    anna, bob = add_person(runtime), add_person(runtime, "read", email="bob@maple.example")
    of_anna = find(runtime, anna.token).person
    assert of_anna is not None
    other = add_person(runtime, email="carla@demo.example", account=OTHER)
    for stranger, of_account in ((bob, False), (other, True)):
        with pytest.raises(NotFound):
            sessions.end_session(runtime, find(runtime, stranger.token), of_anna.session_id, of_account=of_account)
    find(runtime, anna.token)
    of_bob = find(runtime, bob.token).person
    assert of_bob is not None
    sessions.end_session(runtime, find(runtime, anna.token), of_bob.session_id, of_account=True)
    with pytest.raises(SignInFailed):
        find(runtime, bob.token)


def test_clients_are_shortened() -> None:
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    assert sessions.describe_client("192.0.2.77", firefox) == sessions.Client("192.0.2.0/24", "Firefox on Linux")
    assert sessions.describe_client("2001:db8:1:2::3", "curl/8").address == "2001:db8:1::/48"
    assert sessions.describe_client("::ffff:192.0.2.77", "").address == "192.0.2.0/24"
    for address in (None, "", "testclient"):
        assert sessions.describe_client(address, "") == sessions.Client("unknown", "unknown")
