"""The outcome, compared with the log: what a forged column, a missed deadline and a dead letter make of it."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import select

from pipeline.accounts.leads import change_leads
from pipeline.accounts.schemas import LeadChanges, ModeLeads
from pipeline.core.db import database_now, table
from pipeline.core.errors import ChannelRefused
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.submissions.overdue import notify_overdue
from pipeline.exports.models import Export
from pipeline.exports.states import Outcome
from pipeline.ops.rebuild import service
from tests.ops.rebuild.test_rebuild import content, differences, record_answer, restore_all, run_answered_export
from tests.ops.tampering import open_unguarded
from tests.support import factories, stored
from tests.workflow.conftest import Answers, WorkflowHarness
from tests.workflow.revisions import execute_export


def read_outcomes(workflow: WorkflowHarness) -> list[str]:
    return [*workflow.rows(select(Export.outcome))]


@pytest.mark.parametrize("forged", [Outcome.RELEASED, Outcome.OVERDUE, Outcome.IN_PROGRESS])
def test_forged_outcome_is_reported_and_restored(workflow: WorkflowHarness, database_url: str, forged: Outcome) -> None:
    export_id = run_answered_export(workflow)
    before = content(workflow)
    # No trigger looks at the outcome itself, so that each account's own connection can write it.
    workflow.change(sa.update(Export).values(outcome=forged.value))
    assert differences(workflow, export_id) == [("exports", "changed", ["outcome"])]
    restore_all(workflow, before)


def test_missed_deadline_counts_only_if_the_log_says_so(workflow: WorkflowHarness, database_url: str) -> None:
    runtime, export_id = workflow.runtime, execute_export(workflow)
    past = datetime(2001, 1, 1, tzinfo=UTC)
    stored.change(runtime, sa.update(BrokerSubmission).values(overdue_at=past))
    assert read_outcomes(workflow) == [Outcome.OVERDUE], "a trigger took the forged column for a fact"
    assert differences(workflow, export_id) == [
        ("exports", "changed", ["outcome"]),
        ("broker_submissions", "changed", ["overdue_at"]),
    ]
    service.rebuild_exports(runtime, apply=True)
    assert (differences(workflow, export_id), read_outcomes(workflow)) == ([], [Outcome.WITH_BROKER])
    stored.change(runtime, sa.update(BrokerSubmission).values(deadline_at=past))
    notify_overdue(runtime)
    assert (differences(workflow, export_id), read_outcomes(workflow)) == ([], [Outcome.OVERDUE])
    stored.change(runtime, sa.update(Export).values(outcome=Outcome.WITH_BROKER.value))
    service.rebuild_exports(runtime, apply=True)
    assert read_outcomes(workflow) == [Outcome.OVERDUE]
    record_answer(workflow, export_id, "a1", "accepted")
    assert (differences(workflow, export_id), read_outcomes(workflow)) == ([], [Outcome.ACCEPTED])


def test_arrival_is_restored_from_the_log_with_the_deadline_before_it(
    workflow: WorkflowHarness, database_url: str
) -> None:
    plan = factories.plan()
    with workflow.runtime.db.read() as session:
        arrives_at = session.execute(sa.select(database_now())).scalar_one() + timedelta(hours=40)
    plan["units"][0]["entry"]["estimatedArrivalAt"] = arrives_at.isoformat()
    change_leads(
        workflow.runtime, factories.ACCOUNT, LeadChanges(truck=ModeLeads(filed_minutes=300)), changed_by="test"
    )
    export_id = execute_export(workflow, plan)
    record_answer(workflow, export_id, "a1", "accepted")
    before = content(workflow)
    due = workflow.one(select(BrokerSubmission)).deadline_at
    assert due == arrives_at - timedelta(hours=5)
    workflow.change(
        sa.update(BrokerSubmission).values(arrives_at=None, arrives_by=None, deadline_at=None, state="filed")
    )
    assert ("broker_submissions", "changed", ["arrives_at", "arrives_by", "state"]) in differences(workflow, export_id)
    restore_all(workflow, before)
    assert workflow.one(select(BrokerSubmission)).deadline_at == due


def test_dead_letter_to_the_warehouse_makes_the_outcome(
    workflow: WorkflowHarness, database_url: str, failing_queues: Answers
) -> None:
    with failing_queues(ChannelRefused("not this one")):
        export_id = execute_export(workflow)
    record_answer(workflow, export_id, "a1", "accepted")
    assert (differences(workflow, export_id), read_outcomes(workflow)) == ([], [Outcome.UNDELIVERABLE])
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.update(table(Export)).values(outcome=Outcome.ACCEPTED.value))
    assert differences(workflow, export_id) == [("exports", "changed", ["outcome"])]
    service.rebuild_exports(workflow.runtime, apply=True)
    assert read_outcomes(workflow) == [Outcome.UNDELIVERABLE]
