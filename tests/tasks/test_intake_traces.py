"""The trace of an export that came by a queue message, through its steps to its messages."""

import json

import pytest

from config.queues import CUSTOMS_BROKER
from pipeline.exports.models import Export
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS, TaskMessage
from tests.support.collector import Collector, traced
from tests.tasks.test_intake import TRACE, IntakeHarness, harness, request

__all__ = ["harness"]

NAMES = {spec.name for spec in STEPS}


def test_one_trace_leads_from_the_command_to_the_messages(
    harness: IntakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector() as collector, traced(monkeypatch, collector.url):
        harness.command(request(), reply_to="answers", headers={"traceparent": TRACE, "tracestate": "vendor=1"})
        harness.command(request(), reply_to="answers", headers={"traceparent": TRACE.replace("4bf9", "aaaa")})
        harness.command(b"{", reply_to="answers", headers={"traceparent": TRACE.replace("4bf9", "bbbb")})
        assert len(harness.take_messages("answers", 3)) == 3
        (export,) = harness.rows(Export)
        tasks = [TaskMessage(export.id, 1, STEPS[0].name)]
        while tasks:
            task = tasks.pop()
            if task.step is not None:
                tasks += run_step(harness.runtime, export.id, task.unit_no, task.step).tasks
        spans = collector.wait(lambda found: {span.name for span in found} >= NAMES | {"deliver"})
    first, again, refused = [span for span in spans if span.name == "receive exports.execute"]
    assert (first.kind, first.parent_id, first.attributes["exports.outcome"]) == ("consumer", TRACE[36:52], "accepted")
    assert (again.attributes["exports.outcome"], again.attributes["exports.export_id"]) == ("repeated", export.id)
    assert (refused.attributes["exports.outcome"], refused.trace_id[:4]) == ("refused", "bbbb")
    assert (export.trace_parent, export.trace_state) == (TRACE.replace(TRACE[36:52], first.span_id), "vendor=1")
    parts = [span for span in spans if span.name in {*NAMES, "deliver"}]
    assert {(span.trace_id, span.parent_id) for span in parts} == {(TRACE[3:35], first.span_id)}
    (sent,) = harness.take_messages(CUSTOMS_BROKER)
    event = json.loads(sent.body)
    assert (event["traceparent"], event["tracestate"]) == (export.trace_parent, "vendor=1")
