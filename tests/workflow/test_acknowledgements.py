"""A person acknowledges what an export needs; a new fact or the undoing brings it back, and the log says who and why."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlmodel import Session, col

from pipeline.core.db import table
from pipeline.core.errors import InvalidState, NotFound, PreconditionFailed, Purged
from pipeline.deliveries import resend
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.schemas.inbox import Cause, InboxItem
from pipeline.ops.rebuild import service
from pipeline.workflow import inbox, read_model
from pipeline.workflow.acknowledgements import acknowledge_export, reopen_export
from pipeline.workflow.steps import NOTIFY_STEPS
from tests.support import factories
from tests.support.query_counter import record_plans, searches
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment

KEY = "key_person"


def answer(workflow: WorkflowHarness, export_id: str, answer_id: str, status: str) -> None:
    with workflow.runtime.db.read() as session:
        query = select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)
        submission_id = session.scalars(query).one()
    body = AcknowledgementBody.model_validate({"id": answer_id, "status": status})
    broker_answers.receive_answer(workflow.runtime, submission_id, body, "partner:br")


def query_export(workflow: WorkflowHarness) -> str:
    """Execute an export about which the customs broker asks."""
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "a-1", "query")
    return export_id


def acknowledge(workflow: WorkflowHarness, export_id: str, note: str | None = None, **seen: int) -> None:
    acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, KEY, note, seen_seq=seen.get("seen"))


def read(workflow: WorkflowHarness, export_id: str) -> ExportView:
    with workflow.runtime.db.read() as session:
        return read_model.read_export(session, factories.ACCOUNT, export_id)


def list_items(workflow: WorkflowHarness, **filters: Any) -> list[InboxItem]:
    return inbox.load_inbox(workflow.runtime, factories.ACCOUNT, **filters).items


def kill_messages(workflow: WorkflowHarness, export_id: str) -> None:
    """Let the messages to the warehouse be given up, as the sender does."""
    with workflow.runtime.db.write() as session:
        of_warehouse = [col(Delivery.subject_id) == export_id, col(Delivery.audience) == "warehouse"]
        session.execute(update(Delivery).where(*of_warehouse).values(state="dead"))
        fact = {"deliveryId": session.scalars(select(col(Delivery.id)).where(*of_warehouse)).first()}
        events.append(session, export_id, "worker", [NewEvent(EventType.DELIVERY_DEAD, fact)])


def read_marks(workflow: WorkflowHarness, export_id: str) -> tuple[set[str], set[str]]:
    """Return the lists of the inbox that have the export's handoff, and the marks of its dead letters."""
    lists = {"open": list_items(workflow), "acknowledged": list_items(workflow, acknowledged=True)}
    handoffs = {
        name
        for name, items in lists.items()
        if any(each.export_id == export_id and each.cause is not Cause.DEAD_LETTER for each in items)
    }
    with workflow.runtime.db.read() as session:
        dead = select(col(Delivery.inbox)).where(col(Delivery.subject_id) == export_id, col(Delivery.state) == "dead")
        return handoffs, set(session.scalars(dead))


def assert_rows_follow_from_log(workflow: WorkflowHarness, export_id: str) -> None:
    with workflow.runtime.db.read() as session:
        found = service.compare_export(session, export_id)
    assert (found.refusal, found.differences) == (None, [])


def test_acknowledgement_names_person_time_and_note(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = query_export(workflow)
    acknowledge(workflow, export_id, "asked the importer")
    view = read(workflow, export_id)
    assert view.acknowledged is not None
    event = view.events[-1]
    assert (event.type, event.actor, event.data) == (
        "OUTCOME_ACKNOWLEDGED",
        KEY,
        {"outcome": "query", "note": "asked the importer"},
    )
    seen = view.acknowledged
    assert (seen.seq, seen.by, seen.at, seen.outcome, seen.note) == (
        event.seq,
        KEY,
        event.at,
        "query",
        "asked the importer",
    )
    assert (view.outcome, list_items(workflow)) == ("query", [])
    (item,) = list_items(workflow, acknowledged=True)
    assert (item.acknowledged, item.remedies) == (seen, ("reopen",))
    assert_rows_follow_from_log(workflow, export_id)


def test_repeated_acknowledgement_changes_nothing(workflow: WorkflowHarness) -> None:
    export_id = query_export(workflow)
    acknowledge(workflow, export_id, "first")
    acknowledge(workflow, export_id, "second")
    view = read(workflow, export_id)
    assert workflow.events(export_id).count("OUTCOME_ACKNOWLEDGED") == 1
    assert view.acknowledged is not None
    assert view.acknowledged.note == "first"


def test_concurrent_acknowledgements_are_one_event(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = query_export(workflow)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: acknowledge(workflow, export_id), range(6)))
    assert workflow.events(export_id).count("OUTCOME_ACKNOWLEDGED") == 1


