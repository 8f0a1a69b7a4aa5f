"""Makes spans of OpenTelemetry traces. Without a collector in the settings, nothing is imported and nothing happens."""

import atexit
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import structlog

from config.settings import Settings
from pipeline.core.spans import Attribute, Attributes, Span, SpanKind, Tracer
from pipeline.core.trace_context import TraceContext

log = structlog.get_logger(__name__)

#: How long the end of a process waits for the collector.
FLUSH_SECONDS: Final = 1.0

_NO_SPAN: Final = nullcontext(Span())

_on = False
_tracer: Tracer | None = None
_starting = threading.Lock()


def start_tracing(settings: Settings) -> None:
    """Trace the work of this process from now on, if the settings name a collector and the extra `otel` is installed."""
    global _on  # noqa: PLW0603 - one state of the whole process
    if _on or not settings.is_traced:
        return
    # FastAPI brings `opentelemetry` itself, which is only an interface.
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        log.warning("traces_not_sent", reason="the extra is not installed", remedy='install "exports[otel]"')
        return
    # Before a process forks its children: an import in a child could wait for a lock that a thread of the parent held.
    import_module("pipeline.core.tracing_sdk")
    _on = True
    # The thread that sends is started by the first span of a process. So no process inherits one that does not run.
    os.register_at_fork(after_in_child=_forget_tracer)
    atexit.register(stop_tracing)


def stop_tracing() -> None:
    """Send the spans that are left, for at most FLUSH_SECONDS, and trace nothing more in this process."""
    global _on
    _on, tracer = False, _tracer
    _forget_tracer()
    if tracer is not None:
        tracer.stop(FLUSH_SECONDS)


def is_tracing() -> bool:
    """Return whether this process makes spans."""
    return _on


def open_span(
    name: str, parent: TraceContext | None = None, *, kind: SpanKind = "internal", attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """Return the span of the block, a part of `parent` or else of the current span. An error in the block fails it.

    The log records of the block carry its `trace_id` and `span_id`. Attributes are named `exports.NAME` if their name has
    no dot; those that are None are left out.
    """
    tracer = _get_tracer()
    return _NO_SPAN if tracer is None else tracer.open_span(name, parent, kind, attributes or {})


def record_span(
    name: str, parent: TraceContext | None, attributes: Attributes, *, started_ns: int, ended_ns: int
) -> None:
    """Record a span of work that is done, between two instants in nanoseconds since 1970."""
    if (tracer := _get_tracer()) is not None:
        tracer.record_span(name, parent, attributes, started_ns, ended_ns)


def current_trace(otherwise: TraceContext | None = None) -> TraceContext | None:
    """Return the trace context of the current span, or `otherwise` if nothing is traced."""
    tracer = _get_tracer()
    return (None if tracer is None else tracer.current_trace()) or otherwise


def link_trace(other: TraceContext | None) -> None:
    """Link the current span to another trace."""
    if other is not None and (tracer := _get_tracer()) is not None:
        tracer.link_trace(other)


def annotate(**attributes: Attribute | None) -> None:
    """Set attributes of the current span, named `exports.NAME`."""
    if (tracer := _get_tracer()) is not None:
        tracer.annotate(attributes)


def _get_tracer() -> Tracer | None:
    global _on, _tracer  # noqa: PLW0603
    if not _on or _tracer is not None:
        return _tracer
    with _starting:
        if _tracer is None:
            try:
                from pipeline.core.tracing_sdk import SdkTracer  # noqa: PLC0415 - only traced processes have the libraries

                _tracer = SdkTracer()
            except Exception as error:
                # An invalid OTEL_ variable must not end the work.
                log.exception("traces_not_sent", reason=type(error).__name__, remedy="check the variables OTEL_*")
                _on = False
        return _tracer


def _forget_tracer() -> None:
    global _tracer, _starting
    _tracer, _starting = None, threading.Lock()
