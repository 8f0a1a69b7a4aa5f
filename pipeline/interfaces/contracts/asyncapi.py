"""The AsyncAPI 3.0 document: queues, the webhook, and every message in and out, built from the same models."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from config import queues
from pipeline.deliveries.schemas.cloudevent import MEDIA_TYPE, SIGNATURE_HEADERS, CloudEventEnvelope
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, Json, allow_more_members

VERSION: Final = "3.0.0"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

_QUEUES: Final = {
    "customs_broker": queues.CUSTOMS_BROKER,
    "warehouse": queues.WAREHOUSE,
    "operator": queues.OPERATOR,
    "upstream": queues.UPSTREAM,
}

#: The queues that receive a message, by its type.
QUEUES_BY_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    **{each: tuple(map(_QUEUES.__getitem__, each.receivers)) for each in MessageType},
    CONNECTION_TEST: tuple(_QUEUES.values()),
}

#: Inbound messages and our answers: message -> published schema, media type, one sentence.
_OTHER_MESSAGES: Final[Mapping[str, tuple[str, str, str]]] = {
    "command": ("execute-request", JSON, "Execute an approved plan; `idempotencyKey` is required."),
    "acknowledgement": ("sent-acknowledgement", JSON, "A customs broker's answer to a handoff, signed."),
    "refusal": ("problem", PROBLEM, "Why a command or an acknowledgement was rejected."),
    "export": ("export", JSON, "The export that a command created, as it is now."),
    "receipt": ("acknowledgement-receipt", JSON, "An acknowledgement was recorded."),
}
_TRACE_HEADERS: Final[Json] = {
    "traceparent": {"type": "string", "description": "W3C Trace Context; an invalid one is ignored"},
    "tracestate": {"type": "string", "description": "The rest of the W3C Trace Context"},
}
_MESSAGES_BY_QUEUE: Final[Mapping[str, tuple[str, ...]]] = {
    queues.EXECUTE: ("command",),
    queues.ACKNOWLEDGEMENTS: ("acknowledgement",),
    queues.REFUSED: ("refusal",),
    queues.DEAD: ("command", "acknowledgement", *QUEUES_BY_TYPE),
}
_QUEUE_DESCRIPTIONS: Final[Mapping[str, str]] = {
    queues.EXECUTE: "Commands of upstream services. A sender that may write here may execute for any account.",
    queues.ACKNOWLEDGEMENTS: "Customs brokers' answers to handoffs, signed with the partner's secret.",
    queues.REFUSED: "Answers to rejected commands; `correlation_id` is the command's.",
    queues.CUSTOMS_BROKER: "Handoffs, for customs brokers.",
    queues.WAREHOUSE: "Packages, for warehouses: no price, no value and no customs fact.",
    queues.OPERATOR: "Outcomes of exports, and what needs a person, for operators.",
    queues.UPSTREAM: "Outcomes of exports and of their entries, for the upstream service that asked for the export.",
    queues.DEAD: "Messages that a consumer rejected.",
}
_RECIPIENTS: Final = {
    "broker": "the customs broker's id, or `<account>:<id>` if a customs broker of another account had that id first",
    "warehouse": "the warehouse's id, or `<account>:<id>` if a warehouse of another account had that id first",
    "operator": "the account's id",
    "upstream": "the upstream partner's id, or `<account>:<id>` if one of another account had that id first",
}

_DESCRIPTION: Final = """\
Messages about exports: to customs brokers, warehouses, operators and upstream services, and commands and answers from upstream services and customs
brokers. This document describes the service: it **sends** what others read, and **receives** what others write.

Every message by queue passes through one durable topic exchange. Outbound messages are CloudEvents 1.0 in structured JSON, sent at
least once: dedupe by `id`. Within a version we may add members and types to them; ignore what you do not know.
"""


def build_document(version: str) -> Json:
    """Return the document of this version of the service."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Exports",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": _build_servers(),
        "channels": {
            **_build_queue_channels(),
            **_build_key_channels(),
            "webhook": _build_webhook(),
            "reply": _build_reply(),
        },
        "operations": _build_operations(),
        "components": {"schemas": _build_schemas(), "messages": _build_messages()},
    }


