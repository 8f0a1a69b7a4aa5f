"""The trace of an export, from the HTTP request through steps and documents to the delivery attempts."""

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog
from sqlmodel import col, select

from config.logs import configure_logs
from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core import tracing
from pipeline.deliveries.streams import sender
from pipeline.exports.models import Export
from pipeline.workflow.steps import STEPS
from tests.interfaces.api.conftest import ApiHarness, Open, execution
from tests.support import factories
from tests.support.collector import Collector, ReceivedSpan, traced
from tests.support.http_endpoint import Endpoint, Script
from tests.support.query_counter import record_statements

EXECUTE = "/api/exports/execute"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NAMES = {spec.name for spec in STEPS}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that gets the spans of this process."""
    with Collector() as running, traced(monkeypatch, running.url):
        yield running


@pytest.fixture
def open_local(open_harness: Open) -> ApiHarness:
    """A running API whose partners may be on loopback, and whose failed deliveries are due again at once."""
    return open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001, 0.001, 0.001))


def register_hook(harness: ApiHarness, url: str, partner_id: str = "wh_hook") -> factories.Json:
    new = {"id": partner_id, "kind": "warehouse", "name": "of a test", "live": True}
    new["channels"] = [{"channel": "webhook", "address": url}]
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    return factories.plan(warehouse=partner_id)


def execute(harness: ApiHarness, plan: factories.Json, **headers: str) -> str:
    answer = harness.client("execute").post(EXECUTE, json=execution(plan), headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["exportId"])


def deliver(harness: ApiHarness, export_id: str, partner_id: str = "wh_hook") -> None:
    sender.deliver_stream(harness.runtime, export_id, partner_id, "webhook")


def named(spans: list[ReceivedSpan], *names: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.name in names]


def read_trace(harness: ApiHarness, export_id: str) -> tuple[str | None, str | None]:
    with harness.runtime.db.read() as session:
        row = session.exec(select(Export).where(col(Export.id) == export_id)).one()
        return row.trace_parent, row.trace_state


def test_one_trace_leads_from_the_request_to_the_delivery(open_local: ApiHarness, collector: Collector) -> None:
    with Endpoint([Script(503, b"not now"), Script()]) as hook:
        plan = register_hook(open_local, f"{hook.url}/in?key=of-the-partner")
        export_id = execute(open_local, plan, traceparent=PARENT, tracestate="vendor=1")
        open_local.run(export_id)
        while len(hook.requests) < 3:
            deliver(open_local, export_id)
    spans = collector.wait(lambda found: len(named(found, "deliver")) == 5)

    assert {span.trace_id for span in spans} == {TRACE}
    (request,) = [span for span in spans if span.kind == "server"]
    assert (request.name, request.parent_id, request.state) == (f"POST {EXECUTE}", "00f067aa0ba902b7", "vendor=1")
    assert request.attributes["http.response.status_code"] == 202
    stored = f"00-{TRACE}-{request.span_id}-01"
    assert read_trace(open_local, export_id) == (stored, "vendor=1")

    steps = named(spans, *NAMES)
    assert {span.name for span in steps} == NAMES
    assert len(steps) == len(NAMES), "each step once"
    assert {span.parent_id for span in steps} == {request.span_id}
    assert {span.attributes["exports.outcome"] for span in steps} == {"done"}
    (render,) = named(steps, "render_documents")
    documents = named(spans, "render_document")
    assert "cci_pdf" in {span.attributes["exports.document_kind"] for span in documents}
    assert {span.parent_id for span in documents} == {render.span_id}
    assert render.attributes["exports.unit_no"] == 1

    attempts = [span for span in named(spans, "deliver") if span.attributes["exports.channel"] == "webhook"]
    assert {span.parent_id for span in attempts} == {request.span_id}
    assert [
        (each.attributes["exports.attempt"], each.attributes["exports.outcome"], each.failed) for each in attempts
    ] == [(1, "failed", True), (2, "delivered", False), (1, "delivered", False)]
    for attempt, got in zip(attempts, hook.requests, strict=True):
        event = json.loads(got.body)
        assert (event["traceparent"], event["tracestate"]) == (stored, "vendor=1")
        assert got.headers["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
        assert got.headers["tracestate"] == "vendor=1"
    assert hook.requests[0].body == hook.requests[1].body, "the same bytes on every attempt"

    assert all(span.started <= span.ended for span in spans)
    assert {span.resource["service.name"] for span in spans} == {"exports"}
    assert {span.attributes["exports.export_id"] for span in [request, *steps, *attempts]} == {export_id}
    assert {span.attributes["exports.account_id"] for span in [request, *steps, *attempts]} == {factories.ACCOUNT}
    assert {span.attributes["exports.partner_kind"] for span in attempts} == {"warehouse"}


def test_spans_have_only_known_attributes(open_local: ApiHarness, collector: Collector) -> None:
    with Endpoint([Script(500, b"secret of the partner")]) as hook:
        export_id = execute(open_local, register_hook(open_local, f"{hook.url}/in?key=of-the-partner"))
        open_local.run(export_id)
        open_local.client().get("/documents/" + "x" * 60)
    spans = collector.wait(lambda found: any(span.failed for span in found) and len(named(found, *NAMES)) == len(NAMES))
    known = (
        "export_id account_id step unit_no attempt outcome partner_kind partner_id channel message_type delivery_id"
        " document_kind"
    )
    allowed = {f"exports.{name}" for name in known.split()}
    allowed |= {"error.type", "http.request.method", "http.route", "http.response.status_code"}
    assert {name for span in spans for name in span.attributes} <= allowed
    assert sum(span.events for span in spans) == 0, "an exception's text may hold an address"
    everything = repr(spans)
    for secret in ("of-the-partner", "secret of the partner", "127.0.0.1:", "xxxx", "exp_live_"):
        assert secret not in everything, secret


def test_caller_without_a_trace_gets_a_new_one_and_malformed_ones_are_ignored(
    open_local: ApiHarness, collector: Collector
) -> None:
    ids = set()
    for number, given in enumerate(
        ({}, {"traceparent": PARENT.upper()}, {"traceparent": f"00-{'0' * 32}-{'1' * 16}-01"})
    ):
        export_id = execute(open_local, factories.plan(batch=f"batch_{number}"), **given)
        parent, _ = read_trace(open_local, export_id)
        assert parent is not None
        ids.add(parent.split("-")[1])
    spans = collector.wait(lambda found: len(found) >= 3)
    assert {span.trace_id for span in spans} == ids
    assert len(ids) == 3
    assert not ids & {TRACE, "0" * 32}
    assert {span.parent_id for span in spans} == {""}


def test_unsampled_trace_is_passed_on_and_not_sent(open_local: ApiHarness, collector: Collector) -> None:
    with Endpoint([Script()]) as hook:
        export_id = execute(open_local, register_hook(open_local, hook.url), traceparent=PARENT[:-1] + "0")
        open_local.run(export_id)
        deliver(open_local, export_id)
        execute(open_local, factories.plan(batch="batch_2"), traceparent=PARENT)
    collector.wait(lambda found: len(found) >= 1)
    assert [span.kind for span in collector.spans] == ["server"]
    parent, _ = read_trace(open_local, export_id)
    assert parent is not None
    assert (parent.split("-")[1], parent[-2:]) == (TRACE, "00")
    assert json.loads(hook.requests[0].body)["traceparent"] == parent
    assert hook.requests[0].headers["traceparent"].startswith(f"00-{TRACE}-")


def test_amendment_has_its_own_trace_with_a_link(open_local: ApiHarness, collector: Collector) -> None:
    plan = factories.plan()
    export_id = execute(open_local, plan, traceparent=PARENT)
    open_local.run(export_id)
    other = PARENT.replace("4bf9", "aaaa")
    changed = factories.plan(packages=3)
    answer = open_local.client().post(
        f"/api/exports/{export_id}/amend", json=execution(changed), headers={"traceparent": other}
    )
    assert answer.status_code == 202, answer.text
    open_local.run(answer.json()["exportId"])
    spans = collector.wait(lambda found: len(named(found, "close_unit")) == 2)
    (amend,) = [span for span in spans if span.name.endswith("/amend")]
    assert (amend.trace_id, amend.links) == (other.split("-")[1], [TRACE])
    assert amend.attributes["exports.export_id"] == answer.json()["exportId"]
    assert {span.trace_id for span in named(spans, "close_unit")} == {TRACE, amend.trace_id}


def test_repeated_request_leaves_the_trace_of_the_export(open_local: ApiHarness, collector: Collector) -> None:
    client, key = open_local.client("execute"), {"Idempotency-Key": "k-1"}
    first = client.post(EXECUTE, json=execution(factories.plan()), headers=key | {"traceparent": PARENT})
    stored = read_trace(open_local, first.json()["exportId"])
    other = PARENT.replace("4bf9", "aaaa")
    again = client.post(EXECUTE, json=execution(factories.plan()), headers=key | {"traceparent": other})
    assert again.text == first.text
    assert read_trace(open_local, first.json()["exportId"]) == stored
    spans = collector.wait(lambda found: len(found) >= 2)
    assert [span.attributes["exports.outcome"] for span in spans] == ["accepted", "repeated"]
    assert {span.attributes["exports.export_id"] for span in spans} == {first.json()["exportId"]}


def test_health_checks_are_not_traced(open_local: ApiHarness, collector: Collector) -> None:
    client = open_local.client()
    for path in ("/livez", "/readyz", "/metrics", "/api/exports"):
        client.get(path)
    collector.wait(lambda found: len(found) >= 1)
    assert [span.name for span in collector.spans] == ["GET /api/exports"]


def test_traces_add_no_statement(open_local: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(batch: str) -> list[str]:
        with record_statements(open_local.runtime.db) as sent:
            open_local.run(execute(open_local, factories.plan(batch=batch), traceparent=PARENT))
        return sent

    count("batch_first")  # connects, and prepares what is prepared once
    without = count("batch_without")
    with Collector() as running, traced(monkeypatch, running.url):
        assert len(count("batch_traced")) == len(without)
        running.wait(lambda found: len(named(found, *NAMES)) == len(NAMES))


def test_log_records_carry_the_trace(
    open_local: ApiHarness, collector: Collector, request: pytest.FixtureRequest
) -> None:
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    stream = StringIO()
    configure_logs(open_local.runtime.settings, stream)
    try:
        open_local.run(execute(open_local, factories.plan(), traceparent=PARENT))
        with tracing.open_span("outside"):
            structlog.get_logger("of.a.test").info("inside")
        structlog.get_logger("of.a.test").info("outside")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        # Without the tests' own settings, a later test's log would be in the output of a command.
        structlog.configure(**configured)
    lines: list[dict[str, Any]] = [json.loads(line) for line in stream.getvalue().splitlines()]
    done = [line for line in lines if line["event"] == "step_done"]
    spans = collector.wait(lambda found: len(named(found, "outside")) == 1)
    assert {line["trace_id"] for line in done if "trace_id" in line} == {TRACE}
    (inside,) = [line for line in lines if line["event"] == "inside"]
    (span,) = named(spans, "outside")
    assert (inside["trace_id"], inside["span_id"]) == (span.trace_id, span.span_id)
    (outside,) = [line for line in lines if line["event"] == "outside"]
    assert "trace_id" not in outside
