"""Cancelling stops an export before its handoff and notifies the recipients that expect it."""

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

NOTIFIED_TYPES = [
    each.value for each in (MessageType.HANDOFF_READY, MessageType.PACKAGE_RECORDED, MessageType.EXPORT_EXECUTED)
]


def run_cancel(workflow: WorkflowHarness, export_id: str) -> list[TaskMessage]:
    return cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")


def test_cancel_notifies_only_operators(workflow: WorkflowHarness) -> None:
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


def test_cancel_replaces_unsent_failure_notice(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    fail(workflow, export_id)
    run_cancel(workflow, export_id)
    assert [each.state for each in list_pending(workflow, export_id)] == ["cancelled", "pending"]


def test_cancel_of_revision_notifies_recipients_of_the_old_one(workflow: WorkflowHarness) -> None:
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
    (submission,) = workflow.rows(select(BrokerSubmission))
    assert submission.export_id == old, "a retraction to a customs broker is not a handoff"


def test_cancel_of_revision_skips_broker_not_notified_of_the_old_one(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, deliver=False)
    new = make_amendment(workflow, old).export_id
    run_cancel(workflow, new)
    assert {each.audience for each in list_pending(workflow, new)} == {"operator"}


def test_cancel_twice_changes_nothing(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    run_cancel(workflow, export_id)
    before = workflow.events(export_id)
    assert run_cancel(workflow, export_id) == []

    def unexpected(_: ExportView) -> None:
        raise PreconditionFailed("the version has changed")

    assert cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test", precondition=unexpected) == []
    assert workflow.events(export_id) == before


def test_cancel_after_execution_is_refused(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    with pytest.raises(InvalidState, match="cannot be cancelled; withdraw or amend it"):
        run_cancel(workflow, export_id)
    assert read_messages(workflow, export_id, MessageType.EXPORT_CANCELLED) == []


def test_cancel_and_retry_with_failed_precondition_change_nothing(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id

    def never(_: ExportView) -> None:
        raise PreconditionFailed("it has changed")

    for change in (cancel_export, retry_export):
        with pytest.raises(PreconditionFailed):
            change(workflow.runtime, factories.ACCOUNT, export_id, "key_test", precondition=never)
    assert (workflow.state(export_id), workflow.events(export_id)) == ("accepted", ["EXPORT_ACCEPTED"])


def test_retry_keeps_notification_ids(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.step(export_id, 1, "render_documents")

    def ids() -> list[str]:
        with workflow.runtime.db.read() as session:
            query = select(col(Notification.id)).where(col(Notification.event_type).in_(NOTIFIED_TYPES))
            return sorted(session.scalars(query))

    before = ids()
    with workflow.runtime.db.write() as session:
        session.get_one(Export, export_id).state = "failed"
        session.get_one(Step, (export_id, 0, "notify_broker")).state = "failed"
    workflow.run(retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test"))
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"
    assert ids() == before
