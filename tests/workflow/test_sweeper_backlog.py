"""How many task messages a sweep adds to a queue: enough to keep workers busy, but without flooding them."""

import pytest
from celery import Celery

from config import queues
from config.settings import Settings
from pipeline.workflow import dispatch
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import STEPS
from pipeline.workflow.sweeper import find_due
from tests.conftest import SERVERS
from tests.support import factories
from tests.support.servers import RabbitMQ, Redis
from tests.workflow.conftest import WorkflowHarness

MOST, LEAST = 20, 3


@pytest.fixture(params=["memory", pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each message broker, without a declared queue."""
    if request.param == "memory":
        return "memory://of-its-own"
    server: Redis | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    return server.fresh_url()


@pytest.fixture
def sender(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """Return an app on the message broker, which replaces the sweeper's app."""
    return use_broker(broker_url, monkeypatch)


def use_broker(url: str, monkeypatch: pytest.MonkeyPatch) -> Celery:
    app = Celery(broker=url, set_as_current=False)
    app.conf.update(queues.celery_options(Settings.model_validate({"broker_url": url})))
    monkeypatch.setattr(dispatch, "app", app)
    return app


def test_queue_capacity_is_up_to_the_limit_and_at_least_the_minimum(sender: Celery) -> None:
    names = ("exports.room.steps", "exports.room.documents")
    assert dispatch.queue_capacity(MOST, LEAST, names) == [MOST], "a missing queue has full capacity"
    for name in names:
        for _ in range(5):
            sender.send_task("exports.nothing", args=["exp_1", 1], queue=name)
    assert dispatch.queue_capacity(MOST, LEAST, names, names[:1]) == [MOST - 10, MOST - 5]
    assert dispatch.queue_capacity(8, LEAST, names) == [LEAST], "a full queue may hold only other work"


def test_find_due_leaves_work_beyond_its_limit_due(workflow: WorkflowHarness) -> None:
    exports = [workflow.accept(factories.plan(batch=f"batch_{number}")).export_id for number in range(3)]
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    found = [find_due(workflow.runtime, steps=2, streams=0) for _ in range(3)]
    assert [len(tasks) for tasks in found] == [2, 1, 0]
    assert {task.export_id for tasks in found for task in tasks} == {*exports}


def test_backlog_holds_back_messages_that_a_queue_may_hold_but_not_for_ever(workflow: WorkflowHarness) -> None:
    plans = (factories.plan(1, 3, size, batch=name, invoice=name) for name, size in (("R", 3), ("Q", 3), ("L", 98)))
    retried, queued, large = (workflow.accept(plan).export_id for plan in plans)
    assert claim_step(workflow.runtime, retried, 1, STEPS[0].name) is not None
    stalled = workflow.runtime.settings.stalled_seconds
    workflow.clock.pass_seconds(max(stalled, workflow.runtime.settings.lease_seconds))

    def find_each() -> list[list[str]]:
        """Sweep ten times, each time when what was found is due again; the queue of large units fills after the first."""
        found: list[list[str]] = []
        for _ in range(10):
            due = find_due(workflow.runtime, backlog=True, large_backlog=bool(found))
            found.append([task.export_id for task in due])
            workflow.clock.pass_seconds(stalled)
        return found

    assert find_each() == [[retried, large], *[[retried]] * 8, [retried, queued, large]]
    assert {task.export_id for task in find_due(workflow.runtime)} == {retried, queued, large}, (
        "without a backlog, all at once"
    )