def _build_servers() -> Json:
    # Each installation has its own host.
    host = {"host": {"description": "The installation's message broker, or the partner's own endpoint"}}
    return {
        "rabbitmq": {
            "host": "{host}",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ: quorum queues, publisher confirms.",
            "variables": host,
        },
        "redis": {
            "host": "{host}",
            "protocol": "redis",
            "description": "Redis: lists whose entries are kombu's envelopes; read them with kombu.",
            "variables": host,
        },
        "partner": {
            "host": "{host}",
            "protocol": "https",
            "description": "A partner's own endpoint, for webhooks.",
            "variables": host,
        },
    }


def _message_broker_refs() -> list[Json]:
    return [{"$ref": "#/servers/rabbitmq"}, {"$ref": "#/servers/redis"}]


def _build_queue_channels() -> Json:
    """Return a channel for each queue of the contract; `x-bound-with` lists the keys that bind it to the exchange."""
    return {
        name: {
            "address": name,
            "title": f"The queue {name}",
            "description": _QUEUE_DESCRIPTIONS[name],
            "servers": _message_broker_refs(),
            "messages": _message_refs(_message_names(name)),
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "queue": {"name": name, "durable": True, "exclusive": False, "autoDelete": False},
                    "bindingVersion": "0.3.0",
                }
            },
            "x-bound-with": [
                {"exchange": queues.EXCHANGE_NAME, "routingKey": key} for key in queues.BINDINGS.get(name, ())
            ],
        }
        for name in [*queues.BINDINGS, queues.DEAD]
    }


def _build_key_channels() -> Json:
    """Return a channel for each routing key: `<audience>.<recipient>.<event>`, or one word."""
    channels: Json = {}
    for name, keys in queues.BINDINGS.items():
        for key in keys:
            segment = key.removesuffix(".#")
            channels[f"to.{segment}"] = {
                "address": f"{segment}.{{recipient}}.{{event}}" if segment in _RECIPIENTS else segment,
                "title": f"Publishing with {key}",
                "description": f"Routes to the queue `{name}`, and to every partner's own queue that is bound with it.",
                "servers": _message_broker_refs(),
                "messages": _message_refs(_message_names(name)),
                "bindings": {
                    "amqp": {
                        "is": "routingKey",
                        "exchange": {
                            "name": queues.EXCHANGE_NAME,
                            "type": "topic",
                            "durable": True,
                            "autoDelete": False,
                        },
                        "bindingVersion": "0.3.0",
                    }
                },
                **_build_parameters(segment, name),
            }
    return channels


def _build_parameters(segment: str, queue: str) -> Json:
    if segment not in _RECIPIENTS:
        return {}
    return {
        "parameters": {
            "recipient": {
                "description": f"Here {_RECIPIENTS[segment]}; `sandbox` if a test export goes to a live partner"
            },
            "event": {
                "description": "The CloudEvent type without `exports.`",
                "enum": [each.removeprefix("exports.") for each in _message_names(queue)],
            },
        }
    }


def _build_webhook() -> Json:
    return {
        "address": None,
        "title": "Webhooks to a partner's address",
        "description": "POST of the same bytes as by queue, signed as Standard Webhooks 1.0 describes. 2xx accepts the message.",
        "servers": [{"$ref": "#/servers/partner"}],
        "messages": _message_refs(QUEUES_BY_TYPE),
    }


def _build_reply() -> Json:
    return {
        "address": None,
        "title": "The queue that a message names for its answer",
        "description": "Named by the property `reply_to`; the answer carries the message's `correlation_id`.",
        "servers": _message_broker_refs(),
        "messages": _message_refs(("export", "receipt", "refusal")),
    }


def _build_operations() -> Json:
    built: Json = {}
    for name, keys in queues.BINDINGS.items():
        if name in {queues.EXECUTE, queues.ACKNOWLEDGEMENTS}:
            built[f"receive.{keys[0]}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": _QUEUE_DESCRIPTIONS[name],
                "messages": _channel_message_refs(name, _message_names(name)),
                "reply": {
                    "address": {"location": "$message.header#/reply_to"},
                    "channel": {"$ref": "#/channels/reply"},
                    "messages": _channel_message_refs(
                        "reply", ("export" if name == queues.EXECUTE else "receipt", "refusal")
                    ),
                },
                "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
            }
            continue
        for key in keys:
            channel = f"to.{key.removesuffix('.#')}"
            built[f"send.{key.removesuffix('.#')}"] = {
                "action": "send",
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": _QUEUE_DESCRIPTIONS[name],
                "messages": _channel_message_refs(channel, _message_names(name)),
                "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": "0.3.0"}},
            }
    built["send.webhook"] = {
        "action": "send",
        "channel": {"$ref": "#/channels/webhook"},
        "summary": "Posts each pending message to a partner with a webhook.",
        "messages": _channel_message_refs("webhook", QUEUES_BY_TYPE),
        "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
    }
    return built


