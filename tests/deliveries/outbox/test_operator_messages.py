"""Messages to the operators, and the events of their causes, carry the outcome of the export at that moment."""

import json
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import overdue
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from tests.deliveries.conftest import Clock
from tests.deliveries.submissions.test_submissions import record_answer
from tests.deliveries.support import exports
from tests.support import stored
from tests.support.query_counter import record_statements


def hand_off(runtime: Runtime, *, executed: bool = True) -> exports.PreparedExport:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    if executed:
        stored.change(runtime, update(Export).values(state="executed"))
    return export


def read_last_event(runtime: Runtime) -> Event:
    return stored.one(runtime, select(Event).order_by(col(Event.seq).desc()).limit(1))


def read_last_message(runtime: Runtime) -> Notification:
    return stored.one(runtime, select(Notification).order_by(col(Notification.position).desc()).limit(1))


def read_outcomes(runtime: Runtime) -> tuple[Any, Any]:
    """Return the outcome in the newest message and in the newest event."""
    return json.loads(read_last_message(runtime).data).get("outcome"), read_last_event(runtime).data.get("outcome")


@pytest.mark.parametrize("status", ["rejected", "query", "held"])
def test_answer_that_needs_a_person_says_the_outcome(runtime: Runtime, status: str) -> None:
    hand_off(runtime)
    record_answer(runtime, "a-1", status)
    assert read_outcomes(runtime) == (status, status)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("received", "with_broker"), ("accepted", "accepted"), ("filed", "filed"), ("released", "released")],
)
def test_event_of_each_answer_says_the_outcome(runtime: Runtime, status: str, outcome: str) -> None:
    hand_off(runtime)
    record_answer(runtime, "a-1", status)
    assert read_last_event(runtime).data["outcome"] == outcome


def test_late_answer_says_the_outcome_and_not_its_own_status(runtime: Runtime) -> None:
    hand_off(runtime)
    record_answer(runtime, "a-2", "released")
    record_answer(runtime, "a-1", "query", at="2026-01-02T00:00:00Z")
    assert read_outcomes(runtime) == ("released", "released")


def test_answer_before_the_end_of_the_execution_is_in_progress(runtime: Runtime) -> None:
    hand_off(runtime, executed=False)
    record_answer(runtime, "a-1", "rejected")
    assert read_outcomes(runtime) == ("in_progress", "in_progress")


def test_overdue_status_says_the_outcome(runtime: Runtime, clock: Clock) -> None:
    hand_off(runtime)
    clock.pass_seconds(3600)
    overdue.notify_overdue(runtime)
    assert read_outcomes(runtime) == ("overdue", "overdue")


def test_outcome_costs_no_further_statement(runtime: Runtime) -> None:
    hand_off(runtime)
    record_answer(runtime, "a-1", "received")
    with record_statements(runtime.db) as statements:
        record_answer(runtime, "a-2", "accepted")
    # The test's search; then: find, lock, is it purged, answer, entries, answers, entry, status, outcome, number, event.
    # The message that the entry moved: export, recipients, position, notification, deliveries.
    assert len([each for each in statements if not each.startswith("BEGIN")]) == 12 + 5, statements


def test_message_of_an_earlier_version_is_valid(runtime: Runtime) -> None:
    hand_off(runtime)
    record_answer(runtime, "a-1", "rejected")
    stored = read_last_message(runtime)
    data = {name: value for name, value in json.loads(stored.data).items() if name != "outcome"}
    assert MessageType(stored.event_type).model.model_validate(data).model_dump()["outcome"] is None
