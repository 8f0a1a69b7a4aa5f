"""The AsyncAPI document: valid by the AsyncAPI project's schema, complete, and about the existing queues and messages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft7Validator

from config import queues
from config.settings import Settings
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType
from pipeline.interfaces.contracts import asyncapi
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.contracts import sent

THEIRS = Path(__file__).parent / "asyncapi" / "3.0.0.json"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    """The document as a JSON parser reads it."""
    made: Json = json.loads(json.dumps(asyncapi.build_document("1.2.3")))
    return made


def list_errors(document: Json) -> list[str]:
    validator = Draft7Validator(json.loads(THEIRS.read_text(encoding="utf-8")))
    return sent.list_errors(validator.iter_errors(document))


def test_document_is_valid_asyncapi(document: Json) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert list_errors(document) == []


def test_invalid_document_is_detected(document: Json) -> None:
    operations = {**document["operations"], "send.broker": {**document["operations"]["send.broker"], "action": "shout"}}
    assert list_errors({**document, "operations": operations}) != []
    assert list_errors({key: value for key, value in document.items() if key != "info"}) != []


def test_every_reference_resolves(document: Json) -> None:
    found = [*references(document)]
    assert len(found) > 100
    for reference in found:
        resolve_reference(document, reference)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def resolve_reference(document: Json, reference: str) -> Any:
    assert reference.startswith("#/"), f"{reference} points outside of the document"
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_channels_match_the_queues_and_keys(document: Json) -> None:
    declared = {
        queue.name: queue for queue in queues.contract_queues(Settings.model_validate({"broker_url": "amqp://x"}))
    }
    described = {
        channel["bindings"]["amqp"]["queue"]["name"]: channel
        for channel in document["channels"].values()
        if channel.get("bindings", {}).get("amqp", {}).get("is") == "queue"
    }
    assert described.keys() == declared.keys()
    for name, keys in queues.BINDINGS.items():
        assert [bound["routingKey"] for bound in described[name]["x-bound-with"]] == list(keys)
        assert described[name]["bindings"]["amqp"]["queue"]["durable"] is declared[name].durable
    exchanges = [
        channel["bindings"]["amqp"]["exchange"] for channel in document["channels"].values()
        if channel.get("bindings", {}).get("amqp", {}).get("is") == "routingKey"
    ]  # fmt: skip
    assert len(exchanges) == sum(len(keys) for keys in queues.BINDINGS.values())
    assert all((each["name"], each["type"], each["durable"]) == ("exports", "topic", True) for each in exchanges)
    addresses = [channel["address"] for name, channel in document["channels"].items() if name.startswith("to.")]
    assert addresses == [
        "execute", "acknowledgement", "execute.refused",
        "broker.{recipient}.{event}", "warehouse.{recipient}.{event}", "operator.{recipient}.{event}",
        "upstream.{recipient}.{event}",
    ]  # fmt: skip


def test_document_names_no_host(document: Json) -> None:
    assert {server["host"] for server in document["servers"].values()} == {"{host}"}


def test_service_sends_what_partners_read_and_receives_what_they_write(document: Json) -> None:
    actions = {name: operation["action"] for name, operation in document["operations"].items()}
    assert actions == {
        "receive.execute": "receive", "receive.acknowledgement": "receive", "send.execute.refused": "send", "send.broker": "send",
        "send.warehouse": "send", "send.operator": "send", "send.upstream": "send", "send.webhook": "send",
    }  # fmt: skip
    by_webhook = {each["$ref"].rpartition("/")[2] for each in document["operations"]["send.webhook"]["messages"]}
    by_queue = {
        each["$ref"].rpartition("/")[2]
        for name in ("send.broker", "send.warehouse", "send.operator", "send.upstream")
        for each in document["operations"][name]["messages"]
    }
    assert by_webhook == by_queue == {*MessageType, CONNECTION_TEST}


def test_every_message_has_an_example_that_fits_its_payload(document: Json) -> None:
    messages = document["components"]["messages"]
    assert {*MessageType, CONNECTION_TEST} <= messages.keys()
    for name, message in messages.items():
        payload = message["payload"]
        (example,) = message["examples"]
        validator = Draft7Validator({"allOf": [payload], "components": document["components"]}, validate_formats=True)
        assert sent.list_errors(validator.iter_errors(example["payload"])) == [], name
        # Neither an empty object nor a message of another type fits.
        assert not validator.is_valid({})
    of_another = {
        **messages["exports.package.recorded.v1"]["examples"][0]["payload"],
        "type": "exports.handoff.ready.v1",
    }
    schema = {"allOf": [messages["exports.package.recorded.v1"]["payload"]], "components": document["components"]}
    assert not Draft7Validator(schema).is_valid(of_another)


def test_payloads_match_the_published_schemas(document: Json) -> None:
    """One model in two documents: the same members with the same descriptions."""
    for name, each in PUBLISHED.items():
        address = f"{'said' if each.outbound else 'heard'}.{each.model.__name__}"
        if address in document["components"]["schemas"]:
            described = document["components"]["schemas"][address]["properties"]
            assert described.keys() == build_json_schema(name)["properties"].keys(), name


def test_document_is_served_without_a_key(harness: ApiHarness) -> None:
    answer = harness.client_with_key(None).get("/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert list_errors(answer.json()) == []
