"""The stream of changes: pages follow it, and it ends with the session."""

import pytest
from sqlmodel import col

from pipeline.accounts.models import SignedInSession
from pipeline.accounts.sessions import end_sessions
from pipeline.interfaces.pages import live
from pipeline.workflow import queries
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories


@pytest.mark.parametrize("of_export", [True, False])
def test_stream_says_what_changed_and_ends_with_the_session(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch, *, of_export: bool
) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.01)
    export_id = harness.execute(factories.plan())
    client = sign_in_browser(harness, "read")
    address = f"/console/live?seen=2.0&export={factories.BATCH}" if of_export else "/console/live?seen="
    with client.stream("GET", address) as response:
        lines = response.iter_lines()
        assert next(lines) == ": changes"
        harness.run(export_id)
        assert "event: changed" in lines
        with harness.runtime.db.write() as session:
            end_sessions(session, col(SignedInSession.account_id) == factories.ACCOUNT)
        assert [line for line in lines if line.startswith("event")][-1:] == ["event: changed"]
    ended = client.get(address, headers={"HX-Request": "true"})
    assert (ended.status_code, ended.headers.get("location"), ended.headers.get("hx-redirect")) == (401, None, None)
    assert client.get(address).status_code == 303


def test_streams_of_one_account_leave_room_for_others(open_harness: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.01)
    harness = open_harness(max_account_requests=1)
    client, address = sign_in_browser(harness, "read"), "/console/live?seen="
    neighbour = sign_in_browser(harness, "read", account=OTHER)
    # A program need not say that it wants a stream.
    with client.stream("GET", address) as response:
        assert response.status_code == 200
        refused = client.get(address, headers={"Accept": "text/event-stream"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "1 live streams in progress" in refused.text
        assert client.get("/console/exports").status_code == 200
        with neighbour.stream("GET", address) as other:
            assert other.status_code == 200


def test_stream_of_an_unknown_export_is_a_page_that_says_so(harness: ApiHarness) -> None:
    response = sign_in_browser(harness, "read").get("/console/live?seen=&export=exp_unknown")
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_version_of_an_export_changes_with_its_events(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    seen = []
    for _ in range(2):
        with harness.runtime.db.read() as session:
            seen.append(queries.read_export_version(session, export_id))
        harness.run(export_id)
    assert len({*seen}) == 2


def test_version_of_an_account_changes_only_with_its_own_events(harness: ApiHarness) -> None:
    def read_version(account: str) -> str:
        with harness.runtime.db.read() as session:
            return queries.read_account_version(session, account)

    assert read_version(factories.ACCOUNT) == ""
    harness.execute(factories.plan())
    accepted = read_version(factories.ACCOUNT)
    assert (accepted != "", read_version(OTHER)) == (True, "")
