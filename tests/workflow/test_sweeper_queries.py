"""The cost of a sweep and of a task message: a fixed number of statements, and a message size independent of the plan."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from kombu.serialization import dumps
from sqlalchemy import text, update
from sqlmodel import col

from config.celery import app
from pipeline.core.db import database_now
from pipeline.deliveries import polling
from pipeline.deliveries.streams import due_streams
from pipeline.deliveries.submissions import overdue
from pipeline.exports.models import Step
from pipeline.workflow import clock_check, dispatch
from pipeline.workflow.steps import STEPS, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.conftest import SERVERS
from tests.support import factories
from tests.support.query_counter import record_plans, record_statements, searches
from tests.system.faults.matrix import mark_own_stack
from tests.workflow.conftest import WorkflowHarness

#: In four transactions: the clock; lost steps, due steps, due deliveries; overdue submissions, accounts whose test clock
#: is ahead; mailboxes and answers to poll. If lost steps are staggered it is one more, however many there are. Each overdue status has its own transaction.
#: The goal was one statement a second, and a worker sweeps every two. Each statement finds few rows by an index, so eight
#: cost as little.
STATEMENTS: Final = 8
#: The statements that begin a transaction and set its account.
FRAME: Final = ("BEGIN", "SELECT set_config")
#: Five thousand streams of one delivery each, which have been due for an hour.
_FILL_STREAMS: Final = """
INSERT INTO deliveries (id, notification_id, subject_id, account_id, audience, partner_id, channel, position, state,
 fence, attempts, attempts_not_counted, due_at, inbox, created_at)
SELECT 'dlv_' || n, 'ntf_' || n, 'exp_' || n, 'acc_1', 'warehouse', 'wh_1', 'webhook', 1, 'pending',
 0, 0, 0, now() - interval '1 hour', 'open', now() FROM generate_series(1, 5000) n
"""
_COUNT_READ: Final = """
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'deliveries'
"""
#: The goal was 1,000. The handoff's message names the three tasks that follow it, each of 330 bytes: an id, and how
#: long its sender waits.
MESSAGE_BYTES: Final = 1_300


def sweep(workflow: WorkflowHarness) -> tuple[list[str], list[TaskMessage]]:
    """Sweep as a worker does; return the statements and the task messages."""
    with record_statements(workflow.runtime.db) as statements:
        clock_check.follow_clock(workflow.runtime)
        tasks = find_due(workflow.runtime)
        overdue.notify_overdue(workflow.runtime)
        polling.take_due_polls(workflow.runtime)
    return [statement for statement in statements if not statement.startswith(FRAME)], tasks


@mark_own_stack("F32")
def test_sweep_runs_the_same_number_of_statements_however_much_is_due(workflow: WorkflowHarness) -> None:
    sweep(workflow)  # the first one notes the time
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
        ("broker_submissions", "arrives_at"),
        ("broker_submissions", "summary_due_at"),
        ("broker_submissions", "polled_at"),
    ],
)
def test_sweep_reads_only_due_rows_by_index(
    workflow: WorkflowHarness, database_url: str, table: str, column: str
) -> None:
    """A paused partner may have a hundred thousand pending messages, so the index is searched only up to now."""
    with record_plans(workflow.runtime.db) as plans:
        sweep(workflow)
    assert searches(plans, f"ix_{table}_{column}", f"{column} <="), plans
    assert searches(plans, "ix_steps_lost", "due_at <="), plans


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=SERVERS)], indirect=True)
def test_sweep_of_deliveries_costs_by_its_limit_and_not_by_what_is_due(
    make_workflow: Callable[[str], WorkflowHarness], database_url: str
) -> None:
    runtime = make_workflow(database_url).runtime
    settings = runtime.settings.model_copy(update={"sweep_limit": 5})
    with runtime.db.write() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))  # their notifications do not matter
        session.execute(text(_FILL_STREAMS))
        session.execute(text("ANALYZE deliveries"))
        before = session.execute(text(_COUNT_READ)).scalar_one()
        assert len(due_streams.take_due_streams(session, settings, 5)) == 5
        read = session.execute(text(_COUNT_READ)).scalar_one() - before
    assert read == 50 + 50 + 5, "fifty are found and asked for their streams, and five are changed"


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
