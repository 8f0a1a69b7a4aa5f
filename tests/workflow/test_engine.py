"""Every step takes effect once, whatever happens to the messages and the workers."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

from pipeline.core import shutdown
from pipeline.core.errors import (
    DatabaseBusy,
    ExportsError,
    InvalidState,
    NotFound,
    PlanNotExecutable,
    RendererCrashed,
    RendererUnavailable,
    StoreUnavailable,
)
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.exports import events
from pipeline.exports.models import Artifact, Export, ExportPackage, LineTreatment, Step
from pipeline.ops import readiness
from pipeline.ops.rebuild import service
from pipeline.workflow import read_model as inspection_view
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.step_failures import MAX_RETRY_PAUSE_SECONDS
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS, STEPS_BY_NAME, TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.documents.samples import kinds_of
from tests.support import factories
from tests.system.faults.matrix import alone
from tests.workflow.conftest import House

#: How many documents the unit of a plan has.
DOCUMENTS = len(kinds_of(factories.plan()["units"][0]))
UNIT_STEPS = [spec.name for spec in STEPS if spec.per_unit]


def test_a_plan_becomes_an_executed_export(house: House) -> None:
    export_id = house.accept().export_id
    assert house.step(export_id, 1, "record_packages") == ("record_packages", "attach_customs")
    assert house.step(export_id, 1, "render_documents") == ("render_documents", "close_unit", "hand_off")
    assert house.state(export_id) == "executing"
    for name in NOTIFY_STEPS:
        assert house.step(export_id, 0, name) == (name,)
    assert house.state(export_id) == "executed"
    assert set(house.step_states(export_id).values()) == {"done"}
    happened = Counter(house.events(export_id))
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


def test_a_step_that_is_done_is_left_alone(house: House) -> None:
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")
    before = house.events(export_id)
    for _ in range(3):
        assert house.step(export_id, 1, "record_packages") == ()
    assert house.events(export_id) == before
    assert house.count(ExportPackage) == 2


@pytest.mark.parametrize("name", [*UNIT_STEPS[2:], "hand_off", *NOTIFY_STEPS])
def test_a_step_whose_turn_has_not_come_is_left_alone(house: House, name: str) -> None:
    export_id = house.accept().export_id
    unit_no = 1 if name in UNIT_STEPS else 0
    assert run_step(house.runtime, export_id, unit_no, name).halted
    assert house.events(export_id) == ["EXPORT_ACCEPTED"]
    assert house.count(Artifact) == house.count(Notification) == 0


def test_task_messages_in_any_order_and_number_come_to_the_same(house: House) -> None:
    export_id = house.accept(factories.plan(units=3)).export_id
    tasks = [TaskMessage(export_id, no, name) for no in (1, 2, 3) for name in UNIT_STEPS] * 3
    tasks += [TaskMessage(export_id, 0, name) for name in ("hand_off", *NOTIFY_STEPS)] * 3
    shuffled = random.Random(7)  # noqa: S311 - repeatable on purpose
    for _ in range(8):
        shuffled.shuffle(tasks)
        for task in tasks:
            run_step(house.runtime, task.export_id, task.unit_no, str(task.step))
    assert house.state(export_id) == "executed"
    assert house.count(ExportPackage) == 6
    assert house.count(LineTreatment) == 9
    assert house.count(Artifact) == 3 * DOCUMENTS
    assert house.count(BrokerSubmission) == 1
    assert Counter(house.events(export_id))["HANDED_OFF"] == 1


def test_many_workers_at_once_do_each_step_once(make_house: Callable[[str], House], database_url: str) -> None:
    house = make_house(database_url)
    export_id = house.accept(factories.plan(units=4)).export_id
    did: list[tuple[int, str]] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(3):
            for unit_no in (1, 2, 3, 4):
                for name in UNIT_STEPS:
                    did.extend((unit_no, step) for step in house.step(export_id, unit_no, name))
            for name in NOTIFY_STEPS:
                did.extend((0, step) for step in house.step(export_id, 0, name))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    house.finish(export_id)
    assert house.state(export_id) == "executed"
    made = Counter(did)
    assert {step for step, count in made.items() if count > 1} == set()
    assert house.count(ExportPackage) == 8
    assert house.count(Artifact) == 4 * DOCUMENTS
    assert Counter(house.events(export_id))["EXPORT_EXECUTED"] == 1


@alone("F18")
def test_of_sixteen_who_claim_the_same_two_hundred_steps_at_once_each_step_has_one_holder(
    make_house: Callable[[str], House], database_url: str
) -> None:
    house = make_house(database_url)
    export_id = house.accept(factories.plan(units=200)).export_id
    together = threading.Barrier(16)
    won: list[int] = []

    def race() -> None:
        together.wait()
        won.extend(
            unit_no
            for unit_no in range(1, 201)
            if claim_step(
                house.runtime, export_id, unit_no, UNIT_STEPS[0], starts_export=True, step_names=STEPS_BY_NAME
            )
            is not None
        )

    racers = [threading.Thread(target=race) for _ in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(won) == [*range(1, 201)]


def test_export_with_steps_of_another_version_is_left_to_it(house: House) -> None:
    """Neither more steps than are known here, nor fewer, and neither for the unit nor for the export."""
    exports = [house.accept(factories.plan(batch=f"batch_{number}")).export_id for number in range(4)]
    with house.runtime.db.write() as session:
        session.add(Step(export_id=exports[0], unit_no=1, name="screen_parties", position=9, state="waiting"))
        session.add(Step(export_id=exports[1], unit_no=0, name="archive", position=9, state="waiting"))
        session.execute(delete(Step).where(col(Step.export_id) == exports[2], col(Step.name) == "close_unit"))
    house.clock.pass_seconds(house.runtime.settings.stalled_seconds)
    assert {task.export_id for task in find_due(house.runtime)} == {exports[3]}
    for export_id in exports[:3]:
        assert run_step(house.runtime, export_id, 1, "record_packages").halted
        assert house.events(export_id) == ["EXPORT_ACCEPTED"]
        assert house.state(export_id) == "accepted"
    house.finish(exports[3])
    house.clock.pass_seconds(readiness.STALLED_AFTER_SECONDS * 2)
    assert {task.step for task in find_due(house.runtime)} <= {None}
    left = {part.name: part.message for part in readiness.check_parts(house.runtime) if not part.ok}
    assert "3 have been due and nothing moved" in left["steps"]


def test_a_lost_task_message_is_published_again_by_the_sweep(house: House) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    assert find_due(house.runtime) == []
    house.clock.pass_seconds(house.runtime.settings.stalled_seconds)
    assert set(find_due(house.runtime)) == {TaskMessage(export_id, no, "record_packages") for no in (1, 2)}
    assert find_due(house.runtime) == [], "what was owed a moment ago is under way"


def test_an_export_whose_every_message_is_lost_is_still_executed(house: House) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    while tasks := house.sweep():
        for task in tasks:
            run_step(house.runtime, export_id, task.unit_no, str(task.step))  # what it opens is never sent
    assert house.state(export_id) == "executed"


def test_a_worker_that_lost_its_lease_writes_nothing(house: House) -> None:
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")

    def overtaken(body: bytes) -> str:
        # Another worker claims the step while this one is busy rendering: its lease has run out meanwhile.
        del house.store.put
        house.clock.pass_seconds(house.runtime.settings.lease_seconds + 1)
        assert house.step(export_id, 1, "render_documents") == ("render_documents", "close_unit", "hand_off")
        return house.store.put(body)

    house.store.put = overtaken  # type: ignore[method-assign]
    assert house.step(export_id, 1, "render_documents") == ()
    assert house.count(Artifact) == DOCUMENTS
    assert Counter(house.events(export_id))["HANDED_OFF"] == 1


def test_a_held_step_is_not_given_to_a_second_worker(house: House) -> None:
    export_id = house.accept().export_id
    with house.runtime.db.write() as session:
        session.execute(
            update(Step)
            .where(col(Step.export_id) == export_id, col(Step.name) == "record_packages")
            .values(lease_until=house.clock.now.replace(hour=16))
        )
    assert house.step(export_id, 1, "record_packages") == ()
    house.clock.pass_seconds(3601)
    assert house.step(export_id, 1, "record_packages") != ()


def test_a_failed_attempt_is_put_off_and_made_later(house: House) -> None:
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")
    house.store.refusals = 1
    assert house.step(export_id, 1, "render_documents") == ()
    assert house.events(export_id)[-1] == "STEP_RETRIED"
    assert house.step(export_id, 1, "render_documents") == (), "not before its pause is over"
    house.clock.pass_seconds(house.runtime.settings.step_retry_seconds)
    assert "render_documents" in house.step(export_id, 1, "render_documents")
    assert house.count(Artifact) == DOCUMENTS


@pytest.mark.parametrize(
    "outage", [StoreUnavailable("no room"), DatabaseBusy("away"), RendererUnavailable("it does not start")]
)
def test_an_outage_is_no_attempt_however_long_it_lasts(house: House, outage: ExportsError) -> None:
    settings, tries = house.runtime.settings, 20
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")
    house.store.breaks_with = outage
    assert house.step(export_id, 1, "render_documents") == ()
    pauses: list[float] = []
    for _ in range(tries):
        began = house.clock.now
        while not (due := [task for task in find_due(house.runtime) if task.step]):
            house.clock.pass_seconds(1)
        pauses.append((house.clock.now - began).total_seconds())
        assert due == [TaskMessage(export_id, 1, "render_documents")]
        assert house.step(export_id, 1, "render_documents") == ()
    first = settings.step_retry_seconds
    assert pauses == [min(first * 2**number, MAX_RETRY_PAUSE_SECONDS) for number in range(tries)]
    with house.runtime.db.read() as session:
        row = session.scalars(select(Step).where(col(Step.name) == "render_documents")).one()
        view = inspection_view.read_export(session, factories.ACCOUNT, export_id)
    assert (row.state, row.attempts, row.error) == ("ready", 0, str(outage))
    assert (view.state, view.quarantined) == ("executing", False)
    assert view.status.endswith(f"attempt 1 of U1 failed and is repeated: {outage}")
    # A day of it is a thousand tries: the log tells of the 1st, 2nd, 4th, 8th, 16th.
    assert house.events(export_id).count("STEP_RETRIED") == 5
    with house.runtime.db.read() as session:
        assert service.compare_export(session, export_id).intact
    house.store.breaks_with = RendererCrashed("the PDF engine died")
    house.finish(export_id)
    assert house.state(export_id) == "failed"
    assert house.events(export_id).count("STEP_RETRIED") == 5 + settings.step_max_attempts - 1


@pytest.mark.parametrize("told", [False, True])
def test_a_database_that_is_away_when_a_failure_is_to_be_recorded_is_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch, *, told: bool
) -> None:
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")
    house.store.refusals = 1
    pauses: list[float] = []
    real = events.lock_export

    def seldom(*arguments: Any) -> Any:
        if len(pauses) < 7:
            raise DatabaseBusy("away")
        return real(*arguments)

    monkeypatch.setattr("pipeline.workflow.step_failures.time.sleep", pauses.append)
    with monkeypatch.context() as patched:
        patched.setattr(events, "lock_export", seldom)
        patched.setattr(shutdown, "is_requested", lambda: told)
        assert house.step(export_id, 1, "render_documents") == ()
    with house.runtime.db.read() as session:
        row = session.scalars(select(Step).where(col(Step.name) == "render_documents")).one()
    # Who is told to end does not wait; the sweep owes it then.
    assert (len(pauses), row.attempts, row.error is None) == ((0, 1, True) if told else (7, 0, False))
    house.finish(export_id)
    assert house.state(export_id) == "executed"


def test_a_step_that_never_succeeds_fails_the_export_and_tells_the_operator(house: House) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    house.step(export_id, 1, "record_packages")
    house.store.breaks_with = RendererCrashed("the PDF engine died")
    for _ in range(house.runtime.settings.step_max_attempts):
        house.clock.pass_seconds(3600)
        house.step(export_id, 1, "render_documents")
    assert house.state(export_id) == "failed"
    assert house.events(export_id).count("STEP_RETRIED") == house.runtime.settings.step_max_attempts - 1
    assert house.events(export_id)[-1] == "EXPORT_FAILED"
    with house.runtime.db.read() as session:
        (told,) = session.scalars(select(Notification)).all()
        (owed,) = session.scalars(select(Delivery)).all()
    assert told.event_type == "exports.export.failed.v1"
    assert (owed.audience, owed.state) == ("operator", "pending")
    assert [task for task in house.sweep() if task.step is not None] == [], "a failed export is owed nothing"


def test_a_failed_export_goes_on_where_it_failed_when_it_is_retried(house: House) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    house.step(export_id, 1, "record_packages")
    house.store.breaks_with = RendererCrashed("the PDF engine died")
    for _ in range(house.runtime.settings.step_max_attempts):
        house.clock.pass_seconds(3600)
        house.step(export_id, 1, "render_documents")
    house.store.breaks_with = None
    tasks = retry_export(house.runtime, factories.ACCOUNT, export_id, "key_test")
    assert set(tasks) == {TaskMessage(export_id, 1, "render_documents"), TaskMessage(export_id, 2, "record_packages")}
    house.run(tasks)
    house.finish(export_id)
    assert house.state(export_id) == "executed"
    assert house.count(ExportPackage) == 4


def test_a_worker_that_dies_again_and_again_ends_in_a_failed_export(house: House) -> None:
    export_id = house.accept().export_id
    for _ in range(house.runtime.settings.step_max_attempts):
        with house.runtime.db.write() as session:
            # What a claim leaves behind when the process is killed right after it.
            session.execute(
                update(Step)
                .where(col(Step.export_id) == export_id, col(Step.name) == "record_packages")
                .values(attempts=col(Step.attempts) + 1, fence=col(Step.fence) + 1)
            )
    assert house.step(export_id, 1, "record_packages") == ()
    assert house.state(export_id) == "failed"
    assert house.count(ExportPackage) == 0


def test_a_cancelled_export_does_nothing_more(house: House) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    house.step(export_id, 1, "record_packages")
    cancel_export(house.runtime, factories.ACCOUNT, export_id, "key_test")
    assert house.state(export_id) == "cancelled"
    assert house.step(export_id, 1, "render_documents") == house.step(export_id, 2, "record_packages") == ()
    assert house.sweep() == []
    assert house.events(export_id)[-1] == "EXPORT_CANCELLED"
    assert house.count(Artifact) == 0


def test_labels_are_carried_by_one_export_until_it_is_cancelled(house: House) -> None:
    labelled = factories.plan()
    labelled["units"][0]["packages"][0]["sscc"] = "106141412345678908"
    again = {**labelled, "batchId": "batch_again"}
    export_id = house.accept(labelled).export_id
    house.step(export_id, 1, "record_packages")
    with pytest.raises(PlanNotExecutable) as refused:
        house.accept(again)
    assert refused.value.field == "/units/0/packages/0/sscc"
    assert house.count(Export) == 1
    cancel_export(house.runtime, factories.ACCOUNT, export_id, "key_test")
    another = house.accept(again).export_id
    assert house.step(another, 1, "record_packages") != ()


def test_an_export_that_was_handed_off_cannot_be_cancelled(house: House) -> None:
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")
    house.step(export_id, 1, "render_documents")
    before = house.events(export_id)
    with pytest.raises(InvalidState):
        cancel_export(house.runtime, factories.ACCOUNT, export_id, "key_test")
    assert house.events(export_id) == before
    assert house.state(export_id) == "executing"


def test_an_export_that_has_not_failed_cannot_be_retried(house: House) -> None:
    export_id = house.accept().export_id
    with pytest.raises(InvalidState):
        retry_export(house.runtime, factories.ACCOUNT, export_id, "key_test")
    with pytest.raises(NotFound):
        retry_export(house.runtime, "acc_other", export_id, "key_test")
    assert house.events(export_id) == ["EXPORT_ACCEPTED"]
