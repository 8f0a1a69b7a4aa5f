"""Every step takes effect once, even if messages are lost or repeated and workers die."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

from pipeline.core import shutdown
from pipeline.core.db import database_now
from pipeline.core.errors import (
    DatabaseBusy,
    ExportsError,
    InvalidState,
    NotFound,
    RendererCrashed,
    RendererUnavailable,
    StoreUnavailable,
)
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.exports import events
from pipeline.exports.models import Artifact, ExportPackage, LineTreatment, Step
from pipeline.ops import readiness
from pipeline.ops.rebuild import service
from pipeline.workflow import read_model
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.step_failures import MAX_RETRY_PAUSE_SECONDS
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.documents.samples import list_kinds
from tests.support import factories
from tests.system.faults.matrix import mark_own_stack
from tests.workflow.conftest import WorkflowHarness

#: The number of documents of a plan's unit.
DOCUMENTS = len(list_kinds(factories.plan()["units"][0]))
UNIT_STEPS = [spec.name for spec in STEPS if spec.per_unit]


@pytest.mark.pdf_engine
def test_run_step_executes_export(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages", "attach_customs")
    rendered = ("render_documents", "close_unit", "hand_off", "notify_operator")
    assert workflow.step(export_id, 1, "render_documents") == rendered
    assert workflow.state(export_id) == "executing"
    for name in ("notify_broker", "notify_warehouse"):
        assert workflow.step(export_id, 0, name) == (name,)
    assert workflow.state(export_id) == "executed"
    assert set(workflow.step_states(export_id).values()) == {"done"}
    happened = Counter(workflow.events(export_id))
    assert happened == {
        "EXPORT_ACCEPTED": 1,
        "PACKAGES_RECORDED": 1,
        "TREATMENT_ATTACHED": 1,
        "CUSTOMS_ARTIFACT_GENERATED": DOCUMENTS,
        "CUSTOMS_PACKAGE_CLOSED": 1,
        "HANDED_OFF": 1,
        "BROKER_NOTIFIED": 1,
        "WAREHOUSE_NOTIFIED": 1,
        "EXPORT_EXECUTED": 1,
    }


def test_run_step_on_done_step_does_nothing(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    before = workflow.events(export_id)
    for _ in range(3):
        assert workflow.step(export_id, 1, "record_packages") == ()
    assert workflow.events(export_id) == before
    assert workflow.count(ExportPackage) == 2


@pytest.mark.parametrize("name", [*UNIT_STEPS[2:], "hand_off", *NOTIFY_STEPS])
def test_run_step_on_waiting_step_does_nothing(workflow: WorkflowHarness, name: str) -> None:
    export_id = workflow.accept().export_id
    unit_no = 1 if name in UNIT_STEPS else 0
    assert run_step(workflow.runtime, export_id, unit_no, name).halted
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED"]
    assert workflow.count(Artifact) == workflow.count(Notification) == 0


def test_task_messages_in_any_order_and_number_give_the_same_result(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=3)).export_id
    tasks = [TaskMessage(export_id, no, name) for no in (1, 2, 3) for name in UNIT_STEPS] * 3
    tasks += [TaskMessage(export_id, 0, name) for name in ("hand_off", *NOTIFY_STEPS)] * 3
    shuffled = random.Random(7)  # noqa: S311 - must be repeatable
    for _ in range(8):
        shuffled.shuffle(tasks)
        for task in tasks:
            run_step(workflow.runtime, task.export_id, task.unit_no, str(task.step))
    assert workflow.state(export_id) == "executed"
    assert workflow.count(ExportPackage) == 6
    assert workflow.count(LineTreatment) == 9
    assert workflow.count(Artifact) == 3 * DOCUMENTS
    assert workflow.count(BrokerSubmission) == 1
    assert Counter(workflow.events(export_id))["HANDED_OFF"] == 1


def test_concurrent_workers_run_each_step_once(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = workflow.accept(factories.plan(units=4)).export_id
    completed: list[tuple[int, str]] = []
    barrier = threading.Barrier(8)

    def run(unit_no: int, name: str) -> None:
        done = run_step(workflow.runtime, export_id, unit_no, name).completed
        completed.extend((unit_no if step in UNIT_STEPS else 0, step) for step in done)

    def work() -> None:
        barrier.wait()
        for _ in range(3):
            for unit_no in (1, 2, 3, 4):
                for name in UNIT_STEPS:
                    run(unit_no, name)
            for name in NOTIFY_STEPS:
                run(0, name)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"
    counts = Counter(completed)
    assert {step for step, count in counts.items() if count > 1} == set()
    assert workflow.count(ExportPackage) == 8
    assert workflow.count(Artifact) == 4 * DOCUMENTS
    assert Counter(workflow.events(export_id))["EXPORT_EXECUTED"] == 1


@mark_own_stack("F18")
def test_claim_step_by_sixteen_threads_gives_each_step_one_holder(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = workflow.accept(factories.plan(units=50)).export_id
    together = threading.Barrier(16)
    won: list[int] = []

    def race() -> None:
        together.wait()
        won.extend(
            unit_no
            for unit_no in range(1, 51)
            if claim_step(workflow.runtime, export_id, unit_no, UNIT_STEPS[0]) is not None
        )

    racers = [threading.Thread(target=race) for _ in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(won) == [*range(1, 51)]


def test_export_with_steps_of_another_version_is_not_run(workflow: WorkflowHarness) -> None:
    """Neither with additional nor with missing steps, of a unit or of the export."""
    exports = [workflow.accept(factories.plan(batch=f"batch_{number}")).export_id for number in range(4)]
    with workflow.runtime.db.write() as session:
        session.add(Step(export_id=exports[0], unit_no=1, name="screen_parties", position=9, state="waiting"))
        session.add(Step(export_id=exports[1], unit_no=0, name="archive", position=9, state="waiting"))
        session.execute(delete(Step).where(col(Step.export_id) == exports[2], col(Step.name) == "close_unit"))
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    assert {task.export_id for task in find_due(workflow.runtime)} == {exports[3]}
    for export_id in exports[:3]:
        assert run_step(workflow.runtime, export_id, 1, "record_packages").halted
        assert workflow.events(export_id) == ["EXPORT_ACCEPTED"]
        assert workflow.state(export_id) == "accepted"
    workflow.finish(exports[3])
    workflow.clock.pass_seconds(readiness.STALLED_AFTER_SECONDS * 2)
    assert {task.step for task in find_due(workflow.runtime)} <= {None}
    left = {part.name: part.message for part in readiness.check_parts(workflow.runtime) if not part.ok}
    assert "steps have been due without progress" in left["steps"]


def test_sweep_publishes_lost_task_message_again(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    assert find_due(workflow.runtime) == []
    workflow.clock.pass_seconds(workflow.runtime.settings.stalled_seconds)
    assert set(find_due(workflow.runtime)) == {TaskMessage(export_id, no, "record_packages") for no in (1, 2)}
    assert find_due(workflow.runtime) == [], "work that was just published is not due"


def test_export_without_task_messages_is_executed_by_the_sweep(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    while tasks := workflow.sweep():
        for task in tasks:
            run_step(workflow.runtime, export_id, task.unit_no, str(task.step))  # its tasks are never sent
    assert workflow.state(export_id) == "executed"


@pytest.mark.parametrize("ended", [True, False])
def test_worker_without_lease_writes_nothing(workflow: WorkflowHarness, *, ended: bool) -> None:
    """The other worker has ended, or still works."""
    export_id, name = workflow.accept().export_id, "render_documents"
    workflow.step(export_id, 1, "record_packages")

    def put_after_lease_expired(bodies: Sequence[bytes]) -> list[str]:
        # Another worker claims the step while this one renders, because its lease has expired.
        del workflow.store.put_all
        workflow.clock.pass_seconds(workflow.runtime.settings.lease_seconds + 1)
        if ended:
            assert workflow.step(export_id, 1, name) == (name, "close_unit", "hand_off")
        else:
            assert claim_step(workflow.runtime, export_id, 1, name)
        return workflow.store.put_all(bodies)

    workflow.store.put_all = put_after_lease_expired  # type: ignore[method-assign]
    assert workflow.step(export_id, 1, name) == ()
    assert workflow.count(Artifact) == DOCUMENTS * ended
    assert Counter(workflow.events(export_id))["HANDED_OFF"] == ended


@pytest.mark.parametrize(("ahead", "claims"), [(0, True), (1, False), (30, False), (31, True), (3600, True)])
def test_lease_holds_a_step_for_at_most_its_length(workflow: WorkflowHarness, ahead: float, *, claims: bool) -> None:
    """One further ahead was written before the database's clock was set back."""
    export_id = workflow.accept().export_id
    workflow.change(update(Step).where(col(Step.state) == "ready").values(lease_until=database_now(ahead)))
    assert (workflow.step(export_id, 1, "record_packages") != ()) is claims


