"""The conversation about a handoff: both sides write, each message counts once, and the log has all of it."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

from pipeline.core.errors import InvalidState, NotFound, NotInHandoff, Purged, ValidationFailed
from pipeline.deliveries.models import BrokerSubmission, ConversationMessage, Delivery, Notification
from pipeline.deliveries.schemas.answers import AcknowledgementBody, NewMessage
from pipeline.deliveries.submissions import broker_answers, conversation, overdue
from pipeline.exports.models import Export
from pipeline.exports.schemas.inbox import Cause
from pipeline.exports.schemas.submissions import ConversationItem
from pipeline.ops import retention
from pipeline.ops.rebuild import service
from pipeline.workflow import inbox
from pipeline.workflow.conversation import write_message
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import deliver_all, execute_export, make_amendment

KEY = "key_person"


def read_handoff(workflow: WorkflowHarness, export_id: str) -> BrokerSubmission:
    with workflow.runtime.db.read() as session:
        query = select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id)
        return session.scalars(query).one()


def answer(workflow: WorkflowHarness, export_id: str, name: str, status: str, **more: Any) -> None:
    body = AcknowledgementBody.model_validate({"id": name, "status": status, **more})
    broker_answers.receive_answer(
        workflow.runtime, read_handoff(workflow, export_id).id, body, f"partner:{factories.BROKER}"
    )


def write(workflow: WorkflowHarness, export_id: str, name: str = "m-1", text: str = "It is steel.", **more: Any) -> int:
    """Write a message to the customs broker; return how many streams it needs."""
    new = NewMessage.model_validate({"id": name, "text": text, **more})
    return len(write_message(workflow.runtime, factories.ACCOUNT, export_id, new, KEY)[1])


def ask(workflow: WorkflowHarness) -> str:
    """Execute an export whose handoff arrived, and about which the customs broker asks."""
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "a-1", "query", message="Of what is it made?")
    return export_id


def read_items(workflow: WorkflowHarness, export_id: str, **page: int) -> list[ConversationItem]:
    with workflow.runtime.db.read() as session:
        return conversation.read_conversation(session, export_id, **{"limit": 50} | page).items


def list_queries(workflow: WorkflowHarness, **filters: bool) -> list[str]:
    found = inbox.load_inbox(workflow.runtime, factories.ACCOUNT, cause=Cause.QUERY, **filters).items
    return [each.text for each in found]


def count_damaged(workflow: WorkflowHarness, *, apply: bool = False) -> int:
    """Compare all exports with their logs; with `apply`, restore them and count those that are damaged even then."""
    report = service.rebuild_exports(workflow.runtime, apply=apply)
    return sum(each.after_restore is None or not each.after_restore.intact for each in report.damaged)


def test_question_and_reply_are_one_conversation(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = ask(workflow)
    assert write(workflow, export_id, in_reply_to="a-1") == 1
    answer(workflow, export_id, "a-2", "remark", message="Thank you.", inReplyTo="m-1")
    answer(workflow, export_id, "a-3", "received")
    assert [
        (each.side, each.id, each.status, each.text, each.in_reply_to) for each in read_items(workflow, export_id)
    ] == [
        ("customs_broker", "a-1", "query", "Of what is it made?", None),
        ("exporter", "m-1", None, "It is steel.", "a-1"),
        ("customs_broker", "a-2", "remark", "Thank you.", "m-1"),
    ]
    assert read_items(workflow, export_id, after=1, limit=1)[0].id == "m-1"
    assert count_damaged(workflow) == 0
    workflow.change(delete(ConversationMessage))
    assert (count_damaged(workflow), count_damaged(workflow, apply=True)) == (1, 0)
    assert [each.id for each in read_items(workflow, export_id)] == ["a-1", "m-1", "a-2"]


def test_reply_is_sent_once_and_repeats_only_with_its_content(workflow: WorkflowHarness) -> None:
    export_id = ask(workflow)
    assert [write(workflow, export_id), write(workflow, export_id)] == [1, 0]
    with pytest.raises(InvalidState, match="another text, in_reply_to; send what is new with an id of its own"):
        write(workflow, export_id, text="It is iron.", in_reply_to="a-1")
    deliver_all(workflow, export_id)
    with workflow.runtime.db.read() as session:
        sent = session.execute(
            select(col(Delivery.partner_id), col(Delivery.state), col(Notification.data))
            .join(Notification, col(Notification.id) == col(Delivery.notification_id))
            .where(col(Notification.event_type) == "exports.handoff.replied.v1")
        ).all()
    assert [(each.partner_id, each.state) for each in sent] == [(factories.BROKER, "delivered")]
    assert '"text":"It is steel."' in sent[0].data


def test_answered_question_leaves_the_inbox_until_the_next_answer_or_its_deadline(workflow: WorkflowHarness) -> None:
    export_id = ask(workflow)
    assert list_queries(workflow) == ["CP-000001: query. Of what is it made?"]
    write(workflow, export_id)
    assert (list_queries(workflow), list_queries(workflow, acknowledged=True)) == (
        [],
        ["CP-000001: query. Of what is it made?"],
    )
    awaited = timedelta(seconds=workflow.runtime.settings.deadline_answered_seconds)
    assert read_handoff(workflow, export_id).deadline_at == workflow.clock() + awaited
    workflow.clock.pass_seconds(awaited.total_seconds())
    overdue.notify_overdue(workflow.runtime)
    assert list_queries(workflow) == ["CP-000001: query. Of what is it made?"]
    write(workflow, export_id, "m-2")
    arrival = read_handoff(workflow, export_id).arrives_at
    assert arrival is not None
    lead = timedelta(seconds=workflow.runtime.settings.lead_answered_seconds)
    assert read_handoff(workflow, export_id).deadline_at == arrival - lead < workflow.clock() + awaited
    assert (read_handoff(workflow, export_id).overdue_at, list_queries(workflow)) == (None, [])
    assert count_damaged(workflow) == 0
    answer(workflow, export_id, "a-2", "query", message="And the lid?")
    assert (read_handoff(workflow, export_id).deadline_at, list_queries(workflow)) == (
        None,
        ["CP-000001: query. And the lid?"],
    )
    assert count_damaged(workflow) == 0


def test_message_without_a_question_changes_neither_inbox_nor_deadline(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "a-1", "accepted")
    before = read_handoff(workflow, export_id).deadline_at
    write(workflow, export_id, text="The truck is late.")
    assert read_handoff(workflow, export_id).deadline_at == before
    assert workflow.rows(select(Export))[0].acknowledged_seq is None
    answer(workflow, export_id, "a-2", "remark", message="Noted.")
    assert (read_handoff(workflow, export_id).state, read_handoff(workflow, export_id).deadline_at) == (
        "accepted",
        before,
    )
    assert count_damaged(workflow) == 0


@pytest.mark.system
def test_unsafe_characters_are_replaced_and_long_conversations_have_pages(workflow: WorkflowHarness) -> None:
    export_id = ask(workflow)
    write(workflow, export_id, "m-0", "a\u202eb\u0007")
    for number in range(1, 300):
        write(workflow, export_id, f"m-{number}")
    first, rest = read_items(workflow, export_id, limit=200), read_items(workflow, export_id, after=200, limit=200)
    assert (len(first), len(rest), first[1].text) == (200, 101, "a b ")
    with workflow.runtime.db.read() as session:
        newest = conversation.read_newest(session, export_id)
    assert (newest.total, newest.items) == (301, rest[-conversation.MOST_SHOWN :])


def supersede(workflow: WorkflowHarness, export_id: str) -> None:
    make_amendment(workflow, export_id)


def purge(workflow: WorkflowHarness, _: str) -> None:
    assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports == 1


def undeliver(workflow: WorkflowHarness, _: str) -> None:
    workflow.change(update(BrokerSubmission).values(state="failed"))


@pytest.mark.parametrize(
    ("change", "more", "refusal", "words"),
    [
        (supersede, {}, InvalidState, "a newer revision replaced export"),
        (undeliver, {}, InvalidState, "does not have the handoff"),
        (purge, {}, Purged, "nothing more can be done"),
        (None, {"text": "\u202e\u0007"}, ValidationFailed, "has no visible character"),
        (None, {"in_reply_to": "a-9"}, NotInHandoff, "no answer and no message with the id a-9"),
        (None, {"customsPackageNumbers": ["CP-99"]}, NotInHandoff, "does not have the customs package CP-99"),
    ],
)
def test_message_that_cannot_be_sent_is_refused(
    workflow: WorkflowHarness,
    change: Callable[[WorkflowHarness, str], None] | None,
    more: dict[str, Any],
    refusal: type[Exception],
    words: str,
) -> None:
    export_id = ask(workflow)
    if change is not None:
        change(workflow, export_id)
    with pytest.raises(refusal, match=words):
        write(workflow, export_id, **more)
    assert workflow.rows(select(ConversationMessage)) == []
    assert "MESSAGE_WRITTEN" not in workflow.events(export_id)


def test_messages_of_other_accounts_are_refused_and_purged_ones_lose_their_text(workflow: WorkflowHarness) -> None:
    export_id = ask(workflow)
    with pytest.raises(NotFound):
        write_message(workflow.runtime, "acc_other", export_id, NewMessage(id="m-1", text="x"), KEY)
    write(workflow, export_id)
    purge(workflow, export_id)
    assert [(each.id, each.text) for each in read_items(workflow, export_id)] == [("a-1", None), ("m-1", None)]
    assert count_damaged(workflow) == 0
