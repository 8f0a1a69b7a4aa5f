"""Spans, the pieces of work in a trace, and what a tracer of them does."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from pipeline.core.trace_context import TraceContext

SpanKind = Literal["internal", "server", "consumer", "producer"]
Attribute = str | int
#: The attributes of a span. Never an address, a price, a name or a secret: a collector is not the log of an export.
Attributes = Mapping[str, Attribute | None]


class Span:
    """A piece of work in a trace. This one is not traced: its methods do nothing."""

    def set(self, **attributes: Attribute | None) -> None:
        """Set attributes, named `exports.NAME`."""

    def fail(self, error: BaseException, outcome: str | None = None) -> None:
        """Mark the span as failed, by the class of the error: its text may hold an address."""

    def end_request(self, method: str, route: str, status: int) -> None:
        """Record the answer to an HTTP request, and name the span by the route."""


class Tracer(Protocol):
    """Makes the spans of this process and sends them to the collector."""

    def open_span(
        self, name: str, parent: TraceContext | None, kind: SpanKind, attributes: Attributes
    ) -> AbstractContextManager[Span]:
        """See `tracing.open_span`."""
        ...

    def record_span(
        self, name: str, parent: TraceContext | None, attributes: Attributes, started_ns: int, ended_ns: int
    ) -> None:
        """See `tracing.record_span`."""
        ...

    def current_trace(self) -> TraceContext | None:
        """Return the trace context of the current span, None outside of spans."""
        ...

    def link_trace(self, other: TraceContext) -> None:
        """See `tracing.link_trace`."""
        ...

    def annotate(self, attributes: Attributes) -> None:
        """See `tracing.annotate`."""
        ...

    def stop(self, seconds: float) -> None:
        """Send what is left, for at most so long."""
        ...