def test_failed_attempt_is_retried_after_its_pause(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.store.refusals = 1
    assert workflow.step(export_id, 1, "render_documents") == ()
    assert workflow.events(export_id)[-1] == "STEP_RETRIED"
    assert workflow.step(export_id, 1, "render_documents") == (), "the pause is not over"
    workflow.clock.pass_seconds(workflow.runtime.settings.step_retry_seconds)
    assert "render_documents" in workflow.step(export_id, 1, "render_documents")
    assert workflow.count(Artifact) == DOCUMENTS


@pytest.mark.parametrize(
    ("outage", "tries"),
    [(StoreUnavailable("no room"), 20), (DatabaseBusy("away"), 3), (RendererUnavailable("it does not start"), 3)],
)
def test_outage_does_not_count_as_attempt(workflow: WorkflowHarness, outage: ExportsError, tries: int) -> None:
    settings = workflow.runtime.settings
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.store.error_on_put = outage
    assert workflow.step(export_id, 1, "render_documents") == ()
    pauses: list[float] = []
    for _ in range(tries):
        due_at = workflow.one(select(col(Step.due_at)).where(col(Step.name) == "render_documents"))
        assert due_at is not None
        pauses.append((due_at - workflow.clock.now).total_seconds())
        workflow.clock.pass_seconds(pauses[-1] - 1)
        assert [task for task in find_due(workflow.runtime) if task.step] == [], "the pause is not over"
        workflow.clock.pass_seconds(1)
        due = [task for task in find_due(workflow.runtime) if task.step]
        assert due == [TaskMessage(export_id, 1, "render_documents")]
        assert workflow.step(export_id, 1, "render_documents") == ()
    first = settings.step_retry_seconds
    assert pauses == [min(first * 2**number, MAX_RETRY_PAUSE_SECONDS) for number in range(tries)]
    with workflow.runtime.db.read() as session:
        row = session.scalars(select(Step).where(col(Step.name) == "render_documents")).one()
        view = read_model.read_export(session, factories.ACCOUNT, export_id)
    assert (row.state, row.attempts, row.error) == ("ready", 0, str(outage))
    assert (view.state, view.quarantined) == ("executing", False)
    assert view.status.endswith(f"attempt 1 of U1 failed and will be retried: {outage}")
    # A day of outage is a thousand tries; the log records only the 1st, 2nd, 4th, 8th, 16th.
    logged = (tries + 1).bit_length()
    assert workflow.events(export_id).count("STEP_RETRIED") == logged
    with workflow.runtime.db.read() as session:
        assert service.compare_export(session, export_id).intact
    workflow.store.error_on_put = RendererCrashed("the PDF engine died")
    workflow.finish(export_id)
    assert workflow.state(export_id) == "failed"
    assert workflow.events(export_id).count("STEP_RETRIED") == logged + settings.step_max_attempts - 1


@pytest.mark.parametrize("notice", [False, True])
def test_record_failure_waits_for_the_database(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, *, notice: bool
) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.store.refusals = 1
    pauses: list[float] = []
    real = events.lock_export

    def seldom(*arguments: Any) -> Any:
        if len(pauses) < 7:
            raise DatabaseBusy("away")
        return real(*arguments)

    monkeypatch.setattr("pipeline.workflow.step_failures.time.sleep", pauses.append)
    with monkeypatch.context() as patched:
        patched.setattr(events, "lock_export", seldom)
        patched.setattr(shutdown, "is_requested", lambda: notice)
        assert workflow.step(export_id, 1, "render_documents") == ()
    row = workflow.one(select(Step).where(col(Step.name) == "render_documents"))
    # A worker that is asked to stop does not wait; the sweep finds the step later.
    assert (len(pauses), row.attempts, row.error is None) == ((0, 1, True) if notice else (7, 0, False))
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"


def test_step_that_always_fails_fails_export_and_notifies_operator(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    workflow.fail_rendering(export_id)
    assert workflow.state(export_id) == "failed"
    assert workflow.events(export_id).count("STEP_RETRIED") == workflow.runtime.settings.step_max_attempts - 1
    assert workflow.events(export_id)[-1] == "EXPORT_FAILED"
    with workflow.runtime.db.read() as session:
        (notice,) = session.scalars(select(Notification)).all()
        (delivery,) = session.scalars(select(Delivery)).all()
    assert notice.event_type == "exports.export.failed.v1"
    assert (delivery.audience, delivery.state) == ("operator", "pending")
    assert [task for task in workflow.sweep() if task.step is not None] == [], "no step of a failed export is due"


def test_retry_of_failed_export_continues_at_the_failed_step(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    workflow.fail_rendering(export_id)
    tasks = retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    assert set(tasks) == {TaskMessage(export_id, 1, "render_documents"), TaskMessage(export_id, 2, "record_packages")}
    workflow.run(tasks)
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"
    assert workflow.count(ExportPackage) == 4


def test_step_whose_worker_always_dies_fails_export(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    for _ in range(workflow.runtime.settings.step_max_attempts):
        with workflow.runtime.db.write() as session:
            # The row after a claim if the process is killed right afterwards.
            session.execute(
                update(Step)
                .where(col(Step.export_id) == export_id, col(Step.name) == "record_packages")
                .values(attempts=col(Step.attempts) + 1, fence=col(Step.fence) + 1)
            )
    assert workflow.step(export_id, 1, "record_packages") == ()
    assert workflow.state(export_id) == "failed"
    assert workflow.count(ExportPackage) == 0


def test_cancelled_export_runs_no_step(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    workflow.step(export_id, 1, "record_packages")
    cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    assert workflow.state(export_id) == "cancelled"
    assert workflow.step(export_id, 1, "render_documents") == workflow.step(export_id, 2, "record_packages") == ()
    assert workflow.sweep() == []
    assert workflow.events(export_id)[-1] == "EXPORT_CANCELLED"
    assert workflow.count(Artifact) == 0


def test_cancel_after_handoff_is_refused(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.step(export_id, 1, "render_documents")
    before = workflow.events(export_id)
    with pytest.raises(InvalidState):
        cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    assert workflow.events(export_id) == before
    assert workflow.state(export_id) == "executing"


def test_retry_of_export_that_has_not_failed_is_refused(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    with pytest.raises(InvalidState):
        retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    with pytest.raises(NotFound):
        retry_export(workflow.runtime, "acc_other", export_id, "key_test")
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED"]
