"""Ready means that due work makes progress: a stalled part is reported within a minute, a waiting one is not."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlmodel import col

from pipeline.accounts import partners
from pipeline.core import heartbeats
from pipeline.core.db import database_now
from pipeline.core.errors import ChannelUnavailable, RendererCrashed, StoreUnavailable
from pipeline.deliveries import resend
from pipeline.deliveries.channels.protocol import DeliveryReceipt
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import attempts, sender, streams
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.exports.models import Step
from pipeline.ops import readiness
from pipeline.ops.queue_samples import sample_queues
from pipeline.workflow.engine import run_step
from pipeline.workflow.step_failures import MAX_RETRY_PAUSE_SECONDS
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.conftest import SERVERS
from tests.support import factories
from tests.support.query_counter import record_plans, searches
from tests.support.task_by_task import task_by_task
from tests.system.faults.matrix import mark_own_stack
from tests.workflow.conftest import WorkflowHarness

_QUEUE_FIRST_STEPS = """
INSERT INTO steps (export_id, unit_no, name, position, state, fence, attempts, due_at)
SELECT export_id, unit_no + n, name, position, state, fence, attempts, due_at FROM steps, generate_series(1, 5000) n
WHERE name = 'record_packages' AND state = 'ready'
"""
STALLED_AFTER = readiness.STALLED_AFTER_SECONDS


def list_failing_parts(workflow: WorkflowHarness) -> list[str]:
    return [part.name for part in readiness.check_parts(workflow.runtime) if not part.ok]


def read_delays(workflow: WorkflowHarness) -> dict[str, int]:
    """Return for how many seconds the oldest work of each queue is late, without zeros."""
    with workflow.runtime.db.read() as session:
        samples = sample_queues(session, workflow.clock.now)
    return {queue: sample.seconds_late for queue, sample in samples.items() if sample.seconds_late}


def sweep_for(workflow: WorkflowHarness, seconds: int) -> list[TaskMessage]:
    """Sweep every two seconds while no worker takes a message; return the tasks of the last sweep that found any.

    Sweeps that would find nothing are left out: a step or delivery is found only once its time or a lease has passed.
    """
    tasks: list[TaskMessage] = []
    next_instant = workflow.clock.now
    for left in range(seconds - 2, -1, -2):
        workflow.clock.pass_seconds(2)
        if left == 0 or workflow.clock.now >= next_instant:
            tasks = find_due(workflow.runtime) or tasks
            next_instant = read_next_instant(workflow)
    return tasks


def read_next_instant(workflow: WorkflowHarness) -> datetime:
    """Return when the next step or delivery becomes due or loses its lease."""
    columns = [col(Step.due_at), col(Step.lease_until), col(Delivery.due_at), col(Delivery.lease_until)]
    with workflow.runtime.db.read() as session:
        instants = [session.scalar(select(func.min(at)).where(at > database_now())) for at in columns]
    return min((at for at in instants if at is not None), default=datetime.max.replace(tzinfo=UTC))


def hand_off(workflow: WorkflowHarness) -> str:
    """Return an export that has been handed off and has sent no message."""
    export_id = workflow.accept().export_id
    tasks = [TaskMessage(export_id, 1, "record_packages"), TaskMessage(export_id, 1, "render_documents")]
    while tasks:
        task = tasks.pop(0)
        assert task.step is not None
        with task_by_task():
            tasks += run_step(workflow.runtime, export_id, task.unit_no, task.step).tasks
        tasks = [
            each for each in tasks if each.step in {"record_packages", "render_documents", "close_unit", "hand_off"}
        ]
    run_step(workflow.runtime, export_id, 0, "hand_off")
    return export_id


def make_pending_for_warehouse(workflow: WorkflowHarness) -> str:
    """Return an export whose steps are done, with pending deliveries only to the warehouse."""
    export_id = hand_off(workflow)
    workflow.change(
        update(Step).where(col(Step.name).in_(NOTIFY_STEPS)).values(state="done", due_at=None),
        update(Delivery).where(col(Delivery.partner_id) == factories.BROKER).values(state="cancelled"),
    )
    return export_id


def make_pending_for_hour(workflow: WorkflowHarness) -> None:
    """Create steps and deliveries that have been due for an hour."""
    hand_off(workflow)
    workflow.accept(factories.plan(batch="later"))
    with workflow.runtime.db.write() as session:
        for model in (Step, Delivery):
            session.execute(update(model).where(col(model.due_at).is_not(None)).values(due_at=database_now(-3600)))


def test_progress_checks_use_indexes(workflow: WorkflowHarness, database_url: str) -> None:
    """Anyone who reaches the port can ask this, while much work waits, of tables that grow for years."""
    make_pending_for_hour(workflow)
    with record_plans(workflow.runtime.db) as plans:
        list_failing_parts(workflow)
    assert searches(plans, "ix_steps_finished_at", "finished_at >"), plans
    assert searches(plans, "ix_attempts_at", "at >"), plans


def test_check_parts_reads_only_due_rows(workflow: WorkflowHarness, database_url: str) -> None:
    make_pending_for_hour(workflow)
    with record_plans(workflow.runtime.db) as plans:
        assert "sweep" in list_failing_parts(workflow)
    for table in ("steps", "deliveries"):
        assert searches(plans, f"ix_{table}_due_at", "due_at <="), plans
        # Of the other deliveries of a stream, which the query plan calls by another name, only those few are read.
        whole = rf"ix_{table}_due_at on {table}  .*\n(?! +Index Cond: .*due_at <=)"
        read = rf"SCAN {table}(?! USING INDEX ix_steps_retrying)|Seq Scan on {table}|{whole}"
        assert not re.search(read, "\n".join(plans)), plans


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=SERVERS)], indirect=True)
def test_first_steps_of_queued_exports_are_not_read_for_later_steps(
    workflow: WorkflowHarness, database_url: str
) -> None:
    workflow.accept()
    workflow.change(
        text(_QUEUE_FIRST_STEPS),
        update(Step).where(col(Step.due_at).is_not(None)).values(due_at=database_now(-3600)),
        text("ANALYZE steps"),
    )
    with record_plans(workflow.runtime.db) as plans:
        assert "steps" in list_failing_parts(workflow)
    assert searches(plans, "ix_steps_due_later", "due_at <="), plans
    assert STEPS[0].name == "record_packages"


def test_idle_service_is_ready_however_long_it_is_idle(workflow: WorkflowHarness) -> None:
    workflow.clock.pass_seconds(10**6)
    assert list_failing_parts(workflow) == []


@mark_own_stack("F33")
def test_missing_workers_are_reported_within_a_minute(workflow: WorkflowHarness) -> None:
    workflow.accept()
    workflow.clock.pass_seconds(STALLED_AFTER - 12)
    assert list_failing_parts(workflow) == []
    workflow.clock.pass_seconds(12)
    assert list_failing_parts(workflow) == ["sweep", "steps"]


@mark_own_stack("F34")
def test_consumer_that_takes_nothing_is_reported_although_its_worker_sweeps(workflow: WorkflowHarness) -> None:
    workflow.accept()
    sweep_for(workflow, STALLED_AFTER - 2)
    assert list_failing_parts(workflow) == []
    tasks = sweep_for(workflow, 12)
    assert list_failing_parts(workflow) == ["steps"]
    assert read_delays(workflow) == {"exports.steps": 60}
    workflow.run(tasks)
    assert list_failing_parts(workflow) == []
    assert read_delays(workflow) == {}


@pytest.mark.parametrize(
    ("queue", "packages", "begun"), [("exports.documents", 3, ["record_packages"]), ("exports.large", 98, [])]
)
def test_queue_without_consumer_is_reported_while_others_progress(
    workflow: WorkflowHarness, queue: str, packages: int, begun: list[str]
) -> None:
    stuck, *others = (workflow.accept(factories.plan(1, 3, packages, batch=name)).export_id for name in "ABC")
    for export_id, name in product((stuck, *others), begun):
        workflow.step(export_id, 1, name)
    sweep_for(workflow, STALLED_AFTER + 12)
    workflow.step(workflow.accept(factories.plan(batch="batch_2")).export_id, 1, "record_packages")
    (part,) = [part for part in readiness.check_parts(workflow.runtime) if not part.ok]
    assert (part.name, f"consumes {queue}," in part.message) == ("steps", True), part
    assert read_delays(workflow) == {queue: 62}
    workflow.step(stuck, 1, "render_documents" if begun else "record_packages")
    assert list_failing_parts(workflow) == [], "a long queue with progress is ready"


def test_large_unit_that_takes_longer_than_a_minute_is_progress(workflow: WorkflowHarness) -> None:
    held, _ = (workflow.accept(factories.plan(1, 3, 98, batch=name)).export_id for name in ("held", "waiting"))
    sweep_for(workflow, STALLED_AFTER + 12)
    assert claim_step(workflow.runtime, held, 1, STEPS[0].name) is not None
    assert list_failing_parts(workflow) == []
    workflow.clock.pass_seconds(workflow.runtime.settings.lease_seconds)
    assert list_failing_parts(workflow) == ["steps"]


def test_stalled_notify_steps_are_reported_while_documents_are_rendered(workflow: WorkflowHarness) -> None:
    hand_off(workflow)
    workflow.change(update(Delivery).where(col(Delivery.state) == "pending").values(due_at=None))
    sweep_for(workflow, STALLED_AFTER + 12)
    other = workflow.accept(factories.plan(batch="batch_2")).export_id
    for name in ("record_packages", "render_documents"):
        workflow.step(other, 1, name)
    assert list_failing_parts(workflow) == ["deliveries"]


def test_stalled_steps_are_reported_while_messages_are_sent(workflow: WorkflowHarness) -> None:
    notified_export = hand_off(workflow)
    workflow.clock.pass_seconds(STALLED_AFTER + 1)
    workflow.accept(factories.plan(batch="batch_2"))
    sweep_for(workflow, STALLED_AFTER + 12)
    assert sender.deliver_stream(workflow.runtime, notified_export, factories.WAREHOUSE, "queue").delivered == 2
    assert list_failing_parts(workflow) == ["steps"]


def test_stalled_deliveries_are_reported_while_steps_finish(workflow: WorkflowHarness) -> None:
    hand_off(workflow)
    sweep_for(workflow, STALLED_AFTER + 12)
    workflow.step(workflow.accept(factories.plan(batch="batch_2")).export_id, 1, "record_packages")
    assert list_failing_parts(workflow) == ["deliveries"]
    assert read_delays(workflow) == {"exports.deliveries": 62}


def test_deliveries_to_paused_partner_are_not_stalled(workflow: WorkflowHarness) -> None:
    export_id = hand_off(workflow)
    for partner_id in (factories.BROKER, factories.WAREHOUSE):
        partners.pause_partner(workflow.runtime, factories.ACCOUNT, partner_id)
    for name in ("notify_broker", "notify_warehouse", "notify_operator"):
        workflow.step(export_id, 0, name)
    workflow.change(update(Delivery).where(col(Delivery.audience) == "operator").values(state="cancelled"))
    sweep_for(workflow, 5 * STALLED_AFTER)
    workflow.clock.pass_seconds(STALLED_AFTER)
    assert list_failing_parts(workflow) == []
    assert read_delays(workflow) == {}


def test_steps_of_failed_export_are_not_late(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    workflow.fail_rendering(export_id)
    assert (workflow.state(export_id), workflow.read_step(export_id, "record_packages", 2).state) == ("failed", "ready")
    sweep_for(workflow, STALLED_AFTER)
    assert read_delays(workflow).keys() == {"exports.deliveries"}, "the operator is still to hear of the failure"


def postpone_after_found_due(workflow: WorkflowHarness) -> None:
    """Let a sweep find a stream due, and its sender then postpone the first message by ten minutes."""
    stream = DeliveryStream(make_pending_for_warehouse(workflow), factories.WAREHOUSE, "queue")
    claimed = streams.claim_stream(workflow.runtime, stream)
    assert claimed is not None
    assert len(claimed.deliveries) == 2
    sweep_for(workflow, 40)
    later = ChannelUnavailable("no room", retry_after_seconds=600)
    assert attempts.record_attempts(workflow.runtime, claimed, attempts.SendResult([], [1], later)).retried


def test_delivery_that_waits_for_its_retry_is_not_stalled(workflow: WorkflowHarness) -> None:
    postpone_after_found_due(workflow)
    workflow.clock.pass_seconds(601)
    assert "deliveries" not in list_failing_parts(workflow)
    sweep_for(workflow, STALLED_AFTER + 12)
    assert "deliveries" in list_failing_parts(workflow), "no worker took the delivery after its retry time"


def test_delivery_behind_one_that_waits_for_its_retry_is_not_stalled(workflow: WorkflowHarness) -> None:
    postpone_after_found_due(workflow)
    with workflow.runtime.db.write() as session:
        behind = (col(Delivery.state) == "pending", col(Delivery.error).is_(None))
        session.execute(update(Delivery).where(*behind).values(due_at=database_now()))
    sweep_for(workflow, 598)
    assert read_delays(workflow) == {}
    sweep_for(workflow, 4)
    assert "deliveries" not in list_failing_parts(workflow)


def test_requeued_delivery_is_not_stalled(workflow: WorkflowHarness) -> None:
    stream = DeliveryStream(make_pending_for_warehouse(workflow), factories.WAREHOUSE, "queue")
    claimed = streams.claim_stream(workflow.runtime, stream)
    assert claimed is not None
    sweep_for(workflow, 40)
    attempts.record_attempts(
        workflow.runtime, claimed, attempts.SendResult([DeliveryReceipt("published")] * 2, [1, 1], None)
    )
    workflow.clock.pass_seconds(3600)
    resend.resend_delivery(workflow.runtime, factories.ACCOUNT, claimed.deliveries[0].id, "key_1")
    assert "deliveries" not in list_failing_parts(workflow)


def make_documents_pending(workflow: WorkflowHarness) -> str:
    """Return an export whose next step is to render documents."""
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    return export_id


def list_document_attempts(workflow: WorkflowHarness) -> int:
    return workflow.one(select(col(Step.attempts)).where(col(Step.name) == "render_documents"))


@pytest.mark.system
@pytest.mark.pdf_engine
def test_pdf_engine_that_does_not_start_is_reported_as_outage(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = make_documents_pending(workflow)
    RENDERER.close()
    with monkeypatch.context() as patch:
        patch.setattr(RENDERER, "_engine", "pipeline.documents.none")
        assert workflow.step(export_id, 1, "render_documents") == ()
        assert list_failing_parts(workflow) == [], "the outage may be short"
        for _ in range(workflow.runtime.settings.step_max_attempts):
            workflow.clock.pass_seconds(MAX_RETRY_PAUSE_SECONDS)
            assert workflow.step(export_id, 1, "render_documents") == ()
        (part,) = [part for part in readiness.check_parts(workflow.runtime) if not part.ok]
    assert part.name == "outage"
    assert part.message == (
        "1 steps (render_documents) have failed for 60 s because something that they need does not answer; run `exports doctor`"
        " where the workers run: it checks the artifact store and the PDF engine"
    )
    assert (list_document_attempts(workflow), workflow.state(export_id)) == (0, "executing")
    workflow.finish(export_id)
    assert (workflow.state(export_id), list_failing_parts(workflow)) == ("executed", [])


def test_store_outage_is_reported_unless_other_documents_are_rendered(workflow: WorkflowHarness) -> None:
    export_id = make_documents_pending(workflow)
    workflow.store.error_on_put = StoreUnavailable("no room")
    assert workflow.step(export_id, 1, "render_documents") == ()
    workflow.clock.pass_seconds(STALLED_AFTER)
    assert workflow.step(export_id, 1, "render_documents") == ()
    assert list_failing_parts(workflow) == ["outage"]
    workflow.store.error_on_put = None
    other = workflow.accept(factories.plan(batch="batch_2")).export_id
    for name in ("record_packages", "render_documents"):
        workflow.step(other, 1, name)
    assert list_failing_parts(workflow) == [], "another worker reaches the store"


def test_plan_that_crashes_the_pdf_engine_is_not_an_outage(workflow: WorkflowHarness) -> None:
    export_id = make_documents_pending(workflow)
    workflow.store.error_on_put = RendererCrashed("the PDF engine died of SIGSEGV")
    for _ in range(workflow.runtime.settings.step_max_attempts - 1):
        assert workflow.step(export_id, 1, "render_documents") == ()
        assert list_failing_parts(workflow) == []
        workflow.clock.pass_seconds(MAX_RETRY_PAUSE_SECONDS)
    assert workflow.step(export_id, 1, "render_documents") == ()
    assert (workflow.state(export_id), list_failing_parts(workflow)) == ("failed", [])


def test_intake_without_heartbeat_is_reported_unless_it_ended_on_request(workflow: WorkflowHarness) -> None:
    settings = workflow.runtime.settings.model_copy(update={"broker_url": SecretStr("amqp://127.0.0.1:1//")})
    runtime = replace(workflow.runtime, settings=settings)
    (part,) = [part for part in readiness.check_parts(runtime) if part.name == "intake"]
    assert (part.ok, part.message) == (True, "no heartbeat is missing"), "an installation may run without an intake"
    heartbeats.expect(runtime, heartbeats.INTAKE)
    workflow.clock.pass_seconds(STALLED_AFTER - 1)
    heartbeats.expect(runtime, heartbeats.INTAKE)
    assert [part for part in readiness.check_parts(runtime) if not part.ok] == []
    workflow.clock.pass_seconds(1)
    (part,) = [part for part in readiness.check_parts(runtime) if not part.ok]
    assert part.name == "intake"
    assert "no heartbeat came through the message broker for 60 s; check that `intake` runs" in part.message
    assert list_failing_parts(workflow) == [], "the embedded service has no separate intake"
    heartbeats.record(runtime, heartbeats.INTAKE)
    assert [part for part in readiness.check_parts(runtime) if not part.ok] == []
    workflow.clock.pass_seconds(STALLED_AFTER)
    heartbeats.forget(runtime, heartbeats.INTAKE)
    assert [part for part in readiness.check_parts(runtime) if not part.ok] == []
