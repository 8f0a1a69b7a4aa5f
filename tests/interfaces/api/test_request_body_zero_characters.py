"""Zero characters: PostgreSQL cannot store them, so an accepted one would cause an internal error."""

import json

import pytest

from pipeline.core.errors import ChannelUnavailable, ValidationFailed
from pipeline.core.json_input import has_zero_character, parse_json
from pipeline.deliveries.channels import borderbuddy
from pipeline.deliveries.schemas.answers import AcknowledgementBody, HandoffStatus
from pipeline.deliveries.schemas.views import SentAcknowledgement
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.support import factories
from tests.support.tables import table

pytestmark = pytest.mark.databases

ANSWER = {"id": "1", "status": "query", "message": "a", "fields": [{"pointer": "/a", "message": "b"}]}


@pytest.fixture
def harness(open_harness: Open, database_url: str) -> ApiHarness:
    """The API on each database."""
    return open_harness(database_url)


def test_zero_character_in_a_url_is_rejected(harness: ApiHarness) -> None:
    client = harness.client()
    document = client.get("/openapi.json").json()
    requests = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            address = path
            for name in [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]:
                address = address.replace("{" + name + "}", "a%00b")
            if address != path:
                assert client.request(method, address, json={}).status_code == 404, (method, path)
                requests += 1
            for name in [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]:
                response = client.request(method, path.replace("{id}", "x"), params={name: "a\x00b"}, json={})
                assert (response.status_code, response.json()["errorCode"]) == (400, "INVALID_REQUEST"), (path, name)
                requests += 1
    assert requests >= 40


@table("cursor", ["AA", "\u00b5%\x93", "YQBi", "====", "a"])
def test_unknown_cursor_is_rejected(harness: ApiHarness, cursor: str) -> None:
    response = harness.client().get("/api/exports", params={"cursor": cursor})
    assert (response.status_code, response.json()["errorCode"]) == (400, "VALIDATION_ERROR")
    assert response.json()["pointer"] == "/query/cursor"


@table(
    ("address", "body", "field"),
    [
        (f"/api/partners/{factories.BROKER}/replay", {"since": "2026-01-01T00:00:00Z", "after": "a\x00"}, "/after"),
        ("/api/partners", {"id": "wh_x", "kind": "warehouse", "name": "a\x00"}, "/name"),
        ("/api/waivers", {"rule": "V17", "reason": "\x00"}, "/reason"),
    ],
)
def test_zero_character_in_a_body_is_rejected(
    harness: ApiHarness, address: str, body: factories.Json, field: str
) -> None:
    response = harness.client().post(address, json=body)
    assert (response.status_code, response.json()["pointer"]) == (400, field)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ({"message": "a\x00"}, "/message"),
        ({"fields": [{"pointer": "/a\x00", "message": "b"}]}, "/fields/0/pointer"),
        ({"fields": [{"pointer": "/a", "message": "\x00"}]}, "/fields/0/message"),
    ],
)
def test_zero_character_in_an_answer_is_rejected_on_every_channel(place: factories.Json, named: str) -> None:
    """HTTP, queue and file answers are parsed alike; one that PostgreSQL rejects would be delivered again forever."""
    submission = {"submissionId": "sub_" + 32 * "0"}
    for model, body in ((AcknowledgementBody, ANSWER | place), (SentAcknowledgement, ANSWER | place | submission)):
        with pytest.raises(ValidationFailed) as refused:
            parse_json(json.dumps(body).encode(), model, max_depth=32)
        assert refused.value.field == named
    polled = json.dumps({"handoffId": "h", "answers": [ANSWER | place]}).encode()
    with pytest.raises(ChannelUnavailable, match="zero character"):
        borderbuddy._parse_contract(HandoffStatus, polled)
    whole = json.dumps({"handoffId": "h", "answers": [ANSWER]}).encode()
    assert borderbuddy._parse_contract(HandoffStatus, whole).handoff_id == "h"


def test_escaped_backslash_is_not_a_zero_character() -> None:
    assert not has_zero_character(rb'"\\u0000"')
    assert has_zero_character(rb'"\\\u0000"')
    assert not has_zero_character(rb'"\\\\u0000"')
    text = json.dumps(ANSWER | {"message": "\\u0000"}).encode()
    assert parse_json(text, AcknowledgementBody, max_depth=32).model.message == "\\u0000"


@table(("path", "allowed"), [("/api/partners", "GET, POST"), ("/api/partners/x", "GET, PATCH")])
def test_wrong_method_lists_all_allowed_methods(harness: ApiHarness, path: str, allowed: str) -> None:
    response = harness.client().request("OPTIONS", path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)
