"""Rejections, queries and holds notify the operators once, with the fields."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from pipeline.accounts import secrets
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import InvalidState, SecretUnreadable
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification, SandboxHandoff
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.schemas.answers import AcknowledgementBody, NewMessage
from pipeline.deliveries.streams import sender
from pipeline.deliveries.streams.due_streams import take_due_streams
from pipeline.deliveries.streams.streams import release_and_claim
from pipeline.deliveries.submissions import broker_answers, signature, submissions
from pipeline.workflow import read_model
from pipeline.workflow.conversation import write_message
from pipeline.workflow.withdrawals import withdraw_export
from tests.deliveries.channels.test_queue import take_messages
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import ApiHarness, hand_off
from tests.support import factories, stored
from tests.system.faults.matrix import mark_own_stack

FIELDS = [
    {"pointer": "/units/0/lines/0/htsCode", "message": "The code does not fit the description."},
    {"pointer": "/units/0/parties/importerOfRecord/importerNumber", "message": "The number is not known."},
]


def prepare_runtime(runtime: Runtime) -> exports.PreparedExport:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    return export


def record_answer(runtime: Runtime, answer_id: str, status: str, **facts: Any) -> bool:
    submission_id = stored.one(runtime, select(BrokerSubmission.id))
    body = AcknowledgementBody.model_validate({"id": answer_id, "status": status} | facts)
    return broker_answers.receive_answer(runtime, submission_id, body, "partner:br").recorded


def list_operator_messages(runtime: Runtime) -> list[dict[str, Any]]:
    """Return the operators' pending messages about answers, in order."""
    rows = stored.rows(
        runtime,
        select(Notification)
        .where(col(Notification.event_type) == "exports.handoff.answered.v1")
        .order_by(col(Notification.position)),
    )
    assert {row.audience for row in rows} <= {"operator"}
    return [json.loads(row.data) for row in rows]


def streams(runtime: Runtime) -> list[outbox.DeliveryStream]:
    with runtime.db.write() as session:
        return take_due_streams(session, runtime.settings, runtime.settings.sweep_limit)


@pytest.mark.parametrize("status", ["rejected", "query", "held"])
def test_answer_that_needs_a_person_reaches_operator_queue_and_inspect(
    runtime: Runtime, clock: Clock, status: str
) -> None:
    export = prepare_runtime(runtime)
    assert record_answer(runtime, "a-1", status, reference="REF-9", message="See the fields.", fields=FIELDS)
    stream = outbox.DeliveryStream(export.export_id, factories.OPERATOR, "queue")
    assert stream in streams(runtime), "the next sweep publishes it"
    assert sender.deliver_stream(runtime, stream.subject_id, stream.partner_id, stream.channel).delivered == 2
    message, progressed = take_messages("memory://", "exports.operator", 2)
    assert progressed.properties["type"] == "exports.entry.progressed.v1"
    body = message.body if isinstance(message.body, bytes) else message.body.encode()
    event = json.loads(body)
    assert (event["type"], event["subject"]) == ("exports.handoff.answered.v1", export.export_id)
    assert message.delivery_info["routing_key"] == f"operator.{factories.ACCOUNT}.handoff.answered.v1"
    data = event["data"]
    assert (data["status"], data["submissionStatus"], data["answerId"], data["reference"]) == (
        status,
        status,
        "a-1",
        "REF-9",
    )
    assert data["fields"] == FIELDS
    with runtime.db.read() as session:
        view = read_model.read_export(session, factories.ACCOUNT, export.export_id)
        assert view.broker_submission is not None
        assert submissions.read_submission(session, "acc_other", view.broker_submission.id) is None
    (shown,) = view.broker_submission.acknowledgements
    assert shown.fields == FIELDS


