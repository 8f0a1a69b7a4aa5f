"""URLs: unknown parameters, instants out of range, trailing slashes, and reserved names in the place of ids."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import parse_json
from pipeline.core.problems import format_name
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.api import parameters
from pipeline.interfaces.console.partners import partner_views
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
    ("address", "status"),
    [("/answers/none", 404), ("/documents/none", 404), ("/calendar/none.ics", 404), ("/console/exports/none", 303)],
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


Json = dict[str, Any]

FINAL_EVENTS: Final = {
    "date-time": [
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-12:00",
        "9999-12-31T23:59:59Z", "9999-12-31T23:59:59+14:00", "9999-12-31T23:59:59-12:00",
        "1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z",
    ],
    "date": ["0001-01-01", "9999-12-31", "1969-12-31", "2200-01-01"],
}  # fmt: skip
REMEDY: Final = "must be in the years 1970 to 2199; give the real date, or leave it out"

#: The other parameters that a call requires.
REQUIRED: Final = {"/api/rules/decide": {"htsCode": "7323930045", "origin": "CA"}}

#: operation -> how many places of its body take a date or an instant
BODIES: Final = {
    "/api/exports/execute": 6,
    "/api/exports/{id}/amend": 6,
    "/api/exports/plans": 6,
    "/api/exports/preflight": 6,
    "/api/exports/proforma": 6,
    "/api/plan-templates/sync": 6,
    "/api/partners/{id}/replay": 2,
    "/api/waivers": 1,
    "/api/broker-submissions/{id}/acknowledgements": 1,
    "/api/exports/{id}/sandbox-answers": 1,
    "/api/test-clock": 1,
}


def formats(schema: Json) -> str | None:
    """Return the format of a date or an instant, or None if the schema takes neither."""
    found = [each.get("format") for each in (schema, *schema.get("anyOf", []))]
    return next((each for each in found if each in FINAL_EVENTS), None)


def list_places(document: Json, schema: Json, value: object, here: str = "") -> Iterator[tuple[str, str]]:
    """Yield pointer and format of each possible date and instant in `value`, present or not."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for each in schema.get("anyOf", []):
        yield from list_places(document, each, value, here)
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if found := formats(inner):
                yield f"{here}/{name}", found
            yield from list_places(document, inner, value.get(name), f"{here}/{name}")
    if isinstance(value, list) and value and "items" in schema:
        yield from list_places(document, schema["items"], value[0], f"{here}/0")


def put(body: Json, pointer: str, value: str) -> Json:
    changed: Any = copy.deepcopy(body)
    *way, last = pointer.removeprefix("/").split("/")
    inside = changed
    for part in way:
        inside = inside[int(part)] if isinstance(inside, list) else inside[part]
    inside[last] = value
    return dict(changed)


def assert_refused(answer: httpx.Response, field: str) -> None:
    assert answer.status_code == 400, (field, answer.text)
    assert answer.json()["errorCode"] == "VALIDATION_ERROR"
    named = {"path": format_name(field), "pointer": field}
    assert answer.json()["details"]["issues"] == [named | {"message": REMEDY, "code": "value_error"}]


def test_calls_reject_dates_out_of_range(harness: ApiHarness) -> None:
    client = harness.client()
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    submission = client.get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    ids = {"/api/partners": factories.BROKER, "/api/broker-submissions": submission}
    before, document = harness.rows(), client.get("/openapi.json").json()
    found: dict[str, int] = {}
    parameters = 0
    for path, calls in document["paths"].items():
        address = path.replace(
            "{id}", next((known for begin, known in ids.items() if path.startswith(begin)), export_id)
        )
        for method, call in calls.items():
            for parameter in call.get("parameters", []):
                for end in FINAL_EVENTS.get(formats(parameter["schema"]) or "", []):
                    parameters += 1
                    answer = client.request(method, address, params=REQUIRED.get(path, {}) | {parameter["name"]: end})
                    assert_refused(answer, f"/{parameter['in']}/{parameter['name']}")
            content = call.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                body = example["value"]
                for pointer, kind in list_places(document, content["schema"], body):
                    found[path] = found.get(path, 0) + 1
                    for end in FINAL_EVENTS[kind]:
                        assert_refused(client.request(method, address, json=put(body, pointer, end)), pointer)
    # Exports accepted and milestones reached after and before; the day of a tariff number and of a decision.
    assert parameters == 4 * len(FINAL_EVENTS["date-time"]) + 4 * len(FINAL_EVENTS["date"])
    assert found.keys() == BODIES.keys()
    assert {path: count for path, count in found.items() if count < BODIES[path]} == {}
    assert harness.rows() == before


@pytest.mark.parametrize("arrival", ["1970-01-01T00:00:00+14:00", "2199-12-31T23:59:59-12:00"])
def test_first_and_last_instant_are_accepted_with_any_offset(harness: ApiHarness, arrival: str) -> None:
    plan = factories.change_plan(factories.plan(), "/units/0/entry/estimatedArrivalAt", arrival)
    assert harness.client().post("/api/exports/preflight", json=plan).status_code == 200
    assert harness.client().get("/api/exports", params={"acceptedAfter": arrival}).status_code == 200


def test_placeholder_date_is_rejected_by_name() -> None:
    wrong = factories.change_plan(factories.plan(), "/units/0/entry/estimatedArrivalAt", "0001-01-01T00:00:00Z")
    with pytest.raises(ValidationFailed) as refusal:
        parse_json(json.dumps(wrong).encode(), Plan, max_depth=32)
    assert refusal.value.message == f"/units/0/entry/estimatedArrivalAt {REMEDY}"


@pytest.mark.parametrize("typed", ["0001-01-01T00:00", "9999-12-31T23:59:59-12:00"])
def test_console_form_rejects_dates_out_of_range(typed: str) -> None:
    with pytest.raises(ValidationFailed, match="must be in UTC"):
        partner_views.parse_instant(typed)
