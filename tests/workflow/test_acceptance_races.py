"""What is decided about a step or a delivery is decided of how it is then, not of how it was when it was looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session, col

from pipeline.core.errors import InvalidState, Retryable, Terminal
from pipeline.deliveries import sender
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports import events
from pipeline.exports.models import Export, LineTreatment, Step
from pipeline.exports.states import StepState
from pipeline.exports.step_context import StepContext
from pipeline.workflow import engine, step_failures
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.step_leases import claim_step, holds_lease
from pipeline.workflow.steps import STEPS_BY_NAME, TaskMessage
from tests.support import factories
from tests.workflow.conftest import House
from tests.workflow.revisions import amended, executed, owed, said

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def claimed(house: House, export_id: str, unit_no: int = 1) -> StepContext:
    context = claim_step(
        house.runtime, export_id, unit_no, "record_packages", starts_export=True, step_names=STEPS_BY_NAME
    )
    assert context is not None
    return context


def just_before(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Have something happen, once, when the row of an export is about to be locked."""
    lock = events.lock_export
    left = [happens]

    def late(session: Session, export_id: str) -> Any:
        if left:
            left.pop()()
        return lock(session, export_id)

    monkeypatch.setattr(events, "lock_export", late)


@ON_POSTGRESQL
@pytest.mark.parametrize("error", [Retryable("not now"), Terminal("never")])
def test_attempt_that_fails_as_the_export_is_cancelled_leaves_it_cancelled(
    make_house: Callable[[str], House], database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    house = make_house(database_url)
    export_id = house.accept().export_id
    context = claimed(house, export_id)
    just_before(monkeypatch, lambda: cancel_export(house.runtime, factories.ACCOUNT, export_id, "key_test"))
    assert step_failures.record_failure(house.runtime, context, error) == []
    assert house.events(export_id)[-1] == "EXPORT_CANCELLED"
    with house.runtime.db.read() as session:
        step = session.get_one(Step, (export_id, 1, "record_packages"))
        assert (step.state, step.lease_until, step.due_at) == ("cancelled", None, None)


@ON_POSTGRESQL
@pytest.mark.parametrize("error", [Retryable("not now"), Terminal("never")])
def test_attempt_of_a_worker_that_was_overtaken_says_nothing_of_the_step(
    make_house: Callable[[str], House], database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    house = make_house(database_url)
    export_id = house.accept().export_id
    context = claimed(house, export_id)

    def taken_over() -> None:
        with house.runtime.db.write() as session:
            session.execute(update(Step).where(col(Step.lease_until).is_not(None)).values(lease_until=None))
        assert claimed(house, export_id).fence == context.fence + 1

    just_before(monkeypatch, taken_over)
    assert step_failures.record_failure(house.runtime, context, error) == []
    assert (house.state(export_id), house.events(export_id)) == ("executing", ["EXPORT_ACCEPTED"])
    with house.runtime.db.read() as session:
        step = session.get_one(Step, (export_id, 1, "record_packages"))
        assert (step.state, step.error, step.fence) == ("ready", None, context.fence + 1)


@ON_POSTGRESQL
def test_resend_waits_for_the_amendment_that_is_under_way(
    make_house: Callable[[str], House], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(database_url)
    export_id = executed(house)
    (handoff,) = [each["id"] for each in said(house, export_id, MessageType.HANDOFF_READY)]
    (sent,) = [each for each in owed(house, export_id) if each.notification_id == handoff]
    assert sent.state == "delivered"
    just_before(monkeypatch, lambda: amended(house, export_id))
    with pytest.raises(InvalidState, match="was superseded by"):
        sender.resend_delivery(house.runtime, factories.ACCOUNT, sent.id, "key_test")
    (sent,) = [each for each in owed(house, export_id) if each.notification_id == handoff]
    assert sent.state == "delivered"


def test_unit_in_hand_when_another_fails_is_recorded_and_goes_on_once_the_export_is_retried(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    failing = claimed(house, export_id, 1)

    def other_unit_fails(point: str) -> None:
        if point == "record_packages.before":
            step_failures.record_failure(house.runtime, failing, Terminal("it cannot be done"))

    monkeypatch.setattr(engine, "failpoint", other_unit_fails)
    assert house.step(export_id, 2, "record_packages") == ("record_packages",)
    assert house.events(export_id) == ["EXPORT_ACCEPTED", "EXPORT_FAILED", "PACKAGES_RECORDED"]
    monkeypatch.undo()
    for _ in range(3):
        assert house.sweep() == [], "nobody is woken for an export that has ended"
    assert set(retry_export(house.runtime, factories.ACCOUNT, export_id, "key_test")) == {
        TaskMessage(export_id, 1, "record_packages"),
        TaskMessage(export_id, 2, "attach_customs"),
    }
    house.finish(export_id)
    assert house.state(export_id) == "executed"


def test_attempt_that_fails_in_an_export_that_has_failed_already_is_no_second_failure(house: House) -> None:
    export_id = house.accept(factories.plan(units=2)).export_id
    first, second = claimed(house, export_id, 1), claimed(house, export_id, 2)
    assert step_failures.record_failure(house.runtime, first, Terminal("it cannot be done")) != []
    log = house.events(export_id)
    assert step_failures.record_failure(house.runtime, second, Terminal("nor can this")) == []
    assert house.events(export_id) == log
    with house.runtime.db.read() as session:
        step = session.get_one(Step, (export_id, 2, "record_packages"))
        assert (step.state, step.lease_until, step.error) == ("ready", None, "nor can this")


def test_step_is_its_callers_until_another_has_taken_it_or_it_is_done(house: House) -> None:
    export_id = house.accept().export_id
    first = claimed(house, export_id)
    assert holds_lease(house.runtime, first)
    house.clock.pass_seconds(house.runtime.settings.lease_seconds + 1)
    second = claimed(house, export_id)
    assert (holds_lease(house.runtime, first), holds_lease(house.runtime, second)) == (False, True)
    with house.runtime.db.write() as session:
        session.execute(update(Step).where(col(Step.export_id) == export_id).values(state=StepState.DONE.value))
    assert not holds_lease(house.runtime, second)


def test_facts_that_collide_with_what_is_recorded_end_the_export_and_say_so(house: House) -> None:
    """Tried again they would collide again."""
    export_id, other = house.accept().export_id, house.accept(factories.plan(batch="other")).export_id
    house.step(other, 1, "record_packages")
    with house.runtime.db.write() as session:
        session.execute(update(LineTreatment).where(col(LineTreatment.export_id) == other).values(export_id=export_id))
    assert house.step(export_id, 1, "record_packages") == ("record_packages",)
    with house.runtime.db.read() as session:
        failed = session.get_one(Export, export_id)
    assert failed.state == "failed"
    assert str(failed.failure).startswith("attach_customs: attach_customs collides with what is recorded: ")
    assert house.events(export_id).count("STEP_RETRIED") == 0
