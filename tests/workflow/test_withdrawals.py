"""A withdrawal after the handoff: the customs broker confirms it, and an entry that crosses it stays in sight."""

import json
from collections.abc import Sequence

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.errors import EntryFiled, InvalidState
from pipeline.core.failpoints import hooks
from pipeline.deliveries import resend, sandbox_broker
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.schemas.answers import AcknowledgementBody, HandoffAnswer
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import broker_answers
from pipeline.deliveries.submissions.overdue import notify_overdue
from pipeline.exports.models import Export
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.exports.states import Outcome
from pipeline.workflow import inbox
from pipeline.workflow.acknowledgements import acknowledge_export
from pipeline.workflow.interventions import cancel_export, hold_export
from pipeline.workflow.steps import TaskMessage
from pipeline.workflow.withdrawals import withdraw_export
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import deliver_all, execute_export, list_pending, make_amendment, read_messages
from tests.workflow.test_interventions_hold import differences, view

REASON = "the buyer cancelled the order"


def withdraw(workflow: WorkflowHarness, export_id: str, reason: str = REASON) -> list[TaskMessage]:
    return withdraw_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test", reason)


def answer(workflow: WorkflowHarness, status: str, *packages: str, entry_number: str | None = None) -> None:
    submission = workflow.rows(select(BrokerSubmission))[-1]
    body = AcknowledgementBody.model_validate(
        {
            "id": f"a-{status}-{len(packages)}",
            "status": status,
            "customsPackageNumbers": packages,
            "entryNumber": entry_number,
        }
    )
    broker_answers.receive_answer(workflow.runtime, submission.id, body, "partner:br")


def outcome(workflow: WorkflowHarness, export_id: str) -> str:
    """Return the outcome, after the tables were compared with the log."""
    assert differences(workflow, export_id) == []
    return view(workflow, export_id).outcome.value


def items(workflow: WorkflowHarness, *, acknowledged: bool = False) -> Sequence[InboxItem]:
    return inbox.load_inbox(workflow.runtime, factories.ACCOUNT, acknowledged=acknowledged).items


