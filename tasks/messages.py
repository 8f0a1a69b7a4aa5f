"""What a queue message carries besides the command, and what is answered to it."""

from __future__ import annotations

from dataclasses import dataclass

from kombu import Message

from pipeline.core import ids
from pipeline.deliveries.schemas.cloudevent import parse_trace_parent


@dataclass(frozen=True)
class Reply:
    """What is said to a message: the body and what it is."""

    content_type: str
    body: bytes


@dataclass(frozen=True)
class MessageProperties:
    """What a message says beside its body, as far as it may be used: Redis carries whatever JSON somebody wrote there."""

    request_id: str
    trace_parent: str | None
    reply_to: str | None
    correlation_id: str

    @classmethod
    def from_message(cls, message: Message) -> MessageProperties:
        """Read it; what makes no sense is left aside, and a message without an id is given one."""
        properties, headers = message.properties, message.headers
        request_id = ids.safe_request_id(str(properties.get("message_id") or headers.get("id") or ""), "cmd")
        reply_to = properties.get("reply_to")
        return cls(
            request_id=request_id,
            trace_parent=parse_trace_parent(headers.get("traceparent")),
            reply_to=reply_to if isinstance(reply_to, str) and reply_to else None,
            correlation_id=str(properties.get("correlation_id") or request_id),
        )


def raw_body(message: Message) -> bytes:
    """Return the body as bytes, whichever form the message broker gave it."""
    return message.body.encode() if isinstance(message.body, str) else bytes(message.body)
