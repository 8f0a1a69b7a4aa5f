"""URLs: unknown parameters, trailing slashes, and reserved names in the place of ids."""

from typing import Any

import pytest

from pipeline.interfaces.api import parameters
from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories


def read_issues(harness: ApiHarness, address: str) -> list[dict[str, Any]]:
    answer = harness.client().get(address)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "VALIDATION_ERROR")
    found: list[dict[str, Any]] = answer.json()["details"]["issues"]
    return found


@pytest.mark.parametrize(
    ("address", "path", "says"),
    [
        ("/api/exports?stat=failed", "/query/stat", "did you mean state?"),
        ("/api/exports?acceptedafter=2026-01-01T00:00:00Z", "/query/acceptedafter", "did you mean acceptedAfter?"),
        ("/api/deliveries?partner=br_hook", "/query/partner", "did you mean partnerId?"),
        ("/api/exports/exp_none?x=1", "/query/x", "it takes no parameters"),
        ("/api/exports/exp_none/events?colour=red", "/query/colour", "it takes after, limit, named"),
    ],
)
def test_unknown_parameter_is_rejected_with_a_suggestion(
    harness: ApiHarness, address: str, path: str, says: str
) -> None:
    (issue,) = read_issues(harness, address)
    assert issue == {
        "path": path.removeprefix("/query/"),
        "pointer": path,
        "message": f"is not a parameter of this call; {says}",
        "code": "unknown_parameter",
    }


def test_page_says_which_parameter_is_unknown(harness: ApiHarness) -> None:
    answer = harness.client_with_key(None).get("/console/exports?stat=failed")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "<code>stat</code> in the address is not a parameter of this call; did you mean state?" in answer.text


def test_every_call_rejects_unknown_parameters(harness: ApiHarness) -> None:
    client = harness.client()
    before, paths = harness.rows(), client.get("/openapi.json").json()["paths"]
    found = {
        f"{method} {path}": client.request(method, path.replace("{", "").replace("}", ""), params={"no_such": "1"})
        for path, calls in paths.items()
        for method in calls
    }
    assert len(found) >= 40
    assert {call: answer.status_code for call, answer in found.items() if answer.status_code != 400} == {}
    assert all("/query/no_such" in answer.text for answer in found.values())
    assert harness.rows() == before


def test_suggestions_for_unknown_parameters_are_bounded(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are read before the key is checked: a stranger may send as many as a URL can hold."""
    looked_at: list[str] = []

    def close(name: str, *_: object) -> list[str]:
        looked_at.append(name)
        return []

    monkeypatch.setattr(parameters, "get_close_matches", close)
    names = [f"a{number}" for number in range(9_000)]
    answer = harness.client_with_key(None).get(f"/api/exports?{'&'.join(names)}")
    assert answer.status_code == 400
    assert [issue["pointer"] for issue in answer.json()["details"]["issues"]] == [
        f"/query/{name}" for name in looked_at
    ]
    assert looked_at == names[:10]


@pytest.mark.parametrize(
    ("address", "status"), [("/answers/none", 404), ("/documents/none", 404), ("/console/exports/none", 303)]
)
def test_links_in_emails_accept_unknown_parameters(harness: ApiHarness, address: str, status: int) -> None:
    assert harness.client_with_key(None).get(f"{address}?utm_source=mail", follow_redirects=False).status_code == status


def test_root_names_the_api_reference(harness: ApiHarness) -> None:
    assert harness.client().get("/").json()["message"] == "there is nothing at this address; /docs lists the calls"


@pytest.mark.parametrize("address", ["/api/exports/", "/api/partners/br_1/", "/openapi.json/"])
def test_trailing_slash_is_not_found_and_named(harness: ApiHarness, address: str) -> None:
    answer = harness.client().get(address, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)
    assert answer.json()["message"] == "there is nothing at this address; write it without the slash at its end"


@pytest.mark.parametrize("name", ["execute", "plans", "preflight"])
def test_reserved_path_is_not_an_export_id(harness: ApiHarness, name: str) -> None:
    answer = harness.client().get(f"/api/exports/{name}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["message"] == "this address takes POST"
    assert harness.client().get("/api/exports/none").status_code == 404


def test_batch_with_a_reserved_name_can_be_read(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan() | {"batchId": "execute"})
    assert harness.client().get("/api/exports/execute").json()["exportId"] == export_id