def test_repeated_answer_notifies_once_and_another_one_again(runtime: Runtime) -> None:
    prepare_runtime(runtime)
    assert [record_answer(runtime, "a-1", "rejected", fields=FIELDS[:1]) for _ in range(3)] == [True, False, False]
    assert record_answer(runtime, "a-2", "rejected", fields=FIELDS[1:])
    assert [(each["answerId"], each["fields"]) for each in list_operator_messages(runtime)] == [
        ("a-1", FIELDS[:1]),
        ("a-2", FIELDS[1:]),
    ]


@pytest.mark.parametrize("pointer", ["/units/9/lines/99/nope", "/units/0/lines/99/htsCode", "/units/1", "/nope"])
def test_answer_about_what_the_plan_lacks_is_refused_without_effect(harness: ApiHarness, pointer: str) -> None:
    export, _ = hand_off(harness)
    submission = harness.submission(export)
    answer = {"id": "a", "status": "rejected", "fields": [FIELDS[0], {"pointer": pointer, "message": "Wrong."}]}
    address = f"/api/broker-submissions/{submission.id}/acknowledgements"
    refused = harness.client().post(address, json=answer)
    problem = refused.json()
    assert (refused.status_code, problem["errorCode"]) == (422, "NOT_IN_HANDOFF")
    assert (problem["pointer"], problem["message"].split()[0]) == ("/fields/1/pointer", pointer)
    assert list_operator_messages(harness.runtime) == []
    assert harness.submission(export) == submission
    assert harness.client().post(address, json=answer | {"fields": FIELDS}).json()["recorded"] is True


@pytest.mark.parametrize(
    ("change", "named"),
    [({"status": "accepted"}, "status"), ({"message": None}, "message"), ({"fields": FIELDS[:1]}, "fields")],
)
def test_answer_id_with_other_content_is_a_conflict(runtime: Runtime, change: dict[str, Any], named: str) -> None:
    prepare_runtime(runtime)
    facts: dict[str, Any] = {"status": "query", "message": "Steel\r\nor\u202e tin?", "fields": FIELDS}
    assert [record_answer(runtime, "a-1", **facts) for _ in range(2)] == [True, False]
    with pytest.raises(InvalidState, match=f"a-1 was recorded with another {named}; send what is new with an id"):
        record_answer(runtime, "a-1", **facts | change)
    assert [each["status"] for each in list_operator_messages(runtime)] == ["query"]


def test_late_answer_message_has_the_current_status(runtime: Runtime) -> None:
    prepare_runtime(runtime)
    record_answer(runtime, "a-2", "released")
    before = datetime(2026, 1, 2, tzinfo=UTC)
    assert record_answer(runtime, "a-1", "query", message="What is it made of?", at=before)
    (late,) = list_operator_messages(runtime)
    assert (late["status"], late["submissionStatus"]) == ("query", "released")


def test_immediate_answer_notifies_operators(harness: ApiHarness) -> None:
    export, _ = hand_off(harness, invoice="R")
    (rejected,) = list_operator_messages(harness.runtime)
    assert [each["pointer"] for each in rejected["fields"]] == [each["pointer"] for each in FIELDS]
    assert (rejected["exportId"], rejected["test"]) == (export.export_id, False)


@mark_own_stack("F26")
@pytest.mark.parametrize("minutes", [-10, 10])
def test_answer_with_wrong_time_is_refused_and_names_the_clock(harness: ApiHarness, minutes: int) -> None:
    export, _ = hand_off(harness)
    submission = harness.submission(export)
    with harness.runtime.db.read() as session:
        (secret, *_) = secrets.load_valid_secrets(
            session, harness.runtime.settings, submission.account_id, submission.partner_id
        )
    body = json.dumps({"id": "a", "status": "rejected"}).encode()

    def data(secret: str, at: datetime) -> httpx.Response:
        headers = signature.build_signature_headers("a", body, secret, at=at) | {"content-type": "application/json"}
        address = f"/api/broker-submissions/{submission.id}/acknowledgements"
        return harness.client_without_key().post(address, content=body, headers=headers)

    now = datetime.now(UTC)
    wrong = now + timedelta(minutes=minutes)
    late, forged = data(secret, wrong), data("whsec_Zm9yZWlnbiB0byB1cw==", wrong)
    assert (late.status_code, late.json()["errorCode"]) == (401, "INVALID_API_KEY")
    assert str(int(wrong.timestamp())) in late.json()["detail"]
    assert "set your clock" in late.json()["detail"]
    # A caller that cannot sign learns nothing about the clock.
    assert "clock" not in forged.json()["detail"]
    assert list_operator_messages(harness.runtime) == []
    assert data(secret, now).status_code == 200


