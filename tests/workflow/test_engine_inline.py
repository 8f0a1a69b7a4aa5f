"""The engine runs what follows a step itself, as far as nothing else decides how long that takes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from config.celery import app
from config.queues import DOCUMENTS
from config.queues import STEPS as STEPS_QUEUE
from pipeline.accounts.models import PartnerChannel
from pipeline.core import shutdown
from pipeline.core.errors import RendererCrashed, StepFailed
from pipeline.core.failpoints import hooks
from pipeline.deliveries import sender
from pipeline.workflow import engine
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS, StepResult, TaskMessage
from tasks import steps
from tests.conftest import SERVERS
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
    with engine._RENDERER, ThreadPoolExecutor(1) as other:
        result = other.submit(run_step, workflow.runtime, export_id, 1, "record_packages").result(timeout=30)
    assert (result.completed, result.halted) == (("record_packages", "attach_customs"), False)
    assert workflow.step_states(export_id)[1, "render_documents"] == "ready"
    assert engine._RENDERER.acquire(blocking=False), "nobody holds it any more"
    engine._RENDERER.release()
    assert "render_documents" in run_step(workflow.runtime, export_id, 1, "render_documents").completed


def test_process_that_must_not_render_leaves_documents_to_their_task(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    result = run_step(workflow.runtime, export_id, 1, "record_packages", renders=False)
    assert (result.completed, result.halted) == (("record_packages", "attach_customs"), False)
    assert workflow.step_states(export_id)[1, "render_documents"] == "ready"


@pytest.mark.parametrize("queue", [STEPS_QUEUE, DOCUMENTS])
def test_worker_goes_on_with_documents_only_if_it_consumes_their_queue(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    calls: list[dict[str, object]] = []

    def run(*_: object, **options: object) -> StepResult:
        calls.append(options)
        return StepResult(halted=True)

    monkeypatch.setattr("tasks.steps.engine.run_step", run)
    monkeypatch.setattr("tasks.steps.process_runtime", lambda: workflow.runtime)
    monkeypatch.setattr(app.amqp.queues, "_consume_from", {queue: None})  # as `-Q` does
    steps.record_packages("exp_1", 1)
    assert calls == [{"redelivered": False, "renders": queue == DOCUMENTS}]


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


@pytest.mark.parametrize("redelivered", [False, True])
def test_first_steps_of_a_unit_need_a_claim_only_after_another_attempt(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, *, redelivered: bool
) -> None:
    export_id = workflow.accept().export_id

    def die() -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(hooks, "attach_customs.mid", die)
        with pytest.raises(KeyboardInterrupt):
            workflow.step(export_id, 1, "record_packages", redelivered=redelivered)
    tried = workflow.read_step(export_id, "record_packages")
    assert (tried.attempts, tried.lease_until is None) == ((1, False) if redelivered else (0, True))
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED"]
    workflow.clock.pass_seconds(3600)
    assert workflow.step(export_id, 1, "record_packages") != ()
    done = workflow.read_step(export_id, "record_packages")
    assert (done.state, done.attempts, done.fence) == ("done", tried.attempts + 1, tried.attempts + 1)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.started_at <= done.finished_at


def test_step_that_a_sweep_found_is_claimed_first(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that got its first message may have died of it."""
    export_id = workflow.accept().export_id
    workflow.sweep()
    claimed: list[int] = []
    monkeypatch.setitem(
        hooks,
        "record_packages.before",
        lambda: claimed.append(workflow.read_step(export_id, "record_packages").attempts),
    )
    assert workflow.step(export_id, 1, "record_packages") != ()
    assert claimed == [1]


def test_failure_without_a_claim_is_recorded_by_the_claimed_attempt(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    tries: list[int] = []

    def fail() -> NoReturn:
        tries.append(len(tries))
        raise StepFailed("a test refuses it")

    monkeypatch.setitem(hooks, "record_packages.mid", fail)
    assert workflow.step(export_id, 1, "record_packages") == ()
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED", "EXPORT_FAILED"]
    assert workflow.read_step(export_id, "record_packages").attempts == 1
    assert len(tries) >= 2


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=SERVERS)], indirect=True)
def test_worker_that_was_slower_writes_nothing(
    make_workflow: Callable[[str], WorkflowHarness], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = make_workflow(database_url)
    export_id = workflow.accept().export_id

    def let_other_finish() -> None:
        monkeypatch.delitem(hooks, "record_packages.before")
        assert workflow.step(export_id, 1, "record_packages", redelivered=True) == ("record_packages", "attach_customs")

    monkeypatch.setitem(hooks, "record_packages.before", let_other_finish)
    assert workflow.step(export_id, 1, "record_packages") == ()
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED", "PACKAGES_RECORDED", "TREATMENT_ATTACHED"]