@pytest.mark.parametrize("status", ["query", "rejected", "received", "released"])
def test_each_answer_ends_the_acknowledgement(workflow: WorkflowHarness, database_url: str, status: str) -> None:
    export_id = query_export(workflow)
    acknowledge(workflow, export_id)
    answer(workflow, export_id, "a-2", status)
    assert read(workflow, export_id).acknowledged is None
    assert len(list_items(workflow)) == (0 if status == "released" else 1)
    assert_rows_follow_from_log(workflow, export_id)


def test_amendment_ends_the_acknowledgement(workflow: WorkflowHarness) -> None:
    export_id = query_export(workflow)
    acknowledge(workflow, export_id)
    make_amendment(workflow, export_id, factories.plan(lines=4))
    assert read(workflow, export_id).acknowledged is None
    assert_rows_follow_from_log(workflow, export_id)


def test_resend_ends_the_acknowledgement(workflow: WorkflowHarness) -> None:
    export_id = query_export(workflow)
    kill_messages(workflow, export_id)
    acknowledge(workflow, export_id)
    with workflow.runtime.db.read() as session:
        delivery_id = session.scalars(select(col(Delivery.id)).where(col(Delivery.state) == "dead")).first()
    resend.resend_delivery(workflow.runtime, factories.ACCOUNT, str(delivery_id), KEY)
    assert read_marks(workflow, export_id) == ({"open"}, {"open"})


