"""Tests of the statistics: each event and step counts once, in the right period, and old periods are deleted."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, update
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.heartbeats import Heartbeat
from pipeline.core.metrics import REGISTRY
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.deliveries.submissions.overdue import notify_overdue
from pipeline.exports import events
from pipeline.exports.event_models import Event
from pipeline.exports.states import Outcome
from pipeline.ops.schemas import StatsRange, StatsView
from pipeline.ops.stats import durations, queries, rollup
from pipeline.ops.stats.models import (
    ALL,
    CORRECTION,
    OUTCOME,
    PERIODS,
    QUEUE_DEPTH,
    STEP,
    Stat,
    cover_periods,
    period_start,
)
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import cancel_export
from pipeline.workflow.steps import STEPS
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def execute(workflow: WorkflowHarness, batch: str = "batch", units: int = 1, *, broker: str = factories.BROKER) -> str:
    """Execute an export and return its id."""
    export_id = workflow.accept(factories.plan(units=units, batch=batch, broker=broker)).export_id
    for unit_no in range(1, units + 1):
        run_step(workflow.runtime, export_id, unit_no, "record_packages")
    assert workflow.state(export_id) == "executed"
    return export_id


def answer(workflow: WorkflowHarness, export_id: str, status: str, *pointers: str) -> None:
    """Record an answer of the customs broker."""
    fields = [{"pointer": pointer, "message": "wrong"} for pointer in pointers]
    body = AcknowledgementBody.model_validate({"id": status, "status": status, "fields": fields})
    with workflow.runtime.db.write() as session:
        submission = session.scalars(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id)).one()
        events.lock_export(session, export_id)
        happened = broker_answers.record_answer(
            session, workflow.runtime.settings, submission.id, submission.export_id, body
        )
        events.append(session, export_id, "broker", happened)


def add_broker(workflow: WorkflowHarness, partner_id: str) -> None:
    """Add another customs broker."""
    new = {"id": partner_id, "kind": "customs_broker", "name": "Example broker", "path": "byob", "live": True}
    partners.create_partner(workflow.runtime, factories.ACCOUNT, NewPartner.model_validate(new))


def roll_up(workflow: WorkflowHarness) -> None:
    """Let enough time pass for all events to be committed, and count them."""
    workflow.clock.pass_seconds(rollup.UNCOMMITTED_SECONDS + rollup.ROLL_UP_SECONDS)
    catch_up(workflow)


def catch_up(workflow: WorkflowHarness) -> None:
    """Count all that may be counted now."""
    while rollup.roll_up(workflow.runtime):
        pass


def read(workflow: WorkflowHarness, wanted: StatsRange = StatsRange.HOURS_3) -> StatsView:
    with tenancy.account_scope(factories.ACCOUNT):
        return queries.read_stats(workflow.runtime, factories.ACCOUNT, wanted)


def reached(found: StatsView) -> dict[str, int]:
    """Return how many exports reached each outcome, without zeros."""
    return {each.outcome.value: sum(each.counts) for each in found.outcomes if any(each.counts)}


def test_event_and_step_count_once_in_each_length_of_period(workflow: WorkflowHarness) -> None:
    execute(workflow, units=2)
    for _ in range(3):
        roll_up(workflow)
    with workflow.runtime.db.read() as session:
        rows = session.execute(
            select(Stat.name, Stat.label, Stat.seconds, func.sum(col(Stat.value))).group_by(
                col(Stat.name), col(Stat.label), col(Stat.seconds)
            )
        ).all()
    counted = {(name, label, seconds): value for name, label, seconds, value in rows}
    for seconds in PERIODS:
        assert counted[OUTCOME, "in_progress", seconds] == 1
        assert counted[OUTCOME, "with_broker", seconds] == 1
        assert {spec.name: counted[STEP, spec.name, seconds] for spec in STEPS} == {
            spec.name: 2 if spec.per_unit else 1 for spec in STEPS
        }


def test_event_counts_only_when_every_transaction_of_its_time_has_ended(workflow: WorkflowHarness) -> None:
    workflow.accept()
    workflow.clock.pass_seconds(rollup.UNCOMMITTED_SECONDS - 1)
    catch_up(workflow)
    assert reached(read(workflow)) == {}
    workflow.clock.pass_seconds(rollup.ROLL_UP_SECONDS + 2)
    catch_up(workflow)
    assert reached(read(workflow)) == {"in_progress": 1}


def test_concurrent_sweepers_count_once(workflow: WorkflowHarness, database_url: str) -> None:
    execute(workflow)
    past = timedelta(seconds=rollup.UNCOMMITTED_SECONDS + 60)
    with tenancy.account_scope(ALL_ACCOUNTS), workflow.runtime.db.write() as session:
        # The log cannot be changed on PostgreSQL, so the rollup looks from the future.
        newest = session.scalar(select(func.max(col(Event.at))))
        assert newest is not None
    ends = newest + timedelta(seconds=1)

    def count(_: int) -> bool:
        with tenancy.account_scope(ALL_ACCOUNTS):
            return rollup.count_until(workflow.runtime, ends - past, ends)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(count, range(8))).count(True) == 1
    assert reached(read(workflow)) == {"in_progress": 1, "with_broker": 1}


def test_outcomes_of_a_life_count_in_order(workflow: WorkflowHarness) -> None:
    released, rejected, cancelled = execute(workflow, "a"), execute(workflow, "b"), None
    for status in ("received", "accepted", "filed", "released", "accepted"):
        answer(workflow, released, status)
    answer(workflow, rejected, "rejected", "/units/0/lines/12/htsCode", "/units/1/lines/0/htsCode", "/units/0/entry")
    cancelled = workflow.accept(factories.plan(batch="c")).export_id
    cancel_export(workflow.runtime, factories.ACCOUNT, cancelled, "key_test")
    roll_up(workflow)
    found = read(workflow)
    assert reached(found) == {
        "in_progress": 3,
        "with_broker": 2,
        "accepted": 1,
        "filed": 1,
        "released": 1,
        "rejected": 1,
        "cancelled": 1,
    }
    (broker,) = found.brokers
    assert broker.partner_id == factories.BROKER
    assert {each.status: each.count for each in broker.statuses if each.count} == {
        "sent": 2,
        "delivered": 2,
        "received": 1,
        "accepted": 1,
        "filed": 1,
        "released": 1,
        "rejected": 1,
    }
    assert Counter({each.field: sum(each.counts) for each in found.corrections}) == {
        "/units/*/lines/*/htsCode": 2,
        "/units/*/entry": 1,
    }
    assert found.now.accepted_today == 1


def test_median_is_the_time_since_the_status_before(workflow: WorkflowHarness) -> None:
    export_id = execute(workflow)
    for status, seconds in (("received", 60), ("accepted", 3600)):
        workflow.clock.pass_seconds(seconds)
        answer(workflow, export_id, status)
    roll_up(workflow)
    (broker,) = read(workflow).brokers
    medians = {each.status: each.median_seconds for each in broker.statuses if each.median_seconds}
    assert medians["received"] == pytest.approx(60, rel=0.1)
    assert medians["accepted"] == pytest.approx(3600, rel=0.1)


def test_customs_brokers_are_ordered_by_the_time_to_their_first_review(workflow: WorkflowHarness) -> None:
    add_broker(workflow, "br_slow")
    slow = execute(workflow, "slow", broker="br_slow")
    for each in ("a", "b", "c"):
        export_id = execute(workflow, each)
        workflow.clock.pass_seconds(60)
        answer(workflow, export_id, "accepted")
    workflow.clock.pass_seconds(3600)
    answer(workflow, slow, "received")
    workflow.clock.pass_seconds(3600)
    answer(workflow, slow, "query", "/units/0/entry", "/units/1/entry", "/batchId")
    workflow.clock.pass_seconds(3600)
    answer(workflow, slow, "accepted")
    roll_up(workflow)
    first, second = read(workflow, StatsRange.DAYS_7).brokers
    assert (first.partner_id, first.review.count, first.sent_back) == ("br_slow", 1, 1)
    assert first.review.p50 == pytest.approx(3 * 60 + 2 * 3600, rel=0.1)
    assert first.most_corrected is not None
    assert (first.most_corrected.field, sum(first.most_corrected.counts)) == ("/units/*/entry", 2)
    assert (second.partner_id, second.review.count, second.sent_back) == (factories.BROKER, 3, 0)
    assert second.review.p50 == pytest.approx(60, rel=0.1)
    assert second.most_corrected is None


def test_silent_customs_broker_is_the_slowest(workflow: WorkflowHarness) -> None:
    add_broker(workflow, "br_silent")
    execute(workflow, "silent", broker="br_silent")
    workflow.clock.pass_seconds(workflow.runtime.settings.deadline_received_seconds + 1)
    answered = execute(workflow, "answered")
    answer(workflow, answered, "rejected")
    assert notify_overdue(workflow.runtime)
    roll_up(workflow)
    first, second = read(workflow, StatsRange.DAYS_7).brokers
    assert (first.partner_id, first.overdue, first.review.count, first.review.p50) == ("br_silent", 1, 0, None)
    assert (second.overdue, second.sent_back) == (0, 1)
    # Overdue is not a status that a handoff reaches.
    assert REGISTRY.get_sample_value("exports_handoff_status_seconds_count", {"status": "sent"})
    assert REGISTRY.get_sample_value("exports_handoff_status_seconds_count", {"status": "overdue"}) is None


def test_current_outcomes_are_those_of_the_list(workflow: WorkflowHarness) -> None:
    rejected, waiting = execute(workflow, "a"), execute(workflow, "b")
    answer(workflow, rejected, "rejected")
    workflow.accept(factories.plan(batch="c"))
    assert {key: value for key, value in read(workflow).now.outcomes.items() if value} == {
        Outcome.REJECTED: 1,
        Outcome.WITH_BROKER: 1,
        Outcome.IN_PROGRESS: 1,
    }
    assert waiting


def test_queues_show_their_most_due_work_and_longest_delay(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ChannelUnavailable("a test refuses it")

    monkeypatch.setattr(QueueChannel, "send", fail)
    for batch in ("a", "b"):
        workflow.accept(factories.plan(batch=batch))
    roll_up(workflow)
    workflow.clock.pass_seconds(60)
    workflow.accept(factories.plan(batch="c"))
    workflow.clock.pass_seconds(rollup.UNCOMMITTED_SECONDS)
    catch_up(workflow)
    found = {each.queue: (max(each.depth), max(each.delay_seconds)) for each in read(workflow).queues}
    depth, delay = found["exports.steps"]
    assert depth == 3
    assert 90 <= delay <= 140
    assert set(workflow.rows(select(Stat.account_id).where(col(Stat.name) == QUEUE_DEPTH))) == {ALL}


def test_old_periods_are_deleted_and_long_ones_stay(workflow: WorkflowHarness) -> None:
    workflow.accept()
    roll_up(workflow)
    workflow.clock.pass_seconds(PERIODS[21_600].total_seconds() + 86_400)
    with tenancy.account_scope(ALL_ACCOUNTS), workflow.runtime.db.write() as session:
        session.execute(update(Heartbeat).values(arrived_at=workflow.clock.now - timedelta(minutes=2)))
    roll_up(workflow)
    assert set(workflow.rows(select(Stat.seconds).where(col(Stat.name) == OUTCOME))) == {86_400, 604_800}
    assert reached(read(workflow, StatsRange.DAYS_7)) == {}
    assert reached(read(workflow, StatsRange.DAYS_90)) == {"in_progress": 1}


def test_idle_rollup_catches_up_in_windows(workflow: WorkflowHarness) -> None:
    workflow.accept()
    roll_up(workflow)
    workflow.accept(factories.plan(batch="later"))
    workflow.clock.pass_seconds(3 * rollup.WINDOW.total_seconds())
    assert [rollup.roll_up(workflow.runtime) for _ in range(4)] == [True, True, False, False]
    assert reached(read(workflow)) == {"in_progress": 2}


def test_hostile_pointer_is_cut_and_counted(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute(workflow)
    answer(workflow, export_id, "rejected", "/" + "\U0001f4e6" * 255)
    with tenancy.account_scope(ALL_ACCOUNTS):
        ends = utc_now() + timedelta(days=1) if database_url.startswith("postgresql") else workflow.clock.now
        assert rollup.count_until(workflow.runtime, ends - timedelta(days=3650), ends)
    labels = set(workflow.rows(select(Stat.label).where(col(Stat.name) == CORRECTION)))
    assert {len(label) for label in labels} == {200}


def test_rollup_of_a_new_database_needs_few_windows(workflow: WorkflowHarness) -> None:
    assert not rollup.roll_up(workflow.runtime)
    workflow.accept()
    workflow.clock.pass_seconds(rollup.UNCOMMITTED_SECONDS + rollup.ROLL_UP_SECONDS)
    assert not rollup.roll_up(workflow.runtime)
    assert reached(read(workflow)) == {"in_progress": 1}


def test_stats_of_another_account_are_not_shown(workflow: WorkflowHarness) -> None:
    execute(workflow)
    roll_up(workflow)
    with tenancy.account_scope("acc_other"):
        found = queries.read_stats(workflow.runtime, "acc_other", StatsRange.HOURS_3)
    assert (reached(found), found.brokers, found.handoff.count, found.now.outcomes[Outcome.WITH_BROKER]) == (
        {},
        [],
        0,
        0,
    )


@pytest.mark.parametrize("wanted", StatsRange)
def test_each_range_has_equal_periods_that_end_now(workflow: WorkflowHarness, wanted: StatsRange) -> None:
    execute(workflow)
    roll_up(workflow)
    found = read(workflow, wanted)
    assert {later - earlier for earlier, later in zip(found.periods, found.periods[1:], strict=False)} == {
        timedelta(seconds=found.period_seconds)
    }
    assert found.periods[-1] <= workflow.clock.now < found.periods[-1] + timedelta(seconds=found.period_seconds)
    assert reached(found) == {"in_progress": 1, "with_broker": 1}
    assert all(len(each.counts) == len(found.periods) for each in found.outcomes)
    assert len(found.handoff_series) == len(found.periods)


def test_durations_of_a_range_are_those_of_its_periods(workflow: WorkflowHarness) -> None:
    for _ in range(6):
        execute(workflow, f"at-{workflow.clock.now:%d-%H-%M-%S}")
        roll_up(workflow)
        workflow.clock.pass_seconds(31 * 3600 + 7)
        with tenancy.account_scope(ALL_ACCOUNTS), workflow.runtime.db.write() as session:
            session.execute(update(Heartbeat).values(arrived_at=workflow.clock.now - timedelta(seconds=1)))
    for wanted in StatsRange:
        found = read(workflow, wanted)
        accepted = reached(found).get("in_progress", 0)
        sent = [each for broker in found.brokers for each in broker.statuses if each.status == "sent"]
        assert sum(each.count for each in sent) == accepted
        assert {each.count for each in found.steps} == {accepted}
    assert reached(read(workflow, StatsRange.DAYS_90)) == {"in_progress": 6, "with_broker": 6}


@pytest.mark.parametrize("days", [0.1, 1, 7, 90])
@pytest.mark.parametrize("seconds", [300, 3600, 21_600, 86_400])
def test_few_periods_cover_a_time_without_gap_or_overlap(seconds: int, days: float) -> None:
    until = datetime(2026, 11, 29, 17, 43, 12, tzinfo=UTC)
    since = period_start(until - timedelta(days=days), seconds)
    covering = cover_periods(since, until)
    ends = [start + timedelta(seconds=length) for length, start in covering]
    assert [start for _, start in covering] == [since, *ends[:-1]]
    assert ends[-2:][0] <= until < ends[-1] or len(ends) == 1
    assert len(covering) < 40


@pytest.mark.parametrize("seconds", [0, 0.001, 0.02, 1, 61, 86_400, 10**8])
def test_percentiles_are_exact_within_a_tenth(seconds: float) -> None:
    counts = Counter({durations.bin_of(seconds): 10, durations.bin_of(seconds * 100): 1})
    assert durations.percentile(counts, 0.5) == pytest.approx(max(seconds, 0.001), rel=0.1)
    assert durations.percentile(counts, 0.99) == pytest.approx(max(seconds * 100, 0.001), rel=0.1)
    assert durations.percentile({}, 0.5) is None
