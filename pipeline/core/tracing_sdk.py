"""Spans by the OpenTelemetry SDK, sent in batches by OTLP over HTTP. Only traced processes import this."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind as OtelKind

from config.settings import load_variables
from pipeline.core.spans import Attribute, Attributes, Span, SpanKind
from pipeline.core.trace_context import TraceContext

#: The time for one batch with its retries, unless OTEL_EXPORTER_OTLP_TIMEOUT says another.
_TIMEOUT_SECONDS: Final = 3.0

#: The name of the thread that sends the last spans of a process.
LAST_SENDER: Final = "last-spans"

_KINDS: Final = {
    "internal": OtelKind.INTERNAL,
    "server": OtelKind.SERVER,
    "consumer": OtelKind.CONSUMER,
    "producer": OtelKind.PRODUCER,
}


class SdkSpan(Span):
    """A span of the SDK."""

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def set(self, **attributes: Attribute | None) -> None:
        self._span.set_attributes(_to_otel(attributes))

    def fail(self, error: BaseException, outcome: str | None = None) -> None:
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attributes(_to_otel({"error.type": type(error).__name__, "outcome": outcome}))

    def end_request(self, method: str, route: str, status: int) -> None:
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


class SdkTracer:
    """The tracer of this process. A full queue drops spans, and no caller ever waits for the collector."""

    def __init__(self) -> None:
        given = load_variables("OTEL_")
        timed = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"} & given
        own = Resource({"service.name": "exports", "service.version": version("exports")})
        # The exporter would log each failed batch and retry. The processor's own warning says that spans are lost.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(timeout=None if timed else _TIMEOUT_SECONDS))
        )
        self._tracer = self._provider.get_tracer("exports", version("exports"))

    @contextmanager
    def open_span(
        self, name: str, parent: TraceContext | None, kind: SpanKind, attributes: Attributes
    ) -> Iterator[Span]:
        """See `tracing.open_span`."""
        started = self._tracer.start_span(
            name, None if parent is None else _to_context(parent), _KINDS[kind], _to_otel(attributes)
        )
        span, ids = SdkSpan(started), started.get_span_context()
        logged = {"trace_id": format_trace_id(ids.trace_id), "span_id": format_span_id(ids.span_id)}
        with (
            use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False),
            structlog.contextvars.bound_contextvars(**logged),
        ):
            try:
                yield span
            except Exception as error:
                span.fail(error)
                raise

    def record_span(
        self, name: str, parent: TraceContext | None, attributes: Attributes, started_ns: int, ended_ns: int
    ) -> None:
        """See `tracing.record_span`."""
        context = None if parent is None else _to_context(parent)
        span = self._tracer.start_span(name, context, attributes=_to_otel(attributes), start_time=started_ns)
        span.end(ended_ns)

    def current_trace(self) -> TraceContext | None:
        """Return the trace context of the current span, None outside of spans."""
        ids = get_current_span().get_span_context()
        if not ids.is_valid:
            return None
        parent = f"00-{format_trace_id(ids.trace_id)}-{format_span_id(ids.span_id)}-{ids.trace_flags:02x}"
        return TraceContext(parent, ids.trace_state.to_header() or None)

    def link_trace(self, other: TraceContext) -> None:
        """See `tracing.link_trace`."""
        get_current_span().add_link(_to_span_context(other))

    def annotate(self, attributes: Attributes) -> None:
        """See `tracing.annotate`."""
        get_current_span().set_attributes(_to_otel(attributes))

    def stop(self, seconds: float) -> None:
        """Send what is left, for at most so long."""
        # The SDK would wait for half a minute for a collector that does not answer.
        sending = threading.Thread(target=self._provider.shutdown, name=LAST_SENDER, daemon=True)
        sending.start()
        sending.join(seconds)


def _to_otel(attributes: Attributes) -> dict[str, Attribute]:
    return {
        name if "." in name else f"exports.{name}": value for name, value in attributes.items() if value is not None
    }


def _to_context(trace: TraceContext) -> Context:
    return set_span_in_context(NonRecordingSpan(_to_span_context(trace)), Context())


def _to_span_context(trace: TraceContext) -> SpanContext:
    _, trace_id, span_id, flags = trace.parent.split("-")
    state = TraceState.from_header([] if trace.state is None else [trace.state])
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)), trace_state=state
    )
