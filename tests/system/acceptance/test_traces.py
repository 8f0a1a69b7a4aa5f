"""The trace of an export through the real processes, with forked workers on the distributed stack; a dead collector."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.workflow.steps import STEPS
from tests.conftest import SERVERS, _start_own_server
from tests.support import factories
from tests.support.collector import Collector, ReceivedSpan
from tests.support.http_endpoint import Endpoint, Script
from tests.support.servers import Redis
from tests.system.acceptance import installation
from tests.system.acceptance.account import PARTNERS, open_account
from tests.system.acceptance.installation import Service, open_distributed, open_embedded
from tests.system.acceptance.programs import read_procfile

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NAMES = {spec.name for spec in STEPS}

STACKS = ("embedded", pytest.param("forked", marks=SERVERS))


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector for the service's processes."""
    with Collector() as running:
        yield running


@contextmanager
def open_traced(
    stack: str,
    url: str,
    folder: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    queue: int = 2048,
) -> Iterator[Service]:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": stack}
    bounds = {"OTEL_BSP_MAX_QUEUE_SIZE": str(queue), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(min(queue, 512))}
    monkeypatch.setattr(installation, "FAST_SETTINGS", {**installation.FAST_SETTINGS, **traced, **bounds})
    if stack == "embedded":
        with open_embedded(f"sqlite:///{folder / 'exports.db'}", folder) as service:
            yield service
        return
    commands = read_procfile()
    commands = {**commands, "worker": commands["worker"] + " --concurrency 2"}
    monkeypatch.setattr(installation, "read_procfile", lambda: commands)
    postgres = request.getfixturevalue("postgres_server")
    with (
        _start_own_server(Redis) as message_broker,
        open_distributed(postgres.fresh_url(owner="exports"), message_broker, folder) as service,
    ):
        yield service


def of_trace(spans: list[ReceivedSpan], *names: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.trace_id == TRACE and (not names or span.name in names)]


def is_whole(spans: list[ReceivedSpan]) -> bool:
    """Return whether all steps are done, and all messages delivered to the webhook."""
    described = [span.attributes for span in of_trace(spans, "deliver")]
    by_webhook = [each for each in described if each["exports.channel"] == "webhook"]
    delivered = [each for each in by_webhook if each["exports.outcome"] == "delivered"]
    return {span.name for span in of_trace(spans)} >= NAMES and len(delivered) == 4


@pytest.mark.parametrize("stack", STACKS)
def test_one_trace_leads_through_all_processes(
    stack: str, collector: Collector, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        open_traced(stack, collector.url, tmp_path, request, monkeypatch) as service,
        Endpoint([Script(503), Script()]) as endpoint,
        open_account(service, PARTNERS[:1] + PARTNERS[2:]) as account,
    ):
        warehouse = {"id": factories.WAREHOUSE, "kind": "warehouse", "name": "Demo warehouse", "test": True}
        warehouse["channels"] = [{"channel": "webhook", "address": endpoint.url}]
        account.http.post("/api/partners", json=warehouse).raise_for_status()
        export_id = account.execute_accepted(account.plan(units=2), traceparent=PARENT)
        account.wait_executed(export_id)
        spans = collector.wait(is_whole)
        (accepted,) = [span for span in of_trace(spans) if span.kind == "server" and span.name.endswith("/execute")]
        parts = of_trace(spans, *NAMES, "deliver")
        assert {span.parent_id for span in parts} == {accepted.span_id}
        assert {span.resource["service.name"] for span in spans} == {stack}
        assert len(of_trace(spans, "render_documents")) == 2
        sent = {span.span_id for span in of_trace(spans, "deliver")}
        for got in endpoint.requests:
            assert got.headers["traceparent"].split("-")[1] == TRACE
            assert got.headers["traceparent"].split("-")[2] in sent
            assert json.loads(got.body)["traceparent"] == f"00-{TRACE}-{accepted.span_id}-01"
        assert '"trace_id": "4bf92f' in service.logs()
        account.execute_accepted(account.plan(), traceparent=PARENT)
    # The processes have ended: what they had not sent yet is here now.
    assert len([span for span in of_trace(collector.spans) if span.name.endswith("/execute")]) == 2


@pytest.mark.parametrize("stack", STACKS)
def test_dead_collector_breaks_and_delays_nothing(
    stack: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Collector(silent=True) as collector,
        open_traced(stack, collector.url, tmp_path, request, monkeypatch, queue=8) as service,
    ):
        with open_account(service) as account:
            for _ in range(3):
                account.wait_executed(account.execute_accepted(account.plan(), traceparent=PARENT))
        assert collector.requests, "the collector was asked"
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 30
        assert "Traceback" not in service.logs()
