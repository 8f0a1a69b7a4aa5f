"""The worker that makes the documents of an export's only unit hands it off in the same transaction, if it can."""

from dataclasses import replace
from typing import Any, NoReturn

import pytest
from sqlmodel import col, select

from pipeline.core.errors import StepFailed
from pipeline.core.failpoints import hooks
from pipeline.deliveries import handoff
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export
from pipeline.exports.step_context import build_context
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import cancel_export
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import STEPS, STEPS_BY_NAME, TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.deliveries import assert_all_delivered_once, set_channel


def record_documents_of(workflow: WorkflowHarness, export_id: str) -> tuple[str, ...]:
    """Run the first steps by themselves, then the documents and what follows; return the steps of the second call."""
    workflow.step(export_id, 1, "record_packages")
    return run_step(workflow.runtime, export_id, 1, "render_documents").completed


def test_documents_and_handoff_become_visible_together(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    seen: list[tuple[str, int, int]] = []

    def look() -> None:
        states = workflow.step_states(export_id)
        seen.append((states[0, "hand_off"], workflow.count(Artifact), workflow.count(BrokerSubmission)))

    monkeypatch.setitem(hooks, "hand_off.mid", look)
    done = record_documents_of(workflow, export_id)
    assert set(done) == {spec.name for spec in STEPS[2:]}
    assert seen == [("waiting", 0, 0)]
    assert workflow.state(export_id) == "executed"
    assert_all_delivered_once(workflow, export_id)
    listed = workflow.one(select(BrokerSubmission))
    assert listed.state == "delivered"


@pytest.mark.parametrize("channel", ["queue", "webhook"])
def test_messages_are_those_of_a_handoff_by_itself(workflow: WorkflowHarness, channel: str) -> None:
    if channel != "queue":
        set_channel(workflow, channel, factories.BROKER)
    export_id = workflow.accept().export_id
    record_documents_of(workflow, export_id)
    with workflow.runtime.db.read() as session:
        export = session.get_one(Export, export_id)
        wanted = col(Event.export_id) == export_id, col(Event.type) == "HANDED_OFF"
        (handed_off,) = session.scalars(select(Event).where(*wanted)).all()
    # Prepared again, now from what the database holds.
    context = build_context(export, unit_no=0, step="hand_off", fence=1, attempt=1)
    again = handoff.prepare_handoff(workflow.runtime, context)
    assert handed_off.data["messagesDigest"] == again.rows.fact["messagesDigest"]


def test_partner_that_may_delay_its_messages_gets_task_messages(workflow: WorkflowHarness) -> None:
    set_channel(workflow, "webhook", factories.BROKER)
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    result = run_step(workflow.runtime, export_id, 1, "render_documents")
    assert "hand_off" in result.completed
    assert set(result.tasks) == {TaskMessage(export_id, 0, name) for name in ("notify_broker", "notify_warehouse")}
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"


@pytest.mark.parametrize("failing", ["prepare", "write"])
def test_failed_handoff_leaves_the_documents_recorded(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    export_id = workflow.accept().export_id
    tries: list[str] = []

    def fail(*_: object) -> NoReturn:
        tries.append(workflow.step_states(export_id)[1, "close_unit"])
        raise StepFailed("a test refuses it")

    with monkeypatch.context() as patch:
        if failing == "prepare":
            patch.setattr("pipeline.deliveries.handoff.build_notifications", fail)
        else:
            patch.setitem(STEPS_BY_NAME, "hand_off", replace(STEPS_BY_NAME["hand_off"], write=fail))
        assert record_documents_of(workflow, export_id) == ("render_documents", "close_unit")
    # First with the documents, then as a step of its own.
    assert tries == ["waiting", "done"]
    assert workflow.state(export_id) == "failed"
    assert workflow.count(Artifact) > 0
    assert workflow.count(BrokerSubmission) == 0


def test_second_attempt_at_the_documents_leaves_the_handoff_alone(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies of a handoff must not let the documents be quarantined."""
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    assert claim_step(workflow.runtime, export_id, 1, "render_documents")
    workflow.clock.pass_seconds(3600)
    seen: list[int] = []
    monkeypatch.setitem(hooks, "hand_off.mid", lambda: seen.append(workflow.count(Artifact)))
    run_step(workflow.runtime, export_id, 1, "render_documents")
    assert seen[0] > 0
    assert workflow.state(export_id) == "executed"


def test_export_that_ends_during_the_documents_is_not_handed_off(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    prepare = handoff.prepare_handoff

    def prepare_and_cancel(*given: Any) -> Any:
        prepared = prepare(*given)
        cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
        return prepared

    monkeypatch.setattr(handoff, "prepare_handoff", prepare_and_cancel)
    record_documents_of(workflow, export_id)
    assert workflow.state(export_id) == "cancelled"
    assert workflow.count(BrokerSubmission) == 0


def test_one_of_several_units_does_not_hand_off(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    assert record_documents_of(workflow, export_id) == ("render_documents", "close_unit")
    assert workflow.count(BrokerSubmission) == 0
