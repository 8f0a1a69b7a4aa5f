"""The cost of a sweep and of a task message: a fixed number of statements, and a message size independent of the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from kombu.serialization import dumps
from sqlalchemy import update
from sqlmodel import col

from config.celery import app
from pipeline.core.db import database_now
from pipeline.deliveries import overdue, polling
from pipeline.exports.models import Step
from pipeline.workflow import dispatch
from pipeline.workflow.steps import STEPS, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.support.query_counter import record_plans, record_statements, searches
from tests.system.faults.matrix import mark_own_stack
from tests.workflow.conftest import WorkflowHarness

#: In three transactions: lost steps, due steps, due deliveries; overdue submissions; mailboxes and answers to poll.
#: If lost steps are staggered it is one more, however many there are. Each overdue status has its own transaction.
#: The goal was one statement a second, and a worker sweeps every two. Each statement finds few rows by an index, so six
#: cost as little.
STATEMENTS: Final = 6
#: The statements that begin a transaction and set its account.
FRAME: Final = ("BEGIN", "SELECT set_config")
#: The goal was 1,000. The handoff's message names the three tasks that follow it, each of 330 bytes: an id, and how
#: long its sender waits.
MESSAGE_BYTES: Final = 1_300


def sweep(workflow: WorkflowHarness) -> tuple[list[str], list[TaskMessage]]:
    """Sweep as a worker does; return the statements and the task messages."""
    with record_statements(workflow.runtime.db) as statements:
        tasks = find_due(workflow.runtime)
        overdue.notify_overdue(workflow.runtime)
        polling.take_due_polls(workflow.runtime)
    return [statement for statement in statements if not statement.startswith(FRAME)], tasks


@mark_own_stack("F32")
def test_sweep_runs_the_same_number_of_statements_however_much_is_due(workflow: WorkflowHarness) -> None:
    idle, tasks = sweep(workflow)
    assert tasks == []
    for number in range(3):
        workflow.accept(factories.plan(units=10, batch=f"batch_{number}"))
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    busy, tasks = sweep(workflow)
    assert len(tasks) == 30
    assert len(busy) == len(idle) == STATEMENTS, idle
    # As if all of them had been started twice, and their workers had died.
    with workflow.runtime.db.write() as session:
        past = {"attempts": 2, "fence": 2, "due_at": database_now(-1), "lease_until": database_now(-1)}
        session.execute(update(Step).where(col(Step.state) == "ready").values(past))
    staggered, tasks = sweep(workflow)
    assert tasks == []
    assert len(staggered) == STATEMENTS + 1, staggered


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("steps", "due_at"),
        ("deliveries", "due_at"),
        ("broker_submissions", "deadline_at"),
        ("broker_submissions", "polled_at"),
    ],
)
def test_sweep_reads_only_due_rows_by_index(
    make_workflow: Callable[[str], WorkflowHarness], database_url: str, table: str, column: str
) -> None:
    """A paused partner may have a hundred thousand pending messages, so the index is searched only up to now."""
    workflow = make_workflow(database_url)
    with record_plans(workflow.runtime.db) as plans:
        sweep(workflow)
    assert searches(plans, f"ix_{table}_{column}", f"{column} <="), plans
    assert searches(plans, "ix_steps_lost", "due_at <="), plans


@mark_own_stack("F29")
def test_task_message_size_does_not_depend_on_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task message carries only ids: of its step and of the steps that follow."""
    bodies: dict[str, int] = {}

    def take(_: Any, name: str, message: Any, **__: Any) -> None:
        bodies[name] = len(dumps(message.body, "json")[2])

    monkeypatch.setattr(app.amqp, "send_task_message", take)
    dispatch.publish(TaskMessage("exp_" + "0" * 26, 99_999, spec.name) for spec in STEPS)
    assert bodies.keys() >= {f"exports.{spec.name}" for spec in STEPS}
    assert max(bodies.values()) <= MESSAGE_BYTES, bodies
