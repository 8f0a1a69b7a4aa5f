"""The task messages of an export, and the queue that they wait in."""

from types import SimpleNamespace

import pytest

from config.celery import app
from config.queues import BACKLOG, LARGE, STEPS
from pipeline.workflow import dispatch
from pipeline.workflow.export_limit import PROMPT_EXPORTS
from pipeline.workflow.step_transaction import Committed
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


@pytest.mark.parametrize("queue", [STEPS, BACKLOG, LARGE])
def test_each_unit_is_published_to_its_queue(monkeypatch: pytest.MonkeyPatch, queue: str) -> None:
    sent: list[tuple[str, str]] = []

    def send_task(_: object, name: str, message: object, **options: object) -> None:
        sent.append((name, str(getattr(options["queue"], "name", options["queue"]))))

    monkeypatch.setattr(app.amqp, "send_task_message", send_task)
    dispatch.publish_export("exp_1", [STEPS, queue])
    assert sent == [("exports.record_packages", STEPS), ("exports.record_packages", queue)]
    rendering = dispatch.unit_chain("exp_1", 1, queue=queue).tasks[2]
    assert rendering.options.get("queue") == (LARGE if queue == LARGE else None)


def test_only_exports_of_an_account_with_many_active_ones_wait(workflow: WorkflowHarness) -> None:
    accepted = [workflow.accept(factories.plan(batch=f"batch_{number}")) for number in range(PROMPT_EXPORTS + 2)]
    assert [each.queues for each in accepted] == [(STEPS,)] * PROMPT_EXPORTS + [(BACKLOG,)] * 2
    workflow.finish(accepted[0].export_id)  # finishes all that are due
    assert workflow.accept(factories.plan(batch="batch_later")).queues == (STEPS,)


@pytest.mark.parametrize(
    ("units", "lines", "packages", "queue"), [(1, 3, 97, STEPS), (1, 3, 98, LARGE), (2, 3, 48, BACKLOG)]
)
def test_large_unit_and_small_ones_of_a_large_plan_wait_apart(
    workflow: WorkflowHarness, units: int, lines: int, packages: int, queue: str
) -> None:
    accepted = workflow.accept(factories.plan(units, lines, packages))
    assert accepted.queues == (queue,) * units
    late = LARGE if queue == LARGE else BACKLOG
    assert {(task.step, task.queue) for task in workflow.sweep()} == {("record_packages", late)}


def test_begun_step_waits_in_the_queue_of_its_name_but_that_of_a_large_unit(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {workflow.accept(factories.plan(1, 3, size, batch=f"batch_{size}")).export_id: size for size in (3, 98)}
    for export_id in begun:
        workflow.step(export_id, 1, "record_packages")
    assert {begun[task.export_id]: task.queue for task in workflow.sweep()} == {3: None, 98: LARGE}
    published: list[TaskMessage] = []
    monkeypatch.setattr(dispatch, "publish", published.extend)
    released = Committed(tasks=(TaskMessage("exp_1", 1, "render_documents"), TaskMessage("exp_1", 0, "hand_off")))
    for queue in (LARGE, STEPS):
        dispatch.continue_chain(SimpleNamespace(chain=None, delivery_info={"routing_key": queue}), released)
    assert [task.queue for task in published] == [LARGE, None, None, None]
