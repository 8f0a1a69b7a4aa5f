"""An error in one part of a sweep does not stop the others: everything that the others found is published."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from pipeline.core.errors import DatabaseBusy
from pipeline.deliveries import polling
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.polling import Poll
from pipeline.deliveries.streams.streams import claim_stream
from pipeline.deliveries.submissions import overdue
from pipeline.exports.models import Step
from pipeline.workflow import clock_check, dispatch
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.step_transaction import RENDERER
from pipeline.workflow.steps import TaskMessage, stream_tasks
from pipeline.workflow.sweeper import find_due
from tasks import sweeper
from tests.support import factories
from tests.support.own_logs import capture_own_logs
from tests.support.task_by_task import task_by_task
from tests.workflow.conftest import WorkflowHarness

LATE = DeliveryStream("exp_late", factories.OPERATOR, "queue")
REDIS = SecretStr("redis://127.0.0.1:1/0")
DUE_POLL = Poll(factories.ACCOUNT, factories.BROKER, "sftp")


@dataclass
class SentMessages:
    """A message broker that records what was sent."""

    tasks: list[TaskMessage] = field(default_factory=list)
    streams: list[DeliveryStream] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)

    def queue_capacity(self, most: int, _: int, *places: Iterable[str]) -> list[int]:
        """Return a capacity that allows everything."""
        return [most for _ in places]


@pytest.fixture
def sent(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> SentMessages:
    """Sweep with the workflow harness, find one overdue status and one poll, and send nothing to a real broker."""
    here = SentMessages()
    monkeypatch.setattr(sweeper, "process_runtime", lambda: workflow.runtime)
    monkeypatch.setattr(dispatch, "queue_capacity", here.queue_capacity)
    monkeypatch.setattr(dispatch, "publish", here.tasks.extend)
    monkeypatch.setattr(dispatch, "publish_streams", here.streams.extend)
    monkeypatch.setattr(dispatch, "publish_polls", here.polls.extend)
    monkeypatch.setattr(overdue, "notify_overdue", lambda _: [LATE])
    monkeypatch.setattr(polling, "take_due_polls", lambda _: [DUE_POLL])
    return here


def build_failing(error: Exception) -> Callable[..., NoReturn]:
    def broken(*_: Any, **__: Any) -> NoReturn:
        raise error

    return broken


@pytest.mark.parametrize("holds", [False, True])
def test_sweep_publishes_all_but_first_messages_that_a_queue_may_hold(
    workflow: WorkflowHarness, sent: SentMessages, monkeypatch: pytest.MonkeyPatch, *, holds: bool
) -> None:
    export_id = workflow.accept().export_id
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    monkeypatch.setattr(dispatch, "queue_capacity", lambda most, _, *places: [most - holds for _ in places])
    tasks = [] if holds else [TaskMessage(export_id, 1, "record_packages")]
    assert (sweeper.sweep(), sent.tasks, sent.streams, sent.polls) == (2 + len(tasks), tasks, [LATE], [DUE_POLL])


@pytest.mark.parametrize(
    ("part", "error", "left", "reports"),
    [
        ("sweeper.find_due", ValueError("of the test"), (0, 1, 1), {"error": "sweep_raised"}),
        ("overdue.notify_overdue", ValueError("of the test"), (1, 0, 1), {"error": "sweep_raised"}),
        ("polling.take_due_polls", ValueError("of the test"), (1, 1, 0), {"error": "sweep_raised"}),
        ("overdue.notify_overdue", DatabaseBusy("locked"), (1, 0, 0), {"warning": "sweep_postponed"}),
        ("polling.take_due_polls", DatabaseBusy("locked"), (1, 1, 0), {"warning": "sweep_postponed"}),
    ],
)
def test_sweep_with_a_failing_part_publishes_the_others_unless_the_database_is_busy(
    workflow: WorkflowHarness,
    sent: SentMessages,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    error: Exception,
    left: tuple[int, int, int],
    reports: dict[str, str],
) -> None:
    workflow.accept()
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    monkeypatch.setattr(f"tasks.sweeper.{part}", build_failing(error))
    with capture_own_logs() as lines:
        assert sweeper.sweep() == sum(left)
    assert (len(sent.tasks), len(sent.streams), len(sent.polls)) == left
    assert {line["log_level"]: line["event"] for line in lines if line["log_level"] != "info"} == reports


@pytest.mark.parametrize(
    ("limit", "seconds", "least"), [(100, 2, 10), (100, 0.25, 2), (9, 2, 9), (100, 60, 100), (1, 0.1, 1)]
)
def test_sweep_asks_for_minimum_capacity_within_its_limit(
    workflow: WorkflowHarness,
    sent: SentMessages,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    seconds: float,
    least: int,
) -> None:
    calls: list[tuple[int, int]] = []

    def queue_capacity(most: int, at_least: int, *places: Iterable[str]) -> list[int]:
        calls.append((most, at_least))
        return [at_least for _ in places]

    monkeypatch.setattr(dispatch, "queue_capacity", queue_capacity)
    changed = workflow.runtime.settings.model_copy(update={"sweep_limit": limit, "sweep_seconds": seconds})
    monkeypatch.setattr(sweeper, "process_runtime", lambda: replace(workflow.runtime, settings=changed))
    sweeper.sweep()
    assert calls == [(limit, least)]


def test_work_continues_after_the_database_clock_was_set_back(workflow: WorkflowHarness) -> None:
    """Without the watch, what a dead process held and what waited for a retry would wait for an hour more."""
    held, sent = (workflow.accept(factories.plan(batch=name, invoice=name)).export_id for name in ("held", "sent"))
    assert claim_step(workflow.runtime, held, 1, "record_packages") is not None
    with task_by_task():
        for step in ("record_packages", "render_documents", "close_unit"):
            workflow.step(sent, 1, step)
        workflow.step(sent, 0, "hand_off")
    stream = DeliveryStream(sent, factories.WAREHOUSE, "queue")
    assert claim_stream(workflow.runtime, stream) is not None
    assert not clock_check.follow_clock(workflow.runtime)
    workflow.clock.pass_seconds(-3600)
    assert clock_check.follow_clock(workflow.runtime)
    found = find_due(workflow.runtime)
    assert {TaskMessage(held, 1, "record_packages"), *stream_tasks([stream])} <= set(found)
    workflow.run(found)
    assert workflow.state(held) == workflow.state(sent) == "executed"
    assert not clock_check.follow_clock(workflow.runtime)


def sweep_with(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, published: int, **changes: Any) -> int:
    """Take two turns at once, of sweeps that publish so much; return the number of sweeps."""
    sweeps: list[int] = []

    def sweep() -> int:
        sweeps.append(published)
        return published

    monkeypatch.setattr(sweeper, "sweep", sweep)
    changed = workflow.runtime.settings.model_copy(update=changes)
    monkeypatch.setattr(sweeper, "process_runtime", lambda: replace(workflow.runtime, settings=changed))
    for _ in range(2):
        sweeper.sweep_in_turn(60)
    return len(sweeps)


@pytest.mark.parametrize(
    ("published", "broker_url", "sweeps"),
    [(99, REDIS, 1), (100, REDIS, 2), (1, SecretStr("memory://"), 2)],
    ids=["one of several workers", "all, if one cannot publish everything", "always the embedded worker"],
)
def test_worker_sweeps_unless_another_did(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, published: int, broker_url: SecretStr, sweeps: int
) -> None:
    assert sweep_with(workflow, monkeypatch, published, broker_url=broker_url, sweep_limit=100) == sweeps


def test_worker_with_other_steps_sweeps_too(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = {"broker_url": REDIS}
    assert sweep_with(workflow, monkeypatch, 1, **servers) == 1
    monkeypatch.setattr(sweeper, "STEPS_BY_NAME", {"other": None})
    assert sweep_with(workflow, monkeypatch, 1, **servers) == 1


def test_find_due_neither_waits_for_the_renderer_nor_runs_steps(workflow: WorkflowHarness) -> None:
    spent, sound = (workflow.accept(factories.plan(batch=name, invoice=name)).export_id for name in ("spent", "sound"))
    workflow.step(spent, 1, "record_packages")
    attempts = workflow.runtime.settings.step_max_attempts
    workflow.change(
        update(Step)
        .where(col(Step.export_id) == spent, col(Step.name) == "render_documents")
        .values(attempts=attempts, fence=attempts)
    )
    workflow.clock.pass_seconds(3600)
    # Another thread of this process holds the renderer.
    with RENDERER, ThreadPoolExecutor(1) as sweeper:
        found = sweeper.submit(find_due, workflow.runtime).result(timeout=30)
    assert set(found) == {TaskMessage(spent, 1, "render_documents"), TaskMessage(sound, 1, "record_packages")}
    assert workflow.state(spent) == "executing"
    workflow.run(found)
    assert workflow.state(spent) == "failed"
