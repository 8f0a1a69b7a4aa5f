"""The inbox over HTTP: what needs a person, acknowledged and put back."""

import pytest

from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.api.test_errors import assert_refused
from tests.interfaces.console.work.test_inbox import answer, fail_exports


def test_inbox_lists_acknowledges_and_reopens(harness: ApiHarness) -> None:
    export_id, client = answer(harness, "rejected", message="Not steel."), harness.client("operate")
    (item,) = client.get("/api/inbox").json()["items"]
    assert (item["cause"], item["exportId"], item["text"], item["acknowledged"]) == (
        "rejected",
        export_id,
        "CP-000001: rejected. Not steel.",
        None,
    )
    view = client.post(f"/api/exports/{export_id}/acknowledge", json={"note": "amending it"}).json()
    assert (view["outcome"], view["acknowledged"]["note"]) == ("rejected", "amending it")
    assert client.get("/api/inbox").json() == {"items": [], "cut": []}
    (item,) = client.get("/api/inbox", params={"acknowledged": "true", "cause": "rejected"}).json()["items"]
    assert item["acknowledged"] == view["acknowledged"]
    assert client.post(f"/api/exports/{export_id}/reopen").json()["acknowledged"] is None
    assert len(client.get("/api/inbox").json()["items"]) == 1


def test_refused_acknowledgements_name_the_problem(harness: ApiHarness) -> None:
    export_id, client = answer(harness, "held"), harness.client("operate")
    path = f"/api/exports/{export_id}/acknowledge"
    assert_refused(client.post(path, json={"note": ""}), 400, "VALIDATION_ERROR", "/note")
    assert_refused(client.post(path, json={"text": "x"}), 400, "VALIDATION_ERROR", "/text")
    stale = client.post(path, json={}, headers={"If-Match": '"stale"'})
    assert_refused(stale, 412, "PRECONDITION_FAILED", "If-Match")
    (failed,) = fail_exports(harness, "failed")
    response = client.post(f"/api/exports/{failed}/acknowledge", json={})
    assert_refused(response, 409, "INVALID_STATE")
    assert "retry, cancel or amend it" in response.json()["message"]
    assert client.post(f"/api/exports/{export_id}/reopen").status_code == 409


@pytest.mark.parametrize("query", [{"cause": "sorrow"}, {"acknowledged": "maybe"}])
def test_unknown_filters_are_refused(harness: ApiHarness, query: dict[str, str]) -> None:
    assert harness.client("read").get("/api/inbox", params=query).status_code == 400
