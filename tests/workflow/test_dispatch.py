"""The task messages of a new export, and the queue that they wait in."""

from __future__ import annotations

import pytest

from config import queues
from config.celery import app
from pipeline.workflow import dispatch
from pipeline.workflow.dispatch import initial_tasks
from pipeline.workflow.export_limit import PROMPT_EXPORTS
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def read_queues(monkeypatch: pytest.MonkeyPatch, export_id: str, units: int, *, waits: bool) -> list[tuple[str, str]]:
    """Publish an export; return the task and the queue of each message."""
    sent: list[tuple[str, str]] = []

    def send_task(_: object, name: str, message: object, **options: object) -> None:
        queue = options.get("queue") or app.amqp.router.route({}, name)["queue"]
        sent.append((name, str(getattr(queue, "name", queue))))

    monkeypatch.setattr(app.amqp, "send_task_message", send_task)
    dispatch.publish_export(export_id, units, waits=waits)
    return sent


def test_new_export_has_a_task_message_for_the_first_step_of_each_unit() -> None:
    assert initial_tasks("exp_1", 2) == [TaskMessage("exp_1", unit_no, "record_packages") for unit_no in (1, 2)]


@pytest.mark.parametrize(("waits", "queue"), [(False, queues.STEPS), (True, queues.BACKLOG)])
def test_export_that_waits_is_published_to_the_backlog(
    monkeypatch: pytest.MonkeyPatch, queue: str, *, waits: bool
) -> None:
    assert read_queues(monkeypatch, "exp_1", 2, waits=waits) == [("exports.record_packages", queue)] * 2


def test_only_exports_of_an_account_with_many_active_ones_wait(workflow: WorkflowHarness) -> None:
    accepted = [workflow.accept(factories.plan(batch=f"batch_{number}")) for number in range(PROMPT_EXPORTS + 2)]
    assert [each.waits for each in accepted] == [False] * PROMPT_EXPORTS + [True] * 2
    workflow.finish(accepted[0].export_id)  # finishes all that are due
    assert not workflow.accept(factories.plan(batch="batch_later")).waits


@pytest.mark.parametrize(
    ("units", "lines", "packages", "waits"), [(1, 3, 97, False), (1, 3, 98, True), (2, 3, 48, True)]
)
def test_large_export_waits_at_once(
    workflow: WorkflowHarness, units: int, lines: int, packages: int, *, waits: bool
) -> None:
    assert workflow.accept(factories.plan(units, lines, packages)).waits is waits


def test_late_first_step_goes_to_the_backlog_and_a_later_step_does_not(workflow: WorkflowHarness) -> None:
    waiting = workflow.accept(factories.plan(batch="batch_waiting")).export_id
    begun = workflow.accept(factories.plan(batch="batch_begun")).export_id
    workflow.step(begun, 1, "record_packages")
    assert {task.export_id: task.waits for task in workflow.sweep()} == {waiting: True, begun: False}
