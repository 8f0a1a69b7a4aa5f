"""The engine runs what follows a step itself, as far as nothing else decides how long that takes."""

from __future__ import annotations

import threading

import pytest

from pipeline.accounts.models import PartnerChannel
from pipeline.core import shutdown
from pipeline.core.errors import RendererCrashed
from pipeline.core.failpoints import hooks
from pipeline.deliveries import sender
from pipeline.workflow import engine
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS, TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def set_channel(workflow: WorkflowHarness, channel: str) -> None:
    """Give the warehouse this channel."""
    with workflow.runtime.db.write() as session:
        session.add(
            PartnerChannel(
                account_id=factories.ACCOUNT,
                partner_id=factories.WAREHOUSE,
                channel=channel,
                position=1,
                endpoint={"channel": channel, "url": "http://127.0.0.1:9/"},
            )
        )


def test_one_worker_runs_all_steps_of_an_export_that_is_sent_to_queues(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert sorted(result.completed) == sorted(spec.name for spec in STEPS)
    assert not result.halted
    assert workflow.state(export_id) == "executed"
    assert [(task.partner_id, task.channel) for task in result.tasks] == [("op_demo", "queue")]


def test_last_unit_continues_with_the_handoff(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    first = run_step(workflow.runtime, export_id, 2, "record_packages")
    assert first.completed == ("record_packages", "attach_customs", "render_documents", "close_unit")
    assert workflow.state(export_id) == "executing"
    assert "hand_off" in run_step(workflow.runtime, export_id, 1, "record_packages").completed
    assert workflow.state(export_id) == "executed"


def test_worker_leaves_documents_to_their_task_while_the_renderer_is_in_use(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with engine._RENDERER:
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    try:
        result = run_step(workflow.runtime, export_id, 1, "record_packages")
    finally:
        done.set()
        holder.join()
    assert (result.completed, result.halted) == (("record_packages", "attach_customs"), False)
    assert workflow.step_states(export_id)[1, "render_documents"] == "ready"
    assert engine._RENDERER.acquire(blocking=False), "nobody holds it any more"
    engine._RENDERER.release()
    assert "render_documents" in run_step(workflow.runtime, export_id, 1, "render_documents").completed


def test_partner_that_may_delay_its_messages_is_notified_by_a_task_of_its_own(workflow: WorkflowHarness) -> None:
    set_channel(workflow, "webhook")
    export_id = workflow.accept().export_id
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert result.completed[-2:] == ("hand_off", "notify_operator")
    assert set(result.tasks) == {TaskMessage(export_id, step=name) for name in ("notify_broker", "notify_warehouse")}
    assert workflow.state(export_id) == "executing"


def test_second_claimed_step_runs_although_the_first_failed(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    notify = sender.notify_audience

    def fail_broker(runtime: object, context: object, audience: str) -> object:
        if audience == "customs_broker":
            raise RendererCrashed("a test refuses it")
        return notify(runtime, context, audience)  # type: ignore[arg-type]

    monkeypatch.setattr(sender, "notify_audience", fail_broker)
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert (result.completed[-1], result.halted) == ("notify_warehouse", True)
    states = workflow.step_states(export_id)
    assert (states[0, "notify_broker"], states[0, "notify_warehouse"]) == ("ready", "done")
    monkeypatch.undo()
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"


def test_claimed_steps_are_all_released_if_the_worker_stops(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    monkeypatch.setitem(hooks, "hand_off.mid", shutdown.request)
    try:
        result = run_step(workflow.runtime, export_id, 1, "record_packages")
    finally:
        shutdown.reset()
    names = ("notify_broker", "notify_warehouse")
    assert set(result.tasks) == {TaskMessage(export_id, step=name) for name in names}
    assert result.halted
    for name in names:
        assert workflow.step(export_id, 0, name) == (name,), "another worker may claim it at once"
    assert workflow.state(export_id) == "executed"
