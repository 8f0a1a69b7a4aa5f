"""Tests of tracing: without a collector or the extra nothing happens; a collector that is dead costs nothing."""

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from pydantic import ValidationError
from structlog.testing import capture_logs

from config.settings import Settings
from pipeline.core import tracing
from pipeline.core.trace_context import TraceContext
from tests.support.collector import Collector, traced
from tests.support.interpreter import run_interpreter
from tests.support.ports import LOOPBACK

PARENT = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")

EVERYTHING = """
import sys
{before}
import config.celery, pipeline.interfaces.app, pipeline.simulation.drill.runner, tasks.deliveries, tasks.intake_runner, tasks.steps, tasks.sweeper
from pipeline.core import tracing
from pipeline.core.runtime import process_runtime
process_runtime()
with tracing.open_span("step") as span:
    span.set(outcome="done")
print(tracing.is_tracing(), tracing.current_trace(), any(name.startswith("opentelemetry.sdk") and module for name, module in sys.modules.items()))
"""


@pytest.mark.system
def test_nothing_is_imported_without_a_collector(tmp_path: Path) -> None:
    ended = run_interpreter(EVERYTHING.format(before=""), tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False None False\n", "")


@pytest.mark.system
@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter"])
def test_service_works_without_the_extra_and_says_so(missing: str, tmp_path: Path) -> None:
    before = f"sys.modules[{missing!r}] = None"
    ended = run_interpreter(
        EVERYTHING.format(before=before), tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    warning, result = ended.stdout.splitlines()
    assert "traces_not_sent" in warning
    assert "exports[otel]" in warning
    assert result == "False None False"


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "True"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}]
)
def test_standard_variables_turn_traces_off(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert Settings().is_traced
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not Settings().is_traced
    tracing.start_tracing(Settings())
    assert not tracing.is_tracing()


def test_endpoint_of_traces_alone_turns_them_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example/v1/traces")
    assert Settings().is_traced


def test_endpoint_without_a_scheme_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "user:password@collector:4317")
    with pytest.raises(ValidationError, match="must begin with http:// or https://") as refused:
        Settings()
    assert "password" not in str(refused.value)


def test_invalid_variable_turns_traces_off_and_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")  # fewer than a batch
    with Collector() as collector, traced(monkeypatch, collector.url), capture_logs() as logged:
        for _ in range(2):
            with tracing.open_span("step", PARENT) as span:
                span.set(outcome="done")
        assert not tracing.is_tracing()
    assert [(record["event"], record["reason"]) for record in logged] == [("traces_not_sent", "ValueError")]


TRACED = """
import os
from pipeline.core import tracing
from pipeline.core.runtime import process_runtime
process_runtime()
{then}
"""


def test_end_of_the_process_sends_what_is_left_and_dotenv_counts(tmp_path: Path) -> None:
    with Collector() as collector:
        lines = [f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.url}", "OTEL_SERVICE_NAME=customs"]
        (tmp_path / ".env").write_text("\n".join([*lines, "OTEL_BSP_SCHEDULE_DELAY=60000"]))
        then = "with tracing.open_span('last'): pass"
        ended = run_interpreter(TRACED.format(then=then), tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert [(span.name, span.resource["service.name"]) for span in collector.spans] == [("last", "customs")]


FORKED = """
with tracing.open_span("parent"):
    pass
for number in range(2):
    child = os.fork()
    if child == 0:
        with tracing.open_span(f"child {number}"):
            pass
        tracing.stop_tracing()
        os._exit(0)
    os.waitpid(child, 0)
with tracing.open_span("parent again"):
    pass
"""


@pytest.mark.system
def test_forked_processes_send_their_own_spans_once(tmp_path: Path) -> None:
    with Collector() as collector:
        ended = run_interpreter(
            TRACED.format(then=FORKED),
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="60000",
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert sorted(span.name for span in collector.spans) == ["child 0", "child 1", "parent", "parent again"]


@pytest.mark.parametrize("silent", [True, False])
def test_dead_collector_holds_nobody(*, silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that accepts connections and never answers, nor one that is not there: another thread sends."""
    senders: list[int] = []
    send = OTLPSpanExporter.export

    def note(exporter: OTLPSpanExporter, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        senders.append(threading.get_ident())
        return send(exporter, spans)

    monkeypatch.setattr(OTLPSpanExporter, "export", note)
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        gone = f"http://{LOOPBACK}:{free.getsockname()[1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")  # seconds; longer than the flush
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")  # more than a batch, fewer than the spans
    with Collector(silent=True) as collector, traced(monkeypatch, collector.url if silent else gone):
        for number in range(3_000):
            with tracing.open_span("step", PARENT, attributes={"attempt": number}):
                pass
        assert threading.get_ident() not in senders
        began = time.monotonic()
        tracing.stop_tracing()
        assert time.monotonic() - began < tracing.FLUSH_SECONDS + 1
        assert senders


def test_failed_span_names_the_class_of_the_error_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        with traced(monkeypatch, collector.url):
            with pytest.raises(LookupError), tracing.open_span("step", PARENT):
                raise LookupError("12 Maple Road, price 9.99")
            tracing.record_span("done", PARENT, {"attempt": 1}, started_ns=1_000, ended_ns=3_000)
        failed, done = sorted(collector.wait(lambda found: len(found) == 2), key=lambda span: -span.started)
        assert (failed.failed, failed.attributes, failed.events) == (True, {"error.type": "LookupError"}, 0)
        assert (failed.parent_id, failed.state) == ("00f067aa0ba902b7", "vendor=1")
        assert (done.started, done.ended, done.attributes) == (1_000, 3_000, {"exports.attempt": 1})
        assert "Maple" not in repr(collector.spans)
