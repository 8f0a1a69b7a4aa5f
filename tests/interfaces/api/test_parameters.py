"""Addresses: parameters that a call does not know, slashes too many, and names that are no ids."""

from __future__ import annotations

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
        ("/api/exports/exp_none?x=1", "/query/x", "it takes none"),
        ("/api/exports/exp_none/events?colour=red", "/query/colour", "it takes after, limit"),
        ("/console?stat=failed", "/query/stat", "did you mean state?"),
    ],
)
def test_a_parameter_that_a_call_does_not_know_is_refused_with_the_one_that_was_meant(
    harness: ApiHarness, address: str, path: str, says: str
) -> None:
    (issue,) = read_issues(harness, address)
    assert issue == {
        "path": path, "message": f"is not a parameter of this call; {says}", "code": "unknown_parameter",
    }  # fmt: skip


def test_every_call_of_the_contract_refuses_a_parameter_that_it_does_not_know(harness: ApiHarness) -> None:
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


def test_of_thousands_of_unknown_names_few_are_looked_at(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are read before the key is: a stranger may send as many as an address has room for."""
    looked_at: list[str] = []

    def close(name: str, *_: object) -> list[str]:
        looked_at.append(name)
        return []

    monkeypatch.setattr(parameters, "get_close_matches", close)
    names = [f"a{number}" for number in range(9_000)]
    answer = harness.client_with_key(None).get(f"/api/exports?{'&'.join(names)}")
    assert answer.status_code == 400
    assert [issue["path"] for issue in answer.json()["details"]["issues"]] == [f"/query/{name}" for name in looked_at]
    assert looked_at == names[:10]


@pytest.mark.parametrize(
    ("address", "status"), [("/answers/none", 404), ("/documents/none", 404), ("/console/exports/none", 303)]
)
def test_a_link_in_an_email_may_have_what_a_mail_program_adds(harness: ApiHarness, address: str, status: int) -> None:
    assert harness.client_with_key(None).get(f"{address}?utm_source=mail", follow_redirects=False).status_code == status


def test_the_root_leads_to_the_calls(harness: ApiHarness) -> None:
    assert harness.client().get("/").json()["message"] == "there is nothing at this address; /docs lists the calls"


@pytest.mark.parametrize("address", ["/api/exports/", "/api/partners/br_1/", "/openapi.json/"])
def test_a_slash_too_many_leads_nowhere_and_is_named(harness: ApiHarness, address: str) -> None:
    answer = harness.client().get(address, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)
    assert answer.json()["message"] == "there is nothing at this address; write it without the slash at its end"


@pytest.mark.parametrize("name", ["execute", "plans", "preflight"])
def test_an_address_with_a_name_of_its_own_is_not_looked_for_as_an_export(harness: ApiHarness, name: str) -> None:
    answer = harness.client().get(f"/api/exports/{name}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["message"] == "this address takes POST"
    assert harness.client().get("/api/exports/none").status_code == 404


def test_a_batch_that_is_called_as_a_call_is_can_be_looked_at(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan() | {"batchId": "execute"})
    assert harness.client().get("/api/exports/execute").json()["exportId"] == export_id
