"""An OpenTelemetry collector on loopback: it takes spans by OTLP over HTTP (protobuf) and keeps them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from config.settings import Settings
from pipeline.core import tracing
from pipeline.core.tracing_sdk import LAST_SENDER
from tests.support.ports import LOOPBACK


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as the collector got it. Ids are in hex; `parent_id` is empty for the first span of a trace."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[str]
    failed: bool
    events: int
    started: int
    ended: int
    state: str


class Collector:
    """A running collector. `silent` ones accept connections and never answer."""

    def __init__(self, *, silent: bool = False) -> None:
        self.spans: list[ReceivedSpan] = []
        self.requests = 0
        outer, self._ended = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.requests += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                if silent:
                    outer._ended.wait(60)
                    self.close_connection = True
                    return
                assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
                outer.spans += list(_read_spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def wait(self, enough: Callable[[list[ReceivedSpan]], bool], seconds: float = 60) -> list[ReceivedSpan]:
        """Return the spans when they are enough; raise AssertionError if that takes too long."""
        until = time.monotonic() + seconds
        while not enough(spans := list(self.spans)):
            assert time.monotonic() < until, [(span.name, span.attributes) for span in spans]
            time.sleep(0.05)
        return spans


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[None]:
    """Trace the work of the test's own process for the block."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    tracing.start_tracing(Settings())
    assert tracing.is_tracing()
    try:
        yield
    finally:
        tracing.stop_tracing()
        # A thread that still waits for a dead collector would write its error into the log of a later test.
        for thread in threading.enumerate():
            if thread.name == LAST_SENDER:
                thread.join(timeout=30)
                assert not thread.is_alive(), "the last spans are still being sent"


def _read_spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_resource in request.resource_spans:
        resource = {each.key: _read_value(each.value) for each in of_resource.resource.attributes}
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    attributes={each.key: _read_value(each.value) for each in span.attributes},
                    resource=resource,
                    links=[link.trace_id.hex() for link in span.links],
                    failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    events=len(span.events),
                    started=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    state=span.trace_state,
                )


def _read_value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
