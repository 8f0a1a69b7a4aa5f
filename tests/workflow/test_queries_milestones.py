"""The list of exports whose handoff reached a milestone: each once, the newest milestone first, by an index."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.errors import ValidationFailed
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers
from pipeline.deliveries.submissions.overdue import notify_overdue
from pipeline.exports.models import Export
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import ExportState, Milestone, Outcome
from pipeline.ops.schemas import StatsRange, StatsView
from pipeline.ops.stats import queries as stats_queries
from pipeline.ops.stats import rollup
from pipeline.workflow import queries
from pipeline.workflow.engine import run_step
from tests.support import factories
from tests.support.query_counter import record_plans
from tests.workflow.conftest import WorkflowHarness

SENT_BACK, ACCEPTED, OVERDUE = (
    ExportFilter(reached=each) for each in (Milestone.SENT_BACK, Milestone.ACCEPTED, Milestone.OVERDUE)
)


@pytest.fixture
def workflow(make_workflow: Callable[[str], WorkflowHarness], database_url: str) -> WorkflowHarness:
    """A harness on each database, with a second customs broker."""
    harness = make_workflow(database_url)
    new = {"id": "br_2", "kind": "customs_broker", "name": "Example broker", "path": "byob", "live": True}
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    return harness


def hand_off(workflow: WorkflowHarness, batch: str, *, broker: str = factories.BROKER) -> None:
    export_id = workflow.accept(factories.plan(batch=batch, broker=broker)).export_id
    run_step(workflow.runtime, export_id, 1, "record_packages")
    assert workflow.state(export_id) == "executed"


def answer(workflow: WorkflowHarness, batch: str, *statuses: str, at: str | None = None) -> None:
    """Record answers of the customs broker, decided `at` this time; on SQLite they come an hour after each other."""
    with workflow.runtime.db.read() as session:
        of_batch = select(BrokerSubmission.id).join(Export, col(Export.id) == col(BrokerSubmission.export_id))
        submission = session.scalars(of_batch.where(col(Export.batch_id) == batch)).one()
    for status in statuses:
        workflow.clock.pass_seconds(3600)
        body = AcknowledgementBody.model_validate({"id": status, "status": status, "at": at})
        broker_answers.receive_answer(workflow.runtime, submission, body, "partner:br")


def list_batches(workflow: WorkflowHarness, wanted: ExportFilter, limit: int = 9) -> list[str]:
    """Return the batches of all pages."""
    found: list[str] = []
    cursor = None
    with workflow.runtime.db.read() as session:
        while True:
            page = queries.list_exports(session, factories.ACCOUNT, wanted, cursor=cursor, limit=limit)
            found += [each.batch_id for each in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return found


def read_stats(workflow: WorkflowHarness) -> StatsView:
    workflow.clock.pass_seconds(rollup.UNCOMMITTED_SECONDS + rollup.ROLL_UP_SECONDS)
    with pytest.MonkeyPatch.context() as few:
        few.setattr(rollup, "WINDOW", timedelta(days=1))
        while rollup.roll_up(workflow.runtime):
            pass
    return stats_queries.read_stats(workflow.runtime, factories.ACCOUNT, StatsRange.DAYS_7)


def test_handoff_reaches_each_milestone_once_and_the_newest_stands_first(workflow: WorkflowHarness) -> None:
    for batch in ("A", "B", "C", "D"):
        hand_off(workflow, batch)
    answer(workflow, "B", "query")
    answer(workflow, "A", "rejected")
    answer(workflow, "B", "rejected", "accepted")
    answer(workflow, "C", "filed", "accepted", "released")
    assert list_batches(workflow, SENT_BACK) == ["A", "B"]
    assert list_batches(workflow, ACCEPTED) == ["C", "B"]
    assert list_batches(workflow, OVERDUE) == []
    with workflow.runtime.db.read() as session:
        page = queries.list_exports(session, factories.ACCOUNT, SENT_BACK, cursor=None, limit=9)
    sent_back_at = page.items[1].reached_at
    assert sent_back_at is not None
    assert list_batches(workflow, SENT_BACK.model_copy(update={"reached_after": sent_back_at})) == ["A"]
    assert list_batches(workflow, SENT_BACK.model_copy(update={"reached_before": sent_back_at})) == []


def test_late_answer_that_does_not_move_the_status_reaches_nothing(workflow: WorkflowHarness) -> None:
    hand_off(workflow, "A")
    answer(workflow, "A", "released")
    answer(workflow, "A", "query", at="2026-01-02T00:00:00Z")
    assert list_batches(workflow, SENT_BACK) == []


def test_pages_have_every_export_once(workflow: WorkflowHarness) -> None:
    batches = [f"batch-{number}" for number in range(5)]
    for batch in batches:
        hand_off(workflow, batch)
        answer(workflow, batch, "accepted")
    assert list_batches(workflow, ACCEPTED, limit=2) == batches[::-1]


@pytest.mark.parametrize(
    ("others", "found"),
    [
        (ExportFilter(broker="br_2"), ["B"]),
        (ExportFilter(outcome=(Outcome.ACCEPTED,)), ["B"]),
        (ExportFilter(outcome=(Outcome.REJECTED, Outcome.ACCEPTED)), ["B", "A"]),
        (ExportFilter(state=ExportState.FAILED), []),
        (ExportFilter(warehouse="wh_none"), []),
        (ExportFilter(quarantined=True), []),
    ],
)
def test_milestone_and_other_filters_both_hold(
    workflow: WorkflowHarness, others: ExportFilter, found: list[str]
) -> None:
    hand_off(workflow, "A")
    hand_off(workflow, "B", broker="br_2")
    answer(workflow, "A", "rejected")
    answer(workflow, "B", "rejected", "accepted")
    assert list_batches(workflow, others.model_copy(update={"reached": Milestone.SENT_BACK})) == found


@pytest.mark.parametrize("broker", [None, "br_2"])
@pytest.mark.parametrize("reached", Milestone)
def test_each_milestone_has_its_index(workflow: WorkflowHarness, reached: Milestone, broker: str | None) -> None:
    wanted = ExportFilter(reached=reached, broker=broker, reached_after=workflow.clock.now - timedelta(days=1))
    with record_plans(workflow.runtime.db) as plans:
        list_batches(workflow, wanted)
    index = f"ix_broker_submissions_{'' if broker is None else 'partner_'}first_{reached}"
    assert any(re.search(rf"\b{index}\b", step) for step in plans), plans
    assert [step for step in plans if re.search(r"^SCAN |Seq Scan", step)] == []


@pytest.mark.parametrize("name", ["reached_after", "reached_before"])
def test_time_of_a_milestone_needs_the_milestone(workflow: WorkflowHarness, name: str) -> None:
    wanted = ExportFilter.model_validate({name: workflow.clock.now})
    with pytest.raises(ValidationFailed, match="needs reached: one of accepted, sent_back, overdue"):
        list_batches(workflow, wanted)


def test_cursor_of_another_list_is_unknown(workflow: WorkflowHarness) -> None:
    cursor = queries._encode_cursor("exp_1")
    with workflow.runtime.db.read() as session, pytest.raises(ValidationFailed):
        queries.list_exports(session, factories.ACCOUNT, ACCEPTED, cursor=cursor, limit=1)


def test_statistics_count_what_the_list_shows(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "UNCOMMITTED_SECONDS", -1.0)
    monkeypatch.setattr(rollup, "ROLL_UP_SECONDS", 0.0)
    for batch in ("A", "B", "C"):
        hand_off(workflow, batch)
    answer(workflow, "A", "query", "rejected", "accepted", "filed")
    answer(workflow, "B", "released")
    answer(workflow, "B", "rejected", at="2026-01-02T00:00:00Z")
    (broker,) = read_stats(workflow).brokers
    assert broker.sent_back == len(list_batches(workflow, SENT_BACK)) == 1
    assert read_stats(workflow).now.accepted_today == len(list_batches(workflow, ACCEPTED)) == 2


def test_handoff_that_missed_two_deadlines_counts_once(
    make_workflow: Callable[[str], WorkflowHarness], sqlite_url: str
) -> None:
    workflow = make_workflow(sqlite_url)  # its clock is the test's
    hand_off(workflow, "A")
    workflow.clock.pass_seconds(workflow.runtime.settings.deadline_received_seconds + 1)
    assert notify_overdue(workflow.runtime)
    read_stats(workflow)
    answer(workflow, "A", "received")
    workflow.clock.pass_seconds(workflow.runtime.settings.deadline_answered_seconds + 1)
    assert notify_overdue(workflow.runtime)
    (broker,) = read_stats(workflow).brokers
    assert broker.overdue == len(list_batches(workflow, OVERDUE)) == 1


def test_accepted_today_does_not_wait_for_the_rollup(
    make_workflow: Callable[[str], WorkflowHarness], sqlite_url: str
) -> None:
    workflow = make_workflow(sqlite_url)
    for batch in ("A", "B"):
        hand_off(workflow, batch)
    answer(workflow, "A", "accepted")
    workflow.clock.pass_seconds(86_400)
    answer(workflow, "B", "filed")
    found = stats_queries.read_stats(workflow.runtime, factories.ACCOUNT, StatsRange.DAYS_7)
    assert found.now.accepted_today == 1
    assert read_stats(workflow).now.accepted_today == 1