def test_request_tells_everybody_who_may_know(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    deliver_all(workflow, export_id)
    tasks = withdraw(workflow, export_id)
    assert {task.partner_id for task in tasks} == {factories.BROKER, factories.WAREHOUSE, factories.OPERATOR}
    (handoff, to_operator) = read_messages(workflow, export_id, MessageType.HANDOFF_WITHDRAWN)
    (ready,) = read_messages(workflow, export_id, MessageType.HANDOFF_READY)
    assert handoff["notificationIds"] == [ready["id"]]
    assert (handoff["reason"], to_operator["reason"]) == (REASON, REASON)
    assert handoff["acknowledgementUrl"] == ready["acknowledgementUrl"]
    withdrawn = read_messages(workflow, export_id, MessageType.PACKAGE_WITHDRAWN)
    recorded = read_messages(workflow, export_id, MessageType.PACKAGE_RECORDED)
    assert [each["notificationIds"] for each in withdrawn] == [[each["id"]] for each in recorded]
    assert {each["reason"] for each in withdrawn} == {REASON}
    log = workflow.events(export_id)
    assert withdraw(workflow, export_id, "another reason") == [], "a repeat changes nothing"
    assert workflow.events(export_id) == log
    shown = view(workflow, export_id)
    assert shown.withdrawal is not None
    assert (shown.withdrawal.by, shown.withdrawal.reason, shown.outcome) == ("key_test", REASON, Outcome.WITHDRAWING)
    deliver_all(workflow, export_id)
    assert {each.state for each in list_pending(workflow, export_id)} == {"delivered"}
    assert outcome(workflow, export_id) == "withdrawing"
    assert shown.status == f"Executed; the withdrawal is requested; waiting for {factories.BROKER} to confirm it"


#: What the customs broker answered before and after the request, and the outcome.
CASES = {
    "no answer": ((), (), "withdrawing"),
    "confirmed": ((), ("withdrawn",), "withdrawn"),
    "confirmed after its acceptance": (("accepted",), ("withdrawn",), "withdrawn"),
    "confirmed after a question": (("query",), ("withdrawn",), "withdrawn"),
    "accepted late": ((), ("accepted",), "withdrawing"),
    "filed late": (("accepted",), ("filed",), "not_withdrawn"),
    "filed, then confirmed": ((), ("filed", "withdrawn"), "not_withdrawn"),
    "confirmed, then filed": ((), ("withdrawn", "filed"), "not_withdrawn"),
    "filed, then cancelled": ((), ("filed", "cancelled"), "withdrawn"),
    "filed, then released": ((), ("filed", "released"), "not_withdrawn"),
    "rejected": ((), ("rejected",), "withdrawing"),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_decide_what_becomes_of_it(workflow: WorkflowHarness, case: str) -> None:
    before, after, expected = CASES[case]
    export_id = execute_export(workflow)
    for status in before:
        answer(workflow, status)
    withdraw(workflow, export_id)
    for status in after:
        answer(workflow, status)
    assert outcome(workflow, export_id) == expected
    submission = workflow.one(select(BrokerSubmission))
    assert (submission.deadline_at is not None) == (expected == "withdrawing")


def test_each_package_is_confirmed_by_itself(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan(units=2))
    withdraw(workflow, export_id)
    numbers = [each.package_number for each in view(workflow, export_id).customs_packages]
    answer(workflow, "withdrawn", str(numbers[0]))
    assert outcome(workflow, export_id) == "withdrawing"
    answer(workflow, "filed", str(numbers[1]))
    assert outcome(workflow, export_id) == "not_withdrawn"


def test_handoff_that_the_broker_never_had_is_withdrawn_at_once(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, deliver=False)
    assert [task.partner_id for task in withdraw(workflow, export_id)] == [factories.OPERATOR]
    assert view(workflow, export_id).outcome.value == "withdrawn"
    (settled,) = read_messages(workflow, export_id, MessageType.EXPORT_SETTLED)
    assert (settled["answerId"], settled["summary"]) == (None, "1 of 1 withdrawn")
    assert read_messages(workflow, export_id, MessageType.PACKAGE_WITHDRAWN) == []
    states = {each.state for each in list_pending(workflow, export_id) if each.audience != "operator"}
    assert states == {"cancelled"}
    answer(workflow, "filed")
    assert view(workflow, export_id).outcome.value == "not_withdrawn", "an answer never vanishes"


def test_attempt_that_is_running_may_arrive(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, deliver=False)
    workflow.change(
        update(Delivery).where(col(Delivery.audience) == "customs_broker").values(lease_until=workflow.clock.now)
    )
    withdraw(workflow, export_id)
    assert view(workflow, export_id).outcome.value == "withdrawing"
    assert len(read_messages(workflow, export_id, MessageType.HANDOFF_WITHDRAWN)) == 2


def test_crossing_answer_is_an_item_until_a_person_acknowledges_it(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    withdraw(workflow, export_id)
    answer(workflow, "filed", entry_number="ABC-1234567-8")
    (item,) = items(workflow)
    assert (item.cause, item.remedies) == (Cause.NOT_WITHDRAWN, ("acknowledge",))
    assert "Ask the customs broker to cancel the entry" in item.reason
    (told,) = read_messages(workflow, export_id, MessageType.HANDOFF_ANSWERED)
    assert (told["status"], told["answerStatus"], told["submissionStatus"], told["outcome"]) == (
        "held", "filed", "not_withdrawn", "filed",
    )  # fmt: skip
    acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    assert (items(workflow), len(items(workflow, acknowledged=True))) == ([], 1)
    answer(workflow, "released")
    assert [each.cause for each in items(workflow)] == [Cause.NOT_WITHDRAWN]


def test_silence_is_overdue(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    withdraw(workflow, export_id)
    workflow.change(update(BrokerSubmission).values(deadline_at=workflow.clock.now))
    notify_overdue(workflow.runtime)
    (item,) = items(workflow)
    assert (item.cause, item.text) == (
        Cause.OVERDUE,
        "the goods arrive at 2026-11-26 18:00 UTC; last status withdrawing",
    )
    assert outcome(workflow, export_id) == "overdue"
    assert "did not confirm the withdrawal by" in view(workflow, export_id).status
    answer(workflow, "withdrawn")
    assert (items(workflow), outcome(workflow, export_id)) == ([], "withdrawn")


def test_filed_entry_is_refused_with_its_number(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    answer(workflow, "filed", entry_number="ABC-1234567-8")
    log = workflow.events(export_id)
    with pytest.raises(
        EntryFiled, match=r"ABC-1234567-8\) is filed.*ask the customs broker to cancel the entry"
    ) as refused:
        withdraw(workflow, export_id)
    assert (refused.value.code, refused.value.details) == ("ENTRY_FILED", {"entryNumbers": ["ABC-1234567-8"]})
    assert workflow.events(export_id) == log
    answer(workflow, "cancelled")
    withdraw(workflow, export_id)
    assert outcome(workflow, export_id) == "withdrawn"


def test_only_what_was_handed_off_is_withdrawn(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    with pytest.raises(InvalidState, match="was not handed off, so nothing can be withdrawn; hold or cancel it"):
        withdraw(workflow, export_id)
    cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    with pytest.raises(InvalidState, match="was not handed off"):
        withdraw(workflow, export_id)
    handed_off = execute_export(workflow, factories.plan(batch="another", invoice="another"))
    withdraw(workflow, handed_off)
    for act in (
        lambda: cancel_export(workflow.runtime, factories.ACCOUNT, handed_off, "key_test"),
        lambda: hold_export(workflow.runtime, factories.ACCOUNT, handed_off, "key_test", REASON),
    ):
        with pytest.raises(InvalidState, match="handed off already"):
            act()


def test_withdrawal_between_the_handoff_and_the_end(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = workflow.accept().export_id

    def once() -> None:
        monkeypatch.delitem(hooks, "hand_off.after")
        withdraw(workflow, export_id)

    monkeypatch.setitem(hooks, "hand_off.after", once)
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"
    assert outcome(workflow, export_id) in ("withdrawing", "withdrawn")


def test_amendment_waits_for_the_withdrawal_and_ends_it(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    withdraw(workflow, old)
    with pytest.raises(InvalidState, match="is being withdrawn; amend it when the customs broker confirms"):
        make_amendment(workflow, old)
    answer(workflow, "withdrawn")
    new = make_amendment(workflow, old).export_id
    assert (workflow.state(old), workflow.count(Export)) == ("superseded", 2)
    with pytest.raises(InvalidState, match="was superseded; withdraw the newest revision"):
        withdraw(workflow, execute_then_amend(workflow))
    workflow.finish(new)
    assert outcome(workflow, new) == "with_broker"
    assert differences(workflow, old) == []


def execute_then_amend(workflow: WorkflowHarness) -> str:
    plan = factories.plan(batch="third", invoice="third")
    export_id = execute_export(workflow, plan)
    make_amendment(workflow, export_id, factories.plan(batch="third", invoice="third", lines=4))
    return export_id


def test_amendment_loses_to_a_withdrawal_that_is_faster(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = execute_export(workflow)

    def once() -> None:
        monkeypatch.delitem(hooks, "amend.before")
        withdraw(workflow, old)

    monkeypatch.setitem(hooks, "amend.before", once)
    with pytest.raises(InvalidState, match="is being withdrawn"):
        make_amendment(workflow, old)
    assert (workflow.count(Export), outcome(workflow, old)) == (1, "withdrawing")


def test_message_that_was_taken_back_is_not_sent_again(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    withdraw(workflow, export_id)
    handoff = next(each for each in list_pending(workflow, export_id) if each.audience == "customs_broker")
    with pytest.raises(InvalidState, match="its messages are no longer valid"):
        resend.resend_delivery(workflow.runtime, factories.ACCOUNT, handoff.id, "key_test")


@pytest.mark.parametrize(("invoice", "confirms"), [("A1", True), ("P1", False)])
def test_sandbox_confirms_a_withdrawal_unless_it_never_answers(
    workflow: WorkflowHarness,
    invoice: str,
    confirms: bool,  # noqa: FBT001
) -> None:
    export_id = execute_export(workflow, factories.plan(invoice=invoice))
    withdraw(workflow, export_id)
    submission = workflow.one(select(BrokerSubmission))

    def take(kind: MessageType) -> HandoffAnswer | None:
        row = workflow.rows(select(Notification).where(col(Notification.event_type) == kind.value))[0]
        body = {
            "specversion": "1.0", "id": row.id, "source": "/accounts/acc_demo", "type": kind.value,
            "datacontenttype": "application/json", "data": json.loads(row.data),
        }  # fmt: skip
        return sandbox_broker.take_message(workflow.runtime, json.dumps(body).encode(), "borderbuddy")

    take(MessageType.HANDOFF_READY)
    said = take(MessageType.HANDOFF_WITHDRAWN)
    assert (said is not None) is confirms
    if said is not None:
        broker_answers.receive_answer(workflow.runtime, submission.id, said.acknowledgement, "partner:br")
    assert outcome(workflow, export_id) == ("withdrawn" if confirms else "withdrawing")