def _message_names(queue: str) -> list[str]:
    """Return the names of the messages that a queue holds."""
    return [*_MESSAGES_BY_QUEUE.get(queue, ()), *(kind for kind, names in QUEUES_BY_TYPE.items() if queue in names)]


def _message_refs(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _channel_message_refs(channel: str, names: Iterable[str]) -> list[Json]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]


def _build_messages() -> Json:
    events = {str(kind): _build_event(str(kind), PUBLISHED[kind].model) for kind in QUEUES_BY_TYPE}
    others = {
        name: {
            "name": name,
            "title": about,
            "contentType": media_type,
            "payload": {"$ref": _schema_ref(PUBLISHED[schema].model, outbound=PUBLISHED[schema].outbound)},
            "examples": [{"name": schema, "payload": read_example(schema)}],
        }
        for name, (schema, media_type, about) in _OTHER_MESSAGES.items()
    }
    others["acknowledgement"]["headers"] = _build_signature_headers(
        "over the exact bytes of the body, with the partner's secret"
    )
    others["command"]["headers"] = {"type": "object", "properties": _TRACE_HEADERS}
    return {**events, **others}


def _build_event(kind: str, model: type[BaseModel]) -> Json:
    return {
        "name": kind,
        "title": (model.__doc__ or "").split("\n", 1)[0],
        "contentType": MEDIA_TYPE,
        "payload": {
            "allOf": [
                {"$ref": _schema_ref(CloudEventEnvelope, outbound=True)},
                {
                    "type": "object",
                    "properties": {"type": {"const": kind}, "data": {"$ref": _schema_ref(model, outbound=True)}},
                },
            ]
        },
        "bindings": {
            "amqp": {"contentEncoding": "utf-8", "messageType": kind, "bindingVersion": "0.3.0"},
            "http": {"headers": _build_webhook_headers(), "bindingVersion": "0.3.0"},
        },
        "examples": [{"name": kind, "payload": read_example(kind)}],
    }


def _build_webhook_headers() -> Json:
    signed = _build_signature_headers("of a webhook, and the trace that the message belongs to")
    return signed | {"properties": signed["properties"] | _TRACE_HEADERS}


def _build_signature_headers(which: str) -> Json:
    return {
        "type": "object",
        "description": f"The three headers of Standard Webhooks, {which}",
        "required": list(SIGNATURE_HEADERS),
        "properties": {name: {"type": "string"} for name in SIGNATURE_HEADERS},
    }


def _schema_ref(model: type[BaseModel], *, outbound: bool) -> str:
    return f"#/components/schemas/{'outbound' if outbound else 'inbound'}.{model.__name__}"


def _build_schemas() -> Json:
    """Return every schema of a payload; a model may be there twice: outbound schemas are open, inbound ones closed."""
    names = {schema for schema, _, _ in _OTHER_MESSAGES.values()} | {*QUEUES_BY_TYPE} | {"cloud-event"}
    built: Json = {}
    for outbound in (True, False):
        models = [PUBLISHED[name].model for name in sorted(names) if PUBLISHED[name].outbound == outbound]
        prefix = "outbound" if outbound else "inbound"
        _, definitions = models_json_schema(
            [(model, "serialization" if outbound else "validation") for model in models],
            by_alias=True,
            ref_template=f"#/components/schemas/{prefix}.{{model}}",
        )
        for name, schema in definitions["$defs"].items():
            built[f"{prefix}.{name}"] = _to_draft_7(allow_more_members(schema) if outbound else schema)
    return built


def _to_draft_7(schema: Any) -> Any:
    """Return the schema in AsyncAPI's own dialect, which ignores members beside a reference."""
    if isinstance(schema, dict):
        plain = {key: _to_draft_7(value) for key, value in schema.items()}
        if "$ref" in plain and len(plain) > 1:
            reference = {"$ref": plain.pop("$ref")}
            return {"allOf": [reference], **plain}
        return plain
    return [_to_draft_7(each) for each in schema] if isinstance(schema, list) else schema
