"""Published schemas stay: no current one breaks its users, and every example fits its schema."""

from typing import Any

import jsonschema_rs
import pytest
from jsonschema_rs import Draft202012Validator

from config import queues
from pipeline.deliveries.channels.queue import CONTENT_TYPE
from pipeline.deliveries.schemas.cloudevent import MEDIA_TYPE
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType, describe_message_type
from pipeline.interfaces.contracts.asyncapi import QUEUES_BY_TYPE
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from tests.interfaces.contracts import published, sent
from tests.support.tables import table

SENT = {*MessageType, CONNECTION_TEST}


@table("name", published.names())
def test_schema_does_not_break_the_published_one(name: str) -> None:
    assert published.list_breaks(name) == [], published.REMEDY


def test_additions_are_published() -> None:
    of_today = {name: build_json_schema(name) for name in PUBLISHED}
    as_published = {name: published.read(name) for name in published.names()}
    differing = sorted(name for name in {*of_today, *as_published} if of_today.get(name) != as_published.get(name))
    assert differing == [], "run `make contracts`: it publishes what only adds, and refuses the rest"


@table("name", PUBLISHED)
def test_example_fits_its_schema(name: str) -> None:
    jsonschema_rs.meta.validate(build_json_schema(name))
    published_one = PUBLISHED[name]
    # Checked against the closed schema: an example holds no removed member.
    closed = published_one.model.model_json_schema(mode="serialization" if published_one.outbound else "validation")
    shown = read_example(name)
    for schema in (build_json_schema(name), closed):
        errors = Draft202012Validator(schema, validate_formats=True).iter_errors(
            shown["data"] if name in SENT else shown
        )
        assert sent.list_errors(errors) == []
    if name in SENT:
        sent.check(shown)


def test_example_of_a_request_is_the_bundled_plan() -> None:
    assert read_example("execute-request")["plan"] == read_example("plan")


def test_inbound_schemas_are_closed_and_outbound_ones_open() -> None:
    for name, each in PUBLISHED.items():
        assert (
            [*_closed(build_json_schema(name))] == []
            if each.outbound
            else build_json_schema(name)["additionalProperties"] is False
        ), name


def _closed(schema: Any) -> list[Any]:
    if isinstance(schema, dict):
        here = [schema] if schema.get("additionalProperties") is False and schema.get("properties") else []
        return here + [found for value in schema.values() for found in _closed(value)]
    return [found for each in schema for found in _closed(each)] if isinstance(schema, list) else []


def test_every_message_type_is_published_and_has_a_queue() -> None:
    assert QUEUES_BY_TYPE.keys() == SENT
    assert PUBLISHED.keys() >= SENT
    assert {name for names in QUEUES_BY_TYPE.values() for name in names} == {
        queues.CUSTOMS_BROKER,
        queues.WAREHOUSE,
        queues.OPERATOR,
        queues.UPSTREAM,
    }
    assert CONTENT_TYPE == MEDIA_TYPE


# The hook under which the whole test suite runs


def test_message_that_differs_from_its_schema_is_detected() -> None:
    message = read_example("exports.package.recorded.v1")
    sent.check(message)
    for wrong in (
        {**message, "data": {key: value for key, value in message["data"].items() if key != "packageRef"}},
        {**message, "data": {**message["data"], "version": "1"}},
        {**message, "dataschema": "https://exports.example/api/schemas/exports.handoff.ready.v1.json"},
        {**message, "type": "exports.package.unheard.v1"},
        {key: value for key, value in message.items() if key != "id"},
        {**message, "time": "yesterday"},
    ):
        with pytest.raises(sent.SchemaMismatch):
            sent.check(wrong)


def test_each_message_has_words_of_its_own() -> None:
    words = [describe_message_type(each) for each in (*MessageType, CONNECTION_TEST)]
    assert len({*words}) == len(words)
    assert not [each for each in words if each.startswith("exports.")]
    assert describe_message_type("exports.new.v1") == "exports.new.v1"
