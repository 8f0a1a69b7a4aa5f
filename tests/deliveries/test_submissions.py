"""A customs broker that rejects or asks, and customs that holds, is told to the operators: which fields, and once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from pipeline.accounts import secrets
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import SecretUnreadable
from pipeline.core.runtime import Runtime
from pipeline.deliveries import outbox, sender, submissions
from pipeline.deliveries.channels import webhook
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.schemas.messages import AcknowledgementBody
from pipeline.deliveries.streams import take_due_streams
from pipeline.workflow import read_model as inspection_view
from tests.deliveries.channels.test_queue import take_messages
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import ApiHarness, hand_off
from tests.support import factories
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
    with runtime.db.read() as session:
        submission_id = session.exec(select(BrokerSubmission.id)).one()
    body = AcknowledgementBody.model_validate({"id": answer_id, "status": status} | facts)
    return submissions.receive_answer(runtime, submission_id, body, "partner:br").recorded


def list_operator_messages(runtime: Runtime) -> list[dict[str, Any]]:
    """Return what the operators are owed of answers, in order."""
    with runtime.db.read() as session:
        rows = session.exec(
            select(Notification)
            .where(col(Notification.event_type) == "exports.handoff.answered.v1")
            .order_by(col(Notification.position))
        ).all()
    assert {row.audience for row in rows} <= {"operator"}
    return [json.loads(row.data) for row in rows]


def streams(runtime: Runtime) -> list[outbox.DeliveryStream]:
    with runtime.db.write() as session:
        return take_due_streams(session, runtime.settings, runtime.settings.sweep_limit)


@pytest.mark.parametrize("status", ["rejected", "query", "held"])
def test_what_a_person_must_look_at_reaches_the_operators_queue_and_inspect(
    runtime: Runtime, clock: Clock, status: str
) -> None:
    export = prepare_runtime(runtime)
    assert record_answer(runtime, "a-1", status, reference="REF-9", message="See the fields.", fields=FIELDS)
    stream = outbox.DeliveryStream(export.export_id, factories.OPERATOR, "queue")
    assert stream in streams(runtime), "the next sweep wakes it"
    assert sender.deliver_stream(runtime, stream.export_id, stream.partner_id, stream.channel).delivered == 1
    (message,) = take_messages("memory://", "exports.operator", 1)
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
        view = inspection_view.read_export(session, factories.ACCOUNT, export.export_id)
    assert view.broker_submission is not None
    (shown,) = view.broker_submission.acknowledgements
    assert shown.fields == FIELDS


@pytest.mark.parametrize("status", ["received", "accepted", "filed", "released"])
def test_what_goes_well_is_no_news_for_the_operators(runtime: Runtime, status: str) -> None:
    prepare_runtime(runtime)
    assert record_answer(runtime, "a-1", status, entry_number="ABC-1234567-8")
    assert list_operator_messages(runtime) == []


def test_the_same_answer_again_is_notified_once_and_another_is_new(runtime: Runtime) -> None:
    prepare_runtime(runtime)
    assert [record_answer(runtime, "a-1", "rejected", fields=FIELDS[:1]) for _ in range(3)] == [True, False, False]
    assert record_answer(runtime, "a-2", "rejected", fields=FIELDS[1:])
    assert [(each["answerId"], each["fields"]) for each in list_operator_messages(runtime)] == [
        ("a-1", FIELDS[:1]),
        ("a-2", FIELDS[1:]),
    ]


def test_an_answer_that_comes_late_says_where_the_handoff_stands_by_now(runtime: Runtime) -> None:
    prepare_runtime(runtime)
    record_answer(runtime, "a-2", "released")
    assert record_answer(runtime, "a-1", "query", message="What is it made of?")
    (late,) = list_operator_messages(runtime)
    assert (late["status"], late["submissionStatus"]) == ("query", "released")


def test_an_answer_given_with_the_handoff_itself_is_notified_as_well(harness: ApiHarness) -> None:
    export, _ = hand_off(harness, invoice="R")
    (rejected,) = list_operator_messages(harness.runtime)
    assert [each["pointer"] for each in rejected["fields"]] == [each["pointer"] for each in FIELDS]
    assert (rejected["exportId"], rejected["test"]) == (export.export_id, False)


def test_a_forged_answer_is_notified_to_nobody(harness: ApiHarness) -> None:
    export, _ = hand_off(harness)
    address = f"/api/broker-submissions/{harness.submission(export).id}/acknowledgements"
    forged = {"webhook-id": "a", "webhook-timestamp": "1764000000", "webhook-signature": "v1,AAAA"}
    assert (
        harness.client_without_key().post(address, json={"id": "a", "status": "rejected"}, headers=forged).status_code
        == 401
    )
    assert list_operator_messages(harness.runtime) == []


@mark_own_stack("F26")
@pytest.mark.parametrize("minutes", [-10, 10])
def test_an_answer_of_a_wrong_clock_is_refused_and_the_clock_is_named(harness: ApiHarness, minutes: int) -> None:
    export, _ = hand_off(harness)
    submission = harness.submission(export)
    with harness.runtime.db.read() as session:
        (secret, *_) = secrets.load_valid_secrets(
            session, harness.runtime.settings, submission.account_id, submission.partner_id
        )
    body = json.dumps({"id": "a", "status": "rejected"}).encode()

    def data(secret: str, at: datetime) -> httpx.Response:
        headers = webhook.build_signature_headers("a", body, secret, at=at) | {"content-type": "application/json"}
        address = f"/api/broker-submissions/{submission.id}/acknowledgements"
        return harness.client_without_key().post(address, content=body, headers=headers)

    now = datetime.now(UTC)
    wrong = now + timedelta(minutes=minutes)
    late, forged = data(secret, wrong), data("whsec_Zm9yZWlnbiB0byB1cw==", wrong)
    assert (late.status_code, late.json()["errorCode"]) == (401, "INVALID_API_KEY")
    assert str(int(wrong.timestamp())) in late.json()["detail"]
    assert "set your clock" in late.json()["detail"]
    # Who cannot sign learns nothing of clocks.
    assert "clock" not in forged.json()["detail"]
    assert list_operator_messages(harness.runtime) == []
    assert data(secret, now).status_code == 200


def test_an_answer_that_cannot_be_verified_without_a_lost_key_is_to_come_again(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, _ = hand_off(harness)
    submission = harness.submission(export)

    def lose_answer(*_: object) -> str:
        raise SecretUnreadable("sealed under another EXPORTS_SECRET_KEY")

    monkeypatch.setattr(SecretBox, "open", lose_answer)
    headers = webhook.build_signature_headers("a", b"{}", "whsec_Zm9yZWlnbiB0byB1cw==", at=datetime.now(UTC))
    address = f"/api/broker-submissions/{submission.id}/acknowledgements"
    answer = harness.client_without_key().post(
        address, content=b"{}", headers=headers | {"content-type": "application/json"}
    )
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["errorCode"]) == (503, "60", "NOT_READY")
    assert "EXPORTS_" not in answer.text
    assert list_operator_messages(harness.runtime) == []


def test_a_notice_neither_repeats_the_end_of_the_export_nor_prevents_it(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime(delivery_batch=1)
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, factories.OPERATOR, "operator")
    export = prepare_runtime(runtime)
    stream = (export.export_id, factories.OPERATOR, "queue")
    record_answer(runtime, "a-1", "query", message="What is it made of?")
    assert sender.deliver_stream(runtime, *stream).delivered == 1
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF", "BROKER_QUERIED"]
    with runtime.db.write() as session:
        outbox.release_waiting(session, export.export_id)
    record_answer(runtime, "a-2", "rejected", message="Not steel.")
    assert sender.deliver_stream(runtime, *stream).delivered == 2
    assert exports.read_event_types(runtime, export.export_id).count("OPERATOR_NOTIFIED") == 1
    with runtime.db.read() as session:
        owed = session.exec(select(Delivery.state).where(col(Delivery.audience) == "operator")).all()
    assert list(owed) == ["delivered"] * 3
