"""Decisions about a step or a delivery use its state at the time of the write, not an earlier state."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session, col

from pipeline.core.errors import InvalidState, Retryable, Terminal
from pipeline.core.failpoints import hooks
from pipeline.deliveries import resend
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports import events
from pipeline.exports.models import Export, LineTreatment, Step
from pipeline.exports.states import ACTIVE_STATES, ExportState, StepState
from pipeline.exports.step_context import StepContext
from pipeline.workflow import step_failures, step_leases
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.step_leases import claim_step, hold_lease, holds_lease
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, list_pending, make_amendment, read_messages

pytestmark = pytest.mark.databases

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def take_step(workflow: WorkflowHarness, export_id: str, unit_no: int = 1) -> StepContext:
    context = claim_step(workflow.runtime, export_id, unit_no, "record_packages")
    assert context is not None
    return context


def run_before_lock(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Run `happens` once, just before the row of an export is locked."""
    lock = events.lock_export
    left = [happens]

    def late(session: Session, export_id: str) -> Any:
        if left:
            left.pop()()
        return lock(session, export_id)

    monkeypatch.setattr(events, "lock_export", late)


@ON_POSTGRESQL
@pytest.mark.parametrize("error", [Retryable("not now"), Terminal("never")])
def test_record_failure_during_cancellation_leaves_export_cancelled(
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    export_id = workflow.accept().export_id
    context = take_step(workflow, export_id)
    run_before_lock(monkeypatch, lambda: cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test"))
    assert step_failures.record_failure(workflow.runtime, context, error) == []
    assert workflow.events(export_id)[-1] == "EXPORT_CANCELLED"
    step = workflow.read_step(export_id, "record_packages")
    assert (step.state, step.lease_until, step.due_at) == ("cancelled", None, None)


@ON_POSTGRESQL
@pytest.mark.parametrize("error", [Retryable("not now"), Terminal("never")])
def test_record_failure_after_step_was_claimed_again_records_nothing(
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    export_id = workflow.accept().export_id
    context = take_step(workflow, export_id)

    def taken_over() -> None:
        workflow.change(update(Step).where(col(Step.lease_until).is_not(None)).values(lease_until=None))
        assert take_step(workflow, export_id).fence == context.fence + 1

    run_before_lock(monkeypatch, taken_over)
    assert step_failures.record_failure(workflow.runtime, context, error) == []
    assert (workflow.state(export_id), workflow.events(export_id)) == ("executing", ["EXPORT_ACCEPTED"])
    step = workflow.read_step(export_id, "record_packages")
    assert (step.state, step.error, step.fence) == ("ready", None, context.fence + 1)


@ON_POSTGRESQL
def test_resend_during_amendment_waits_and_is_refused(
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = execute_export(workflow)
    (handoff,) = [each["id"] for each in read_messages(workflow, export_id, MessageType.HANDOFF_READY)]
    (sent,) = [each for each in list_pending(workflow, export_id) if each.notification_id == handoff]
    assert sent.state == "delivered"
    run_before_lock(monkeypatch, lambda: make_amendment(workflow, export_id))
    with pytest.raises(InvalidState, match="was superseded by"):
        resend.resend_delivery(workflow.runtime, factories.ACCOUNT, sent.id, "key_test")
    (sent,) = [each for each in list_pending(workflow, export_id) if each.notification_id == handoff]
    assert sent.state == "delivered"


def test_step_of_other_unit_when_export_fails_is_recorded_and_continues_after_retry(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    failing = take_step(workflow, export_id, 1)

    def fail_other_unit() -> None:
        step_failures.record_failure(workflow.runtime, failing, Terminal("it cannot be done"))

    monkeypatch.setitem(hooks, "record_packages.before", fail_other_unit)
    # The hook writes, so the step needs a claim: on SQLite nothing else could write during its transaction.
    assert workflow.step(export_id, 2, "record_packages", redelivered=True) == ("record_packages",)
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED", "EXPORT_FAILED", "PACKAGES_RECORDED"]
    monkeypatch.undo()
    for _ in range(3):
        assert workflow.sweep() == [], "no step of an ended export is due"
    assert set(retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")) == {
        TaskMessage(export_id, 1, "record_packages"),
        TaskMessage(export_id, 2, "attach_customs"),
    }
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"


def test_record_failure_in_failed_export_records_no_second_failure(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    first, second = take_step(workflow, export_id, 1), take_step(workflow, export_id, 2)
    assert step_failures.record_failure(workflow.runtime, first, Terminal("it cannot be done")) != []
    log = workflow.events(export_id)
    assert step_failures.record_failure(workflow.runtime, second, Terminal("nor can this")) == []
    assert workflow.events(export_id) == log
    step = workflow.read_step(export_id, "record_packages", unit_no=2)
    assert (step.state, step.lease_until, step.error) == ("ready", None, "nor can this")


@pytest.mark.parametrize("state", ExportState)
def test_steps_are_claimed_only_while_their_export_is_active(workflow: WorkflowHarness, state: ExportState) -> None:
    export_id = workflow.accept().export_id
    with workflow.runtime.db.write() as session:
        session.execute(update(Export).values(state=state.value))
        found = step_leases.find_untried_step(session, export_id, 1, "record_packages")
    claimed = claim_step(workflow.runtime, export_id, 1, "record_packages")
    assert (found is not None, claimed is not None) == (state in ACTIVE_STATES,) * 2


def test_holds_lease_is_true_until_step_is_claimed_again_or_done(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    first = take_step(workflow, export_id)
    assert holds_lease(workflow.runtime, first)
    workflow.clock.pass_seconds(workflow.runtime.settings.lease_seconds + 1)
    second = take_step(workflow, export_id)
    assert (holds_lease(workflow.runtime, first), holds_lease(workflow.runtime, second)) == (False, True)
    with hold_lease(workflow.runtime, first) as former, hold_lease(workflow.runtime, second) as present:
        assert (former.renew(), present.renew()) == (False, True)
    workflow.change(update(Step).where(col(Step.export_id) == export_id).values(state=StepState.DONE.value))
    assert not holds_lease(workflow.runtime, second)


def test_step_with_facts_that_collide_fails_export_with_reason(workflow: WorkflowHarness) -> None:
    """A retry would collide again, so there is none."""
    export_id, other = workflow.accept().export_id, workflow.accept(factories.plan(batch="other")).export_id
    workflow.step(other, 1, "record_packages")
    workflow.change(update(LineTreatment).where(col(LineTreatment.export_id) == other).values(export_id=export_id))
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages",)
    failed = workflow.get(Export, export_id)
    assert failed.state == "failed"
    assert str(failed.failure).startswith("attach_customs: attach_customs collides with recorded data: ")
    assert workflow.events(export_id).count("STEP_RETRIED") == 0
