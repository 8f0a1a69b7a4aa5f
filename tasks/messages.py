"""The properties of a queue message, and the reply to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kombu import Message

from pipeline.core import ids
from pipeline.core.trace_context import TraceContext, parse_trace_context


@dataclass(frozen=True)
class Reply:
    """The reply to a message: its body and content type."""

    content_type: str
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether it says why the message was refused."""
        return self.content_type == "application/problem+json"


@dataclass(frozen=True)
class MessageProperties:
    """The validated properties of a message. On Redis they can be any JSON."""

    request_id: str
    trace: TraceContext | None
    reply_to: str | None
    correlation_id: str
    task: str | None  # the name of the task, if the message is a call by Celery

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Return the properties of `message`. Invalid ones are ignored, and a missing id is replaced by a new one."""
        properties, headers = message.properties, message.headers
        request_id = ids.safe_request_id(str(properties.get("message_id") or headers.get("id") or ""), "cmd")
        task = headers.get("task")
        # Celery names a queue for results even if its caller wants none.
        reply_to = None if task and headers.get("ignore_result") else properties.get("reply_to")
        return cls(
            request_id=request_id,
            trace=parse_trace_context([headers.get("traceparent")], [headers.get("tracestate")]),
            reply_to=reply_to if isinstance(reply_to, str) and reply_to else None,
            correlation_id=str(properties.get("correlation_id") or request_id),
            task=task if isinstance(task, str) else None,
        )

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return the properties that `to_json` returned."""
        trace = kept["trace"]
        return cls(**{**kept, "trace": None if trace is None else TraceContext(*trace)})

    def to_json(self) -> dict[str, Any]:
        """Return the properties as JSON, for a message that waits in the database."""
        return {**vars(self), "trace": None if self.trace is None else [self.trace.parent, self.trace.state]}


def raw_body(message: Message) -> bytes:
    """Return the body as bytes; some message brokers give it as text."""
    return message.body.encode() if isinstance(message.body, str) else bytes(message.body)