def test_undone_acknowledgement_is_open_again(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = query_export(workflow)
    acknowledge(workflow, export_id)
    reopen_export(workflow.runtime, factories.ACCOUNT, export_id, KEY)
    assert [each.cause for each in list_items(workflow)] == [Cause.QUERY]
    assert list_items(workflow, acknowledged=True) == []
    assert_rows_follow_from_log(workflow, export_id)
    with pytest.raises(InvalidState, match="is not acknowledged"):
        reopen_export(workflow.runtime, factories.ACCOUNT, export_id, KEY)


def test_fact_after_the_seen_event_refuses_the_acknowledgement(workflow: WorkflowHarness) -> None:
    export_id = query_export(workflow)
    (item,) = list_items(workflow)
    answer(workflow, export_id, "a-2", "query")
    with pytest.raises(PreconditionFailed, match="a new fact"):
        acknowledge(workflow, export_id, seen=item.seen_seq)
    (item,) = list_items(workflow)
    acknowledge(workflow, export_id, seen=item.seen_seq)


def test_export_that_needs_nobody_is_refused(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow, factories.plan())
    with pytest.raises(InvalidState, match="its outcome is with_broker"):
        acknowledge(workflow, export_id)
    with pytest.raises(NotFound):
        acknowledge(workflow, "exp_none")
    with pytest.raises(NotFound):
        acknowledge_export(workflow.runtime, "acc_other", export_id, KEY)


def test_purged_export_is_not_in_the_inbox(workflow: WorkflowHarness) -> None:
    export_id = query_export(workflow)
    workflow.change(update(Export).values(purged_at=workflow.clock()))
    assert list_items(workflow) == []
    with pytest.raises(Purged):
        acknowledge(workflow, export_id)


def test_marks_follow_each_change_of_the_export(workflow: WorkflowHarness, database_url: str) -> None:
    export_id, other = query_export(workflow), execute_export(workflow, factories.plan(batch="other"))
    for each in (export_id, other):
        kill_messages(workflow, each)
    assert read_marks(workflow, export_id) == ({"open"}, {"open"})
    acknowledge(workflow, export_id)
    assert read_marks(workflow, export_id) == ({"acknowledged"}, {"acknowledged"})
    assert {(each.export_id, each.cause) for each in list_items(workflow)} == {(other, Cause.DEAD_LETTER)}
    assert {each.cause for each in list_items(workflow, acknowledged=True)} == {Cause.QUERY, Cause.DEAD_LETTER}
    reopen_export(workflow.runtime, factories.ACCOUNT, export_id, KEY)
    assert read_marks(workflow, export_id) == ({"open"}, {"open"})
    acknowledge(workflow, export_id)
    answer(workflow, export_id, "a-2", "rejected")
    assert read_marks(workflow, export_id) == ({"open"}, {"open"})
    acknowledge(workflow, export_id)
    make_amendment(workflow, export_id, factories.plan(lines=4))
    assert read_marks(workflow, export_id) == (set(), {"open"}), "a message to the warehouse can still be sent"
    acknowledge(workflow, export_id)
    assert read_marks(workflow, export_id) == (set(), {"acknowledged"})
    workflow.change(update(Export).where(col(Export.id) == export_id).values(purged_at=workflow.clock()))
    assert read_marks(workflow, export_id) == (set(), {"closed"})
    assert read_marks(workflow, other) == (set(), {"open"})


def test_refused_acknowledgement_leaves_the_marks(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = query_export(workflow)
    with suppress(PreconditionFailed), workflow.runtime.db.write() as session:
        events.append(session, export_id, KEY, [NewEvent(EventType.OUTCOME_ACKNOWLEDGED, {"outcome": "query"})])
        raise PreconditionFailed("the transaction is rolled back")
    assert (read_marks(workflow, export_id)[0], len(list_items(workflow))) == ({"open"}, 1)


def test_answer_after_an_early_acknowledgement_is_open(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = workflow.accept().export_id
    with workflow.runtime.db.write() as session:
        events.append(session, export_id, KEY, [NewEvent(EventType.OUTCOME_ACKNOWLEDGED, {"outcome": "undeliverable"})])
    for unit_no, name in ((1, "record_packages"), (1, "render_documents"), *((0, name) for name in NOTIFY_STEPS)):
        workflow.step(export_id, unit_no, name)
    answer(workflow, export_id, "a-1", "held")
    assert read_marks(workflow, export_id)[0] == {"open"}
    assert_rows_follow_from_log(workflow, export_id)


def copy_export(session: Session, export_id: str, count: int) -> None:
    """Add copies of an export with its handoff, messages and deliveries; the database knows how many rows there are."""
    ids = {"id", "batch_id", "export_id", "subject_id", "notification_id"}
    for model in (Export, BrokerSubmission, Notification, Delivery):
        columns = table(model).c
        owner = columns["id" if model is Export else "subject_id" if model is Delivery else "export_id"]
        for number in range(count):
            copied = [each + f"-{number}" if each.name in ids else each for each in columns]
            session.execute(
                insert(table(model)).from_select([*columns.keys()], select(*copied).where(owner == export_id))
            )
    session.execute(text("ANALYZE"))


@pytest.mark.parametrize("acknowledged", [False, True])
def test_inbox_reads_no_item_of_the_other_list(
    workflow: WorkflowHarness, database_url: str, *, acknowledged: bool
) -> None:
    export_id, other = query_export(workflow), execute_export(workflow, factories.plan(batch="other"))
    for each in (export_id, other):
        kill_messages(workflow, each)
    marks = {"amounts_differ": True, "earlier_entry": True, "summary_trouble": True}
    workflow.change(update(Export).where(col(Export.id) == export_id).values(marks))
    (acknowledge if not acknowledged else read)(workflow, export_id)
    with workflow.runtime.db.write() as session:
        copy_export(session, export_id, 300)
    with record_plans(workflow.runtime.db) as plans:
        list_items(workflow, acknowledged=acknowledged)
    index = "ix_exports_inbox_acknowledged" if acknowledged else "ix_exports_inbox"
    assert searches(plans, index, "outcome <="), plans
    assert searches(plans, "ix_deliveries_inbox", "inbox ="), plans
    for mark, seen in (("amounts_differ", "amounts"), ("earlier_entry", "earlier"), ("summary_trouble", "summary")):
        name = f"ix_exports_{f'{seen}_acknowledged' if acknowledged else mark}"
        assert searches(plans, name, "account_id ="), plans


def test_only_the_wanted_cause_is_listed(workflow: WorkflowHarness) -> None:
    query_export(workflow)
    assert [each.cause for each in list_items(workflow, cause=Cause.QUERY)] == [Cause.QUERY]
    assert list_items(workflow, cause=Cause.HELD) == []
