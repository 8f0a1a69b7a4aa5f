"""The engine runs what follows a step itself, as far as nothing else decides how long that takes."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NoReturn

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from config.celery import app
from config.queues import DOCUMENTS
from config.queues import STEPS as STEPS_QUEUE
from pipeline.accounts.models import Partner
from pipeline.core import shutdown
from pipeline.core.errors import ChannelUnavailable, DatabaseBusy, Fenced, RendererCrashed, StepFailed
from pipeline.core.failpoints import hooks
from pipeline.core.leases import LEASE_RENEWER
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.streams import sender
from pipeline.deliveries.streams.streams import StreamLease
from pipeline.workflow.engine import run_step
from pipeline.workflow.step_transaction import RENDERER, Committed
from pipeline.workflow.steps import STEPS, STEPS_BY_NAME, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.conftest import SERVERS
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.deliveries import assert_all_delivered_once, read_deliveries, set_channel


def test_one_worker_runs_all_steps_of_an_export_that_is_sent_to_queues(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert sorted(result.completed) == sorted(spec.name for spec in STEPS)
    assert not result.halted
    assert workflow.state(export_id) == "executed"
    assert result.tasks == ()
    assert read_deliveries(workflow, export_id) == {
        "customs_broker": ["delivered"],
        "warehouse": ["delivered", "delivered"],
        "operator": ["delivered"],
    }
    assert workflow.events(export_id)[-5:] == [
        "HANDED_OFF",
        "BROKER_NOTIFIED",
        "WAREHOUSE_NOTIFIED",
        "EXPORT_EXECUTED",
        "OPERATOR_NOTIFIED",
    ]


def test_last_unit_continues_with_the_handoff(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    first = run_step(workflow.runtime, export_id, 2, "record_packages")
    assert first.completed == ("record_packages", "attach_customs", "render_documents", "close_unit")
    assert workflow.state(export_id) == "executing"
    assert "hand_off" in run_step(workflow.runtime, export_id, 1, "record_packages").completed
    assert workflow.state(export_id) == "executed"


def test_worker_leaves_documents_to_their_task_while_the_renderer_is_in_use(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    with RENDERER, ThreadPoolExecutor(1) as other:
        result = other.submit(run_step, workflow.runtime, export_id, 1, "record_packages").result(timeout=30)
    assert (result.completed, result.halted) == (("record_packages", "attach_customs"), False)
    assert workflow.step_states(export_id)[1, "render_documents"] == "ready"
    assert RENDERER.acquire(blocking=False), "nobody holds it any more"
    RENDERER.release()
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
    calls: list[tuple[object, ...]] = []

    def run(_: object, *given: object, redelivered: bool, renders: bool) -> Committed:
        calls.append((*given, redelivered, renders))
        return Committed(halted=True)

    monkeypatch.setattr("tasks.steps.engine.run_step", run)
    monkeypatch.setattr("tasks.steps.process_runtime", lambda: workflow.runtime)
    monkeypatch.setattr(app.amqp.queues, "_consume_from", {queue: None})  # as `-Q` does
    for name in STEPS_BY_NAME:
        app.tasks[f"exports.{name}"]("exp_1", 1)
    assert calls == [("exp_1", 1, name, False, queue == DOCUMENTS) for name in STEPS_BY_NAME]


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

    def fail_all(*_: object) -> NoReturn:
        raise Fenced

    def fail_broker(runtime: object, context: object, audience: str) -> object:
        if audience == "customs_broker":
            raise RendererCrashed("a test refuses it")
        return notify(runtime, context, audience)  # type: ignore[arg-type]

    monkeypatch.setattr(sender, "send_held", fail_all)
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

    def stop(*_: object) -> NoReturn:
        shutdown.request()
        raise Fenced

    monkeypatch.setattr(sender, "send_held", stop)
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


def test_worker_that_stops_sends_what_it_holds(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = workflow.accept().export_id
    monkeypatch.setitem(hooks, "hand_off.mid", shutdown.request)
    try:
        result = run_step(workflow.runtime, export_id, 1, "record_packages")
    finally:
        shutdown.reset()
    assert workflow.state(export_id) == "executed"
    assert result.tasks == ()
    # It ends each stream after the message that it is sending. The others are due at once.
    assert read_deliveries(workflow, export_id)["warehouse"] == ["delivered", "pending"]
    sender.deliver_stream(workflow.runtime, export_id, factories.WAREHOUSE, "queue")
    assert_all_delivered_once(workflow, export_id)


def test_result_of_held_streams_is_recorded_when_the_database_can_be_written_again(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    tries: list[int] = []

    def refuse_once() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise DatabaseBusy("a test refuses it")

    monkeypatch.setattr(sender, "RECORD_RETRY_SECONDS", 0)
    monkeypatch.setitem(hooks, "notify_warehouse.mid", refuse_once)
    assert run_step(workflow.runtime, export_id, 1, "record_packages").completed[-1] == "notify_warehouse"
    assert tries == [0, 1]
    assert_all_delivered_once(workflow, export_id)


def test_message_broker_that_fails_delays_the_messages_but_not_the_end_of_the_export(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    tried: list[int] = []

    def refuse(*_: object) -> NoReturn:
        tried.append(len(tried))
        raise ChannelUnavailable("a test refuses it")

    with monkeypatch.context() as patched:
        patched.setattr(QueueChannel, "send", refuse)
        run_step(workflow.runtime, export_id, 1, "record_packages")
    assert workflow.state(export_id) == "executed"
    assert tried == [0, 1], "one attempt for broker and warehouse together, one for the operator"
    attempted = workflow.rows(select(col(Delivery.audience)).where(col(Delivery.attempts) > 0))
    assert sorted(attempted) == ["customs_broker", "operator"]
    workflow.clock.pass_seconds(3600)
    for task in find_due(workflow.runtime):
        sender.deliver_stream(workflow.runtime, export_id, str(task.partner_id), str(task.channel))
    assert {state for states in read_deliveries(workflow, export_id).values() for state in states} == {"delivered"}


def test_steps_stay_leased_while_their_messages_are_sent(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    send, renewed = sender.send_held, set[str | None]()

    def look(runtime: Runtime, held: Iterable[StreamLease]) -> list[sender.Sending]:
        renewed.update(lease.log_fields.get("step") for lease in LEASE_RENEWER._leases)
        return send(runtime, held)

    monkeypatch.setattr(sender, "send_held", look)
    run_step(workflow.runtime, export_id, 1, "record_packages")
    assert {"notify_broker", "notify_warehouse"} <= renewed


@pytest.mark.parametrize("point", ["hand_off.after", "delivery.before", "delivery.sent", "notify_warehouse.mid"])
def test_messages_of_a_lost_worker_are_sent_after_the_lease(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    export_id = workflow.accept().export_id

    def die() -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(hooks, point, die)
        with pytest.raises(KeyboardInterrupt):
            run_step(workflow.runtime, export_id, 1, "record_packages")
    assert workflow.state(export_id) == "executing"
    assert find_due(workflow.runtime) == []
    for partner_id in (factories.BROKER, factories.WAREHOUSE):
        report = sender.deliver_stream(workflow.runtime, export_id, partner_id, "queue")
        assert report.delivered == 0, "the worker's lease has not expired"
    for _ in range(3):
        workflow.clock.pass_seconds(3600)
        for task in find_due(workflow.runtime):
            if task.step is None:
                sender.deliver_stream(workflow.runtime, export_id, str(task.partner_id), str(task.channel))
            else:
                run_step(workflow.runtime, export_id, task.unit_no, task.step)
    assert workflow.state(export_id) == "executed"
    assert_all_delivered_once(workflow, export_id)


@pytest.mark.parametrize("reason", ["paused", "many"])
def test_stream_that_cannot_be_sent_at_once_is_not_held(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    export_id = workflow.accept().export_id
    if reason == "paused":
        with workflow.runtime.db.write() as session:
            session.get_one(Partner, (factories.ACCOUNT, factories.WAREHOUSE)).state = "paused"
    else:
        small = workflow.runtime.settings.model_copy(update={"delivery_batch": 1})
        monkeypatch.setattr(workflow, "runtime", replace(workflow.runtime, settings=small))
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert result.completed[-2:] == ("hand_off", "notify_operator")
    workflow.run(list(result.tasks))
    assert workflow.state(export_id) == "executed"
    delivered = "pending" if reason == "paused" else "delivered"
    assert read_deliveries(workflow, export_id)["warehouse"] == [delivered] * 2


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
    workflow: WorkflowHarness, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id

    def let_other_finish() -> None:
        monkeypatch.delitem(hooks, "record_packages.before")
        assert workflow.step(export_id, 1, "record_packages", redelivered=True) == ("record_packages", "attach_customs")

    monkeypatch.setitem(hooks, "record_packages.before", let_other_finish)
    assert workflow.step(export_id, 1, "record_packages") == ()
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED", "PACKAGES_RECORDED", "TREATMENT_ATTACHED"]


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=SERVERS)], indirect=True)
def test_statements_of_an_export_stay_prepared(workflow: WorkflowHarness, database_url: str) -> None:
    """PostgreSQL would take longer to plan them for each export than to execute them."""
    for number in range(8):
        export_id = workflow.accept(factories.plan(batch=f"batch_{number}")).export_id
        workflow.run([TaskMessage(export_id, 1, "record_packages")])
        assert workflow.state(export_id) == "executed"
    with workflow.runtime.db.read() as session:
        prepared = session.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
    assert prepared >= 30
