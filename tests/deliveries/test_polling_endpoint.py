"""Polls of the borderbuddy endpoint, and the sandbox broker's answers to polls."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries import polling, sandbox_broker
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, SandboxHandoff
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.polling import Poll, PollResult
from pipeline.deliveries.streams import sender
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint, Script
from tests.support.own_logs import capture_own_logs

Start = Callable[..., Endpoint]


def encode_answer(body: Mapping[str, Any]) -> Script:
    return Script(200, json.dumps(body).encode())


def encode_status(*answers: Mapping[str, Any], handoff_id: str = "BB/1") -> Script:
    return encode_answer({"handoffId": handoff_id, "answers": list(answers)})


RECEIVED = encode_answer({"handoffId": "BB/1", "status": "received"})
FIRST, ACCEPTED = {"id": "BB/1:received", "status": "received"}, {"id": "n-1", "status": "accepted"}


def hand_over(runtime: Runtime, *, test: bool = False) -> BrokerSubmission:
    exports.register(runtime, factories.BROKER, "customs_broker", path="borderbuddy")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    export = exports.prepare_export(runtime, test=test)
    exports.hand_off(runtime, export)
    sender.notify_audience(runtime, export.context, outbox.BROKER)
    return read_submission(runtime)


def read_submission(runtime: Runtime) -> BrokerSubmission:
    return stored.one(runtime, select(BrokerSubmission))


def list_recorded(runtime: Runtime) -> list[str]:
    return list(stored.rows(runtime, select(Acknowledgement.id).order_by(col(Acknowledgement.id))))


def test_endpoint_is_polled_by_its_handoff_id_and_each_answer_counts_once(
    make_runtime: OpenRuntime, endpoint: Start
) -> None:
    filed = {"id": "n-2", "status": "filed", "entryNumber": "ABC-1234567-8"}
    broker = endpoint(RECEIVED, encode_status(FIRST), encode_status(FIRST, ACCEPTED, filed))
    runtime = make_runtime(borderbuddy_url=f"{broker.url}/v1/", borderbuddy_token=SecretStr("of-the-broker"))
    sent = hand_over(runtime)
    assert (sent.handoff_id, sent.state) == ("BB/1", "received")
    assert polling.poll_endpoint(runtime, sent.id) == PollResult(repeated=1)
    assert polling.poll_endpoint(runtime, sent.id) == PollResult(recorded=2, repeated=1)
    assert polling.poll_endpoint(runtime, sent.id) == PollResult(repeated=3)
    asked = broker.requests[1]
    assert (asked.method, asked.path, asked.body) == ("GET", "/v1/BB%2F1", b"")
    assert asked.headers["authorization"] == "Bearer of-the-broker"
    assert list_recorded(runtime) == ["BB/1:received", "n-1", "n-2"]
    assert read_submission(runtime).state == "filed"
    assert exports.read_event_types(runtime, sent.export_id).count("BROKER_ACKNOWLEDGED") == 3


@pytest.mark.parametrize(
    "answer",
    [
        Script(404),
        Script(410),
        Script(503, headers={"Retry-After": "5"}),
        Script(200, b"<html>"),
        Script(200, b""),
        Script(302, headers={"Location": "http://127.0.0.1:1/"}),
        Script(200, b'{"handoffId": "BB/1", "answers": [], "more": 1}'),
        encode_status({"id": "n", "status": "maybe"}),
        encode_status({"id": "n", "status": "accepted"}, handoff_id="BB/2"),
        Script(200, b'{"handoffId": "BB/1", "answers": [' + b" " * 100_000 + b"]}"),
    ],
    ids=str,
)
def test_poll_answer_out_of_contract_is_only_logged(make_runtime: OpenRuntime, endpoint: Start, answer: Script) -> None:
    runtime = make_runtime(borderbuddy_url=endpoint(RECEIVED, answer).url)
    sent = hand_over(runtime)
    with capture_own_logs() as logs:
        assert polling.poll_endpoint(runtime, sent.id) == PollResult()
    assert [each["event"] for each in logs] == ["answers_not_read"]
    assert (list_recorded(runtime), read_submission(runtime).state) == (["BB/1:received"], "received")


def test_fetched_answer_says_what_the_plan_lacks(make_runtime: OpenRuntime, endpoint: Start) -> None:
    asked = {"id": "n-2", "status": "query", "fields": [{"pointer": "/units/9/lines/0", "message": "m" * 1000}]}
    broker = endpoint(RECEIVED, encode_status(ACCEPTED), encode_status(ACCEPTED | {"status": "rejected"}, asked))
    runtime = make_runtime(borderbuddy_url=broker.url)
    sent = hand_over(runtime)
    with capture_own_logs() as logs:
        counted = [polling.poll_endpoint(runtime, sent.id) for _ in range(3)]
    assert [(each.recorded, each.repeated, each.refused) for each in counted] == [(1, 0, 0), (1, 0, 1), (0, 1, 1)]
    assert [each["reason"].split(";")[0] for each in logs] == ["the answer n-1 was recorded with another status"] * 2
    (field,) = stored.get(runtime, Acknowledgement, (sent.id, "n-2")).fields
    assert field == {"pointer": "/units/9/lines/0", "message": "m" * 970 + " (The plan has no such place.)"}


def test_paused_partner_and_unknown_submission_are_not_polled(make_runtime: OpenRuntime, endpoint: Start) -> None:
    broker = endpoint(RECEIVED, encode_status(FIRST))
    runtime = make_runtime(borderbuddy_url=broker.url)
    sent = hand_over(runtime)
    partners.pause_partner(runtime, factories.ACCOUNT, factories.BROKER)
    assert polling.poll_endpoint(runtime, sent.id) == PollResult()
    assert polling.poll_endpoint(runtime, "sub_unknown") == PollResult()
    assert len(broker.requests) == 1, "only the handoff"


def test_endpoint_is_polled_less_often_after_the_first_answer(
    make_runtime: OpenRuntime, endpoint: Start, clock: Clock
) -> None:
    broker = endpoint(RECEIVED, encode_status({"id": "n-9", "status": "held"}))
    runtime = make_runtime(borderbuddy_url=broker.url, partner_poll_seconds=10)
    sent = hand_over(runtime)
    asked = [Poll(factories.ACCOUNT, factories.BROKER, "borderbuddy", sent.id)]
    assert polling.take_due_polls(runtime) == []
    clock.pass_seconds(10)
    assert polling.take_due_polls(runtime) == asked
    assert polling.take_due_polls(runtime) == []
    for state, seconds in (("accepted", 600), ("released", 3600)):
        stored.change(runtime, update(BrokerSubmission).values(state=state))
        clock.pass_seconds(10)
        assert polling.take_due_polls(runtime) == asked
        clock.pass_seconds(seconds - 1)
        assert polling.take_due_polls(runtime) == []
        clock.pass_seconds(1)
        assert polling.take_due_polls(runtime) == asked
        stored.change(runtime, update(BrokerSubmission).values(polled_at=clock.now))
    clock.pass_seconds(10)
    assert polling.take_due_polls(runtime) == asked
    assert polling.poll_endpoint(runtime, sent.id) == PollResult(recorded=1)  # a hold after the release
    clock.pass_seconds(10)
    assert polling.take_due_polls(runtime) == asked


def test_endpoint_without_handoff_id_is_not_polled(make_runtime: OpenRuntime, endpoint: Start, clock: Clock) -> None:
    broker = endpoint(Script(202))
    runtime = make_runtime(borderbuddy_url=broker.url)
    sent = hand_over(runtime)
    clock.pass_seconds(3600)
    assert polling.take_due_polls(runtime) == []
    assert polling.poll_endpoint(runtime, sent.id) == PollResult()
    assert len(broker.requests) == 1


def test_live_endpoint_is_not_polled_for_a_test_export(make_runtime: OpenRuntime, endpoint: Start) -> None:
    live, test = endpoint(), endpoint(RECEIVED, encode_status(FIRST))
    runtime = make_runtime(borderbuddy_url=live.url, borderbuddy_sandbox_url=test.url)
    sent = hand_over(runtime, test=True)
    assert polling.poll_endpoint(runtime, sent.id) == PollResult(repeated=1)
    assert live.requests == []


@pytest.mark.parametrize(
    ("number", "at_once", "later"),
    [
        ("A-1", ["accepted"], ["accepted"]),
        ("R-1", ["rejected"], ["rejected"]),
        ("Q-1", ["query"], ["query"]),
        ("P-1", [], []),
        ("A3", ["received"], ["received", "accepted"]),
        ("D-1", ["received"], ["received", "accepted"]),
        ("H2", ["received"], ["received", "held"]),
    ],
)
def test_sandbox_poll_returns_the_answers_due_so_far(
    make_runtime: OpenRuntime, clock: Clock, number: str, at_once: list[str], later: list[str]
) -> None:
    runtime = make_runtime()
    with runtime.db.write() as session:
        for event_id, path in (("ntf_1", "borderbuddy"), ("ntf_2", "webhook")):
            session.add(
                SandboxHandoff(
                    id=event_id, submission_id="sub_1", path=path, invoice_numbers=[number], outcome="", answer={}
                )
            )

    def statuses() -> list[str]:
        answers = sandbox_broker.list_answers(runtime, "sbx-ntf_1").answers
        assert [each.id for each in answers] == [f"sbx-ntf_1:{each.status}" for each in answers]
        return [each.status for each in answers]

    assert statuses() == at_once
    clock.pass_seconds(10)
    assert statuses() == later
    for unknown in ("ntf_1", "sbx-ntf_2", "sbx-ntf_3", "sbx-sbx-ntf_1"):
        with pytest.raises(NotFound):
            sandbox_broker.list_answers(runtime, unknown)
