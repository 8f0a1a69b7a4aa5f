"""The `webhooks` of the OpenAPI document: each message that the service posts to a partner, from the AsyncAPI document's models."""

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from pipeline.deliveries.schemas.cloudevent import MEDIA_TYPE, CloudEventEnvelope
from pipeline.interfaces.contracts.asyncapi import QUEUES_BY_TYPE
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, Json, allow_more_members

#: A model may also be in a request, and is closed there: the schemas of messages have names of their own.
_SCHEMAS: Final = "#/components/schemas/Outbound"

_ABOUT: Final = (
    "The bytes are the same on every attempt and by every channel. Check the signature as Standard Webhooks 1.0 describes,"
    " keep the message once by its `id`, and ignore members and types that you do not know."
)


def build_webhooks(security: list[dict[str, list[str]]]) -> Json:
    """Return the webhooks by their CloudEvent type; `security` names the schemes of their signature."""
    return {str(kind): {"post": _build_webhook(str(kind), security)} for kind in QUEUES_BY_TYPE}


def build_message_schemas() -> Json:
    """Return the schemas of the webhooks, by their names in `components`."""
    models = [PUBLISHED[kind].model for kind in QUEUES_BY_TYPE] + [CloudEventEnvelope]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models], by_alias=True, ref_template=f"{_SCHEMAS}{{model}}"
    )
    return {f"Outbound{name}": allow_more_members(schema) for name, schema in definitions["$defs"].items()}


def _build_webhook(kind: str, security: list[dict[str, list[str]]]) -> Json:
    model = PUBLISHED[kind].model
    # exports.handoff.ready.v1 -> receiveHandoffReady; later versions keep their number.
    words = kind.removeprefix("exports.").removesuffix(".v1").split(".")
    message: dict[str, Any] = {
        "allOf": [
            {"$ref": f"{_SCHEMAS}{CloudEventEnvelope.__name__}"},
            {
                "type": "object",
                "properties": {"type": {"const": kind}, "data": {"$ref": f"{_SCHEMAS}{model.__name__}"}},
            },
        ]
    }
    return {
        "operationId": "receive" + "".join(word.capitalize() for word in words),
        "summary": (model.__doc__ or "").split("\n", 1)[0].rstrip("."),
        "description": _ABOUT,
        "tags": ["webhooks"],
        "security": security,
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": message, "examples": {kind: {"value": read_example(kind)}}}},
        },
        "responses": {
            "204": {"description": "Accepted; every other 2xx is too"},
            "4XX": {"description": "Not accepted; the service sends the message again later"},
        },
    }
