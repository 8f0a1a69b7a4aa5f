"""The borderbuddy contract: what is sent to which endpoint, and how an answer moves the submission."""

import json
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from sqlmodel import select

from pipeline.accounts import partners
from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.streams import sender
from pipeline.workflow.withdrawals import withdraw_export
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script

Start = Callable[..., Endpoint]


def answer_handoff(**facts: object) -> Script:
    return Script(200, json.dumps({"handoffId": "BB-1"} | facts).encode())


def hand_over(runtime: Runtime, *copies: str, test: bool = False) -> exports.PreparedExport:
    channels = [{"channel": each} for each in ("borderbuddy", *copies)]
    exports.register(runtime, factories.BROKER, "customs_broker", path="borderbuddy", channels=channels, test=test)
    exports.register(runtime, factories.WAREHOUSE, "warehouse", test=test)
    export = exports.prepare_export(runtime, test=test)
    exports.hand_off(runtime, export)
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    return export


def read_submission(runtime: Runtime) -> BrokerSubmission:
    return stored.one(runtime, select(BrokerSubmission))


def test_handoff_is_posted_with_token_and_idempotency_key(make_runtime: OpenRuntime, endpoint: Start) -> None:
    broker = endpoint(answer_handoff(status="received"))
    runtime = make_runtime(borderbuddy_url=f"{broker.url}/v1", borderbuddy_token=SecretStr("of-the-broker"))
    export = hand_over(runtime)
    (request,) = broker.requests
    (delivery,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    assert request.path == "/v1"
    assert request.headers["authorization"] == "Bearer of-the-broker"
    assert request.headers["idempotency-key"] == delivery.notification_id == json.loads(request.body)["id"]
    assert request.headers["traceparent"] == json.loads(request.body)["traceparent"] == exports.TRACE_PARENT


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("received", "BROKER_ACKNOWLEDGED"),
        ("accepted", "BROKER_ACKNOWLEDGED"),
        ("rejected", "BROKER_REJECTED"),
        ("query", "BROKER_QUERIED"),
    ],
)
def test_answer_moves_submission_and_is_logged(
    make_runtime: OpenRuntime, endpoint: Start, status: str, event: str
) -> None:
    fields = [{"pointer": "/units/0/lines/0/htsCode", "message": "The code has expired."}]
    broker = endpoint(answer_handoff(status=status, reference="R-7", message="See the fields.", fields=fields))
    runtime = make_runtime(borderbuddy_url=broker.url)
    export = hand_over(runtime, "queue")
    row = read_submission(runtime)
    assert (row.path, row.channel, row.state, row.sent_at is not None) == ("borderbuddy", "borderbuddy", status, True)
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF", "BROKER_NOTIFIED", event]
    known = stored.one(runtime, select(Acknowledgement))
    assert (known.id, known.status, known.reference, known.fields) == (f"BB-1:{status}", status, "R-7", fields)


def test_answer_of_an_endpoint_that_never_had_the_handoff_counts(make_runtime: OpenRuntime, endpoint: Start) -> None:
    """The partner moved to the direct path between the handoff and its withdrawal."""
    runtime = make_runtime(borderbuddy_url=endpoint(answer_handoff(status="withdrawn")).url)
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, factories.BROKER, "customs_broker", path="byob")
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    now_direct = PartnerChanges.model_validate({"path": "borderbuddy", "channels": [{"channel": "borderbuddy"}]})
    with runtime.db.write() as session:
        partners.apply_changes(session, runtime.settings, factories.ACCOUNT, factories.BROKER, now_direct)
    withdraw_export(runtime, factories.ACCOUNT, export.export_id, "key_1", "The buyer called.")
    assert sender.deliver_stream(runtime, export.export_id, factories.BROKER, "borderbuddy").delivered == 1
    row = read_submission(runtime)
    assert (row.channel, row.state) == ("queue", "withdrawn")


def test_empty_answer_delivers_the_handoff_without_acknowledgement(make_runtime: OpenRuntime, endpoint: Start) -> None:
    runtime = make_runtime(borderbuddy_url=endpoint(Script(202)).url)
    hand_over(runtime)
    assert read_submission(runtime).state == "delivered"


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"handoffId":"x","status":"ok"}', b'{"handoffId":"x","status":"received","extra":1}']
)
def test_answer_out_of_contract_is_a_failed_attempt(make_runtime: OpenRuntime, endpoint: Start, body: bytes) -> None:
    runtime = make_runtime(borderbuddy_url=endpoint(Script(200, body)).url)
    export = hand_over(runtime)
    assert read_submission(runtime).state == "sent"
    (delivery,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    assert (delivery.state, delivery.attempts) == ("pending", 1)


def test_live_endpoint_gets_no_test_export_and_no_test_partner(make_runtime: OpenRuntime, endpoint: Start) -> None:
    live, sandbox = endpoint(), endpoint(Script(202))
    runtime = make_runtime(borderbuddy_url=live.url, borderbuddy_sandbox_url=sandbox.url)
    hand_over(runtime, test=True)
    assert (len(live.requests), len(sandbox.requests)) == (0, 1)


def test_delivery_without_configured_endpoint_waits_and_names_the_setting(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime()
    export = hand_over(runtime)
    (delivery,) = exports.list_deliveries(runtime, export.export_id, factories.BROKER)
    assert delivery.state == "pending"
    assert delivery.error is not None
    assert "EXPORTS_BORDERBUDDY_URL" in delivery.error
