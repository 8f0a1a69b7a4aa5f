"""What a sweep and a task message cost: so many statements however much is due, and so many bytes however large the plan."""

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

#: In three transactions: what is begun apart from others, steps, deliveries; what is overdue; mailboxes and answers to ask for.
#: Where some are to be begun apart it is one more, however many these are, and each late status is told by a transaction of its own.
#: Aimed at was one a second, and a worker sweeps every two: each finds its few rows by an index, so that six cost as little.
STATEMENTS: Final = 6
#: What begins a transaction, and says whose rows are seen in it.
FRAME: Final = ("BEGIN", "SELECT set_config")
#: Aimed at were 1,000: the handoff's message names the three tasks that follow it, each with an id and how long its sender
#: waits, and each of them takes 330 bytes.
MESSAGE_BYTES: Final = 1_300


def sweep(workflow: WorkflowHarness) -> tuple[list[str], list[TaskMessage]]:
    """Sweep as a worker does; return what it asked of the database, and what it woke."""
    with record_statements(workflow.runtime.db) as heard:
        tasks = find_due(workflow.runtime)
        overdue.notify_overdue(workflow.runtime)
        polling.take_due_polls(workflow.runtime)
    return [statement for statement in heard if not statement.startswith(FRAME)], tasks


@mark_own_stack("F32")
def test_sweep_asks_as_little_of_the_database_however_much_is_due(workflow: WorkflowHarness) -> None:
    idle, tasks = sweep(workflow)
    assert tasks == []
    for number in range(3):
        workflow.accept(factories.plan(units=10, batch=f"batch_{number}"))
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    busy, tasks = sweep(workflow)
    assert len(tasks) == 30
    assert len(busy) == len(idle) == STATEMENTS, idle
    # All of them were begun, and ended with their workers, twice.
    with workflow.runtime.db.write() as session:
        past = {"attempts": 2, "fence": 2, "due_at": database_now(-1), "lease_until": database_now(-1)}
        session.execute(update(Step).where(col(Step.state) == "ready").values(past))
    silent, tasks = sweep(workflow)
    assert tasks == []
    assert len(silent) == STATEMENTS + 1, silent


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("steps", "due_at"),
        ("deliveries", "due_at"),
        ("broker_submissions", "deadline_at"),
        ("broker_submissions", "polled_at"),
    ],
)
def test_sweep_looks_at_nothing_that_is_due_later(
    make_workflow: Callable[[str], WorkflowHarness], database_url: str, table: str, column: str
) -> None:
    """A partner that is away may be owed a hundred thousand messages: an index is searched, and up to this moment alone."""
    workflow = make_workflow(database_url)
    with record_plans(workflow.runtime.db) as plans:
        sweep(workflow)
    assert searches(plans, f"ix_{table}_{column}", f"{column} <="), plans


@mark_own_stack("F29")
def test_task_message_is_small_however_large_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """It carries ids: of each step, and of those that are to follow it."""
    bodies: dict[str, int] = {}

    def take(_: Any, name: str, message: Any, **__: Any) -> None:
        bodies[name] = len(dumps(message.body, "json")[2])

    monkeypatch.setattr(app.amqp, "send_task_message", take)
    dispatch.publish(TaskMessage("exp_" + "0" * 26, 99_999, spec.name) for spec in STEPS)
    assert bodies.keys() >= {f"exports.{spec.name}" for spec in STEPS}
    assert max(bodies.values()) <= MESSAGE_BYTES, bodies
