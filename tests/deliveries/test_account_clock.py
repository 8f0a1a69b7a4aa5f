"""The test clock of an account: its test exports follow it, and its live exports do not."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from pipeline.accounts.api_keys import Caller, Mode
from pipeline.core.errors import InsufficientRole, InvalidState, Refused, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries import account_clock, deadlines
from pipeline.deliveries.deadlines import DeadlineFilter
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers, overdue
from pipeline.exports.event_models import Act
from pipeline.exports.schemas.account_clock import ClockEvent
from pipeline.workflow import clock_moves
from tests.deliveries.conftest import Clock
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.query_counter import record_plans

ARRIVES_AT = datetime(2026, 12, 20, 18, tzinfo=UTC)


def caller(mode: Mode = "test", account: str = factories.ACCOUNT) -> Caller:
    return Caller(account, "key_1", mode, frozenset({"operate"}))


def hand_off(runtime: Runtime, *, test: bool = True) -> exports.PreparedExport:
    plan = factories.plan(batch=f"batch-{test}", invoice=f"INV-{test}")
    plan["units"][0]["entry"]["estimatedArrivalAt"] = ARRIVES_AT.isoformat()
    export = exports.prepare_export(runtime, plan, test=test)
    exports.hand_off(runtime, export)
    return export


def read_submission(runtime: Runtime, export: exports.PreparedExport) -> BrokerSubmission:
    return stored.one(runtime, select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export.export_id))


def answer(runtime: Runtime, export: exports.PreparedExport, at: datetime | None = None, status: str = "filed") -> bool:
    body = {"id": f"a:{status}", "status": status} | ({} if at is None else {"at": at.isoformat()})
    submission_id = read_submission(runtime, export).id
    received = AcknowledgementBody.model_validate(body)
    return broker_answers.receive_answer(runtime, submission_id, received, "partner:br").recorded


def test_alarms_of_test_exports_follow_the_clock_and_those_of_live_ones_do_not(runtime: Runtime, clock: Clock) -> None:
    live, test = hand_off(runtime, test=False), hand_off(runtime)
    before = read_submission(runtime, live)
    moved, tasks = clock_moves.move_clock(runtime, caller(), ARRIVES_AT - timedelta(minutes=30))
    assert (moved.now, moved.targets[0].event) == (ARRIVES_AT - timedelta(minutes=30), ClockEvent.TRUCK_ARRIVES)
    assert [each.export_id for each in tasks] == [test.export_id]
    assert read_submission(runtime, test).overdue_at == moved.now
    arrived, tasks = clock_moves.move_clock(runtime, caller(), moved.targets[0].at)
    assert [each.export_id for each in tasks] == [test.export_id]
    for at in (moved.targets[0].at, clock.now):
        assert clock_moves.move_clock(runtime, caller(), at) == (arrived, [])
    late = read_submission(runtime, test)
    assert (late.arrives_at, late.overdue_at) == (ARRIVES_AT, ARRIVES_AT)
    assert late.first_overdue_at == clock.now
    assert read_submission(runtime, live) == before
    assert exports.read_event_types(runtime, test.export_id).count("HANDOFF_OVERDUE") == 2
    acts = stored.rows(runtime, select(Act).where(col(Act.action) == "test_clock_moved"))
    assert [each.detail["at"] for each in acts] == ["2026-12-20T17:30:00Z", "2026-12-20T18:00:00Z"]


def test_deadlines_start_and_are_listed_by_the_clock(runtime: Runtime, clock: Clock) -> None:
    clock_moves.move_clock(runtime, caller(), clock.now + timedelta(days=10))
    live, test = hand_off(runtime, test=False), hand_off(runtime)
    ahead = timedelta(days=10)
    for export, now in ((test, clock.now + ahead), (live, clock.now)):
        assert read_submission(runtime, export).deadline_at == now + timedelta(minutes=15)
    for status in ("received", "accepted", "filed"):
        answer(runtime, test, status=status)
        answer(runtime, live, status=status)
        due = [read_submission(runtime, each).deadline_at for each in (test, live)]
        assert None not in due
        page = deadlines.list_deadlines(runtime, factories.ACCOUNT, DeadlineFilter(200), limit=9)
        assert [each.test for each in page.items] == [False, True]
        assert all(clock.now + ahead * each.test < each.deadline_at for each in page.items)
    assert deadlines.list_deadlines(runtime, factories.ACCOUNT, DeadlineFilter(1), limit=9).items == []


def test_answer_without_a_time_has_that_of_the_clock(runtime: Runtime, clock: Clock) -> None:
    live, test = hand_off(runtime, test=False), hand_off(runtime)
    now = clock_moves.move_clock(runtime, caller(), clock.now + timedelta(days=3))[0].now
    assert answer(runtime, test, now - timedelta(minutes=1), status="filed")
    assert answer(runtime, test, status="released")
    clock.pass_seconds(60)
    assert not answer(runtime, test, status="released")
    released = stored.one(runtime, select(Acknowledgement).where(col(Acknowledgement.status) == "released"))
    assert released.at == released.received_at + timedelta(days=3) >= now
    with pytest.raises(ValidationFailed, match="lies ahead"):
        answer(runtime, live, now)
    with pytest.raises(ValidationFailed, match="lies ahead"):
        answer(runtime, test, now + timedelta(minutes=10), status="held")
    answer(runtime, live)
    assert read_submission(runtime, live).state == "filed"


def test_clock_is_reset_when_no_test_handoff_waits(runtime: Runtime, clock: Clock) -> None:
    hand_off(runtime, test=False)
    test = hand_off(runtime)
    assert account_clock.reset_clock(runtime, caller()).ahead_seconds == 0
    clock_moves.move_clock(runtime, caller(), clock.now + timedelta(minutes=10))
    with pytest.raises(InvalidState, match=f"test export {test.export_id} waits"):
        account_clock.reset_clock(runtime, caller())
    assert clock_moves.move_clock(runtime, caller(), ARRIVES_AT)[0].ahead_seconds > 0
    reset = account_clock.reset_clock(runtime, caller())
    assert (reset.now, reset.ahead_seconds) == (clock.now, 0)
    actions = stored.rows(runtime, select(Act.action).order_by(col(Act.seq)))
    assert [each for each in actions if each.startswith("test_clock")] == [
        *["test_clock_moved"] * 2,
        "test_clock_reset",
    ]


def test_targets_name_what_happens_next(runtime: Runtime, clock: Clock) -> None:
    plan = factories.plan()
    unit = plan["units"][0]
    unit["usmcaCertificates"][0] |= {"blanketFrom": "2026-01-01", "blanketTo": "2026-12-05"}
    unit["entry"]["estimatedArrivalAt"] = ARRIVES_AT.isoformat()
    export = exports.prepare_export(runtime, plan, test=True)
    exports.hand_off(runtime, export)
    targets = [
        (each.event.value, each.at, each.export_id)
        for each in account_clock.show_clock(runtime, factories.ACCOUNT).targets
    ]
    assert targets == [
        ("next_month", datetime(2026, 12, 1, 5, tzinfo=UTC), None),
        ("certificate_ends", datetime(2026, 12, 6, tzinfo=UTC), export.export_id),
        ("truck_arrives", ARRIVES_AT, export.export_id),
    ]
    clock_moves.move_clock(runtime, caller(), ARRIVES_AT)
    (after,) = account_clock.show_clock(runtime, factories.ACCOUNT).targets
    assert after.at == datetime(2027, 1, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("mode", "days", "refusal", "words"),
    [("live", 1, InsufficientRole, "use a test key"), ("test", 401, ValidationFailed, "more than 400 days ahead")],
)
def test_move_is_refused(
    runtime: Runtime, clock: Clock, mode: Mode, days: int, refusal: type[Refused], words: str
) -> None:
    with pytest.raises(refusal, match=words):
        clock_moves.move_clock(runtime, caller(mode), clock.now + timedelta(days=days))
    assert account_clock.show_clock(runtime, factories.ACCOUNT).ahead_seconds == 0


def test_sweep_reads_what_is_late_from_indexes(runtime: Runtime, clock: Clock) -> None:
    clock_moves.move_clock(runtime, caller(), clock.now + timedelta(days=1))
    with record_plans(runtime.db) as plans:
        assert overdue.notify_overdue(runtime) == []
    for index in ("deadline_at", "arrives_at", "test_deadline_at", "test_arrives_at"):
        assert any(f"SEARCH broker_submissions USING INDEX ix_broker_submissions_{index}" in each for each in plans), (
            plans
        )
    assert any("ix_accounts_test_clock" in each for each in plans), plans