def test_answer_without_readable_secret_is_to_be_retried(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    export, _ = hand_off(harness)
    submission = harness.submission(export)

    def lose_answer(*_: object) -> str:
        raise SecretUnreadable("sealed under another EXPORTS_SECRET_KEY")

    monkeypatch.setattr(SecretBox, "open", lose_answer)
    headers = signature.build_signature_headers("a", b"{}", "whsec_Zm9yZWlnbiB0byB1cw==", at=datetime.now(UTC))
    address = f"/api/broker-submissions/{submission.id}/acknowledgements"
    answer = harness.client_without_key().post(
        address, content=b"{}", headers=headers | {"content-type": "application/json"}
    )
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["errorCode"]) == (503, "60", "NOT_READY")
    assert "EXPORTS_" not in answer.text
    assert list_operator_messages(harness.runtime) == []


def test_operator_message_neither_repeats_nor_prevents_the_notified_event(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime(delivery_batch=1)
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, factories.OPERATOR, "operator")
    export = prepare_runtime(runtime)
    stream = (export.export_id, factories.OPERATOR, "queue")
    record_answer(runtime, "a-1", "query", message="What is it made of?")
    assert sender.deliver_stream(runtime, *stream).delivered == 2
    assert sender.deliver_stream(runtime, export.export_id, factories.BROKER, "queue").delivered == 1
    # The answer came before the handoff's delivery was recorded.
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF", "BROKER_NOTIFIED", "BROKER_QUERIED"]
    with runtime.db.write() as session:
        release_and_claim(session, runtime.settings, export.export_id)
    record_answer(runtime, "a-2", "rejected", message="Not steel.")
    assert sender.deliver_stream(runtime, *stream).delivered == 3
    assert exports.read_event_types(runtime, export.export_id).count("OPERATOR_NOTIFIED") == 1
    states = stored.rows(runtime, select(Delivery.state).where(col(Delivery.audience) == "operator"))
    assert list(states) == ["delivered"] * 5


@pytest.mark.parametrize("via", ["borderbuddy", "webhook"])
def test_reply_to_a_question_reaches_the_broker_and_changes_no_status(harness: ApiHarness, via: str) -> None:
    export, _ = hand_off(harness, invoice="Q", via=via)
    submission_id, broker = harness.submission(export).id, export.plan.broker.id
    question = AcknowledgementBody(id="q-1", status="query", message="Of what is it made?")
    broker_answers.receive_answer(harness.runtime, submission_id, question, f"partner:{broker}")
    new = NewMessage(id="m-1", text="It is steel.", in_reply_to="q-1")
    _, (task,) = write_message(harness.runtime, factories.ACCOUNT, export.export_id, new, "key_1")
    assert sender.deliver_stream(harness.runtime, export.export_id, broker, str(task.channel)).delivered == 1
    assert stored.one(harness.runtime, select(BrokerSubmission)).state == "query"
    assert len(stored.rows(harness.runtime, select(SandboxHandoff))) == 1


def test_endpoint_confirms_a_withdrawal_in_its_response(harness: ApiHarness) -> None:
    export, _ = hand_off(harness, invoice="A", via="borderbuddy")
    (task, *_) = [
        each
        for each in withdraw_export(harness.runtime, factories.ACCOUNT, export.export_id, "key_1", "The buyer called.")
        if each.partner_id == export.plan.broker.id
    ]
    sender.deliver_stream(harness.runtime, export.export_id, export.plan.broker.id, str(task.channel))
    assert stored.one(harness.runtime, select(BrokerSubmission)).state == "withdrawn"
