"""Cancelling stops an export before its handoff, and whoever must know hears that nothing follows."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlmodel import col

from pipeline.core.errors import InvalidState, PreconditionFailed
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.models import Export, Step
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import (
    deliver_all,
    execute_export,
    fail,
    list_pending,
    make_amendment,
    packages,
    read_messages,
)

PROMISED = [
    each.value for each in (MessageType.HANDOFF_READY, MessageType.PACKAGE_RECORDED, MessageType.EXPORT_EXECUTED)
]


def run_cancel(workflow: WorkflowHarness, export_id: str) -> list[TaskMessage]:
    return cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")


def test_operators_are_notified_and_nobody_else_is(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    tasks = run_cancel(workflow, export_id)
    assert tasks == [TaskMessage(export_id, partner_id=factories.OPERATOR, channel="queue")]
    assert [(each.audience, each.state) for each in list_pending(workflow, export_id)] == [("operator", "pending")]
    (notice,) = read_messages(workflow, export_id, MessageType.EXPORT_CANCELLED)
    assert (notice["exportId"], notice["revision"], notice["supersedes"]) == (export_id, 1, None)
    assert notice["inspect"] == f"/api/exports/{export_id}"
    deliver_all(workflow, export_id)
    assert workflow.events(export_id)[-2:] == ["EXPORT_CANCELLED", "OPERATOR_NOTIFIED"]


def test_an_unsent_failure_notice_is_replaced_by_the_cancellation(
    workflow: WorkflowHarness,
) -> None:
    export_id = workflow.accept().export_id
    fail(workflow, export_id)
    run_cancel(workflow, export_id)
    assert [each.state for each in list_pending(workflow, export_id)] == ["cancelled", "pending"]


def test_recipients_promised_the_revision_are_notified_that_nothing_follows(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old).export_id
    workflow.step(new, 1, "record_packages")
    tasks = run_cancel(workflow, new)
    assert {task.partner_id for task in tasks} == {factories.BROKER, factories.WAREHOUSE, factories.OPERATOR}
    notice = read_messages(workflow, new, MessageType.EXPORT_CANCELLED)
    assert len({each["id"] for each in notice}) == 3
    assert [each["supersedes"] for each in notice] == [{"exportId": old, "revision": 1}] * 3
    assert {(each.audience, each.partner_id) for each in list_pending(workflow, new)} == {
        ("customs_broker", factories.BROKER),
        ("warehouse", factories.WAREHOUSE),
        ("operator", factories.OPERATOR),
    }
    deliver_all(workflow, new)
    assert {each.state for each in list_pending(workflow, new)} == {"delivered"}
    assert workflow.state(old) == "superseded"
    assert all(released for _, released in packages(workflow, new).values())
    with workflow.runtime.db.read() as session:
        (submission,) = session.scalars(select(BrokerSubmission)).all()
    assert submission.export_id == old, "telling a broker that nothing follows is no handoff"


def test_a_broker_never_notified_of_the_old_revision_is_not_notified_of_its_end(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, deliver=False)
    new = make_amendment(workflow, old).export_id
    run_cancel(workflow, new)
    assert {each.audience for each in list_pending(workflow, new)} == {"operator"}


def test_cancelling_twice_is_cancelling_once_and_is_answered_alike(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    run_cancel(workflow, export_id)
    before = workflow.events(export_id)
    assert run_cancel(workflow, export_id) == []

    def unexpected(_: ExportView) -> None:
        raise PreconditionFailed("it is another version by now")

    assert cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test", precondition=unexpected) == []
    assert workflow.events(export_id) == before


def test_a_handed_off_export_is_amended_not_cancelled(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    with pytest.raises(InvalidState, match="but amended"):
        run_cancel(workflow, export_id)
    assert read_messages(workflow, export_id, MessageType.EXPORT_CANCELLED) == []


def test_an_unexpected_version_is_neither_cancelled_nor_retried(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id

    def never(_: ExportView) -> None:
        raise PreconditionFailed("it has changed")

    for change in (cancel_export, retry_export):
        with pytest.raises(PreconditionFailed):
            change(workflow.runtime, factories.ACCOUNT, export_id, "key_test", precondition=never)
    assert (workflow.state(export_id), workflow.events(export_id)) == ("accepted", ["EXPORT_ACCEPTED"])


def test_a_retry_keeps_every_id_that_was_notified(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.step(export_id, 1, "render_documents")

    def ids() -> list[str]:
        with workflow.runtime.db.read() as session:
            query = select(col(Notification.id)).where(col(Notification.event_type).in_(PROMISED))
            return sorted(session.scalars(query))

    before = ids()
    with workflow.runtime.db.write() as session:
        session.get_one(Export, export_id).state = "failed"
        session.get_one(Step, (export_id, 0, "notify_broker")).state = "failed"
    workflow.run(retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test"))
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"
    assert ids() == before
