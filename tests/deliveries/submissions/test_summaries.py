"""The summary of a released entry is due ten working days later; who never speaks of summaries causes no alarm."""

from datetime import UTC, date, datetime, timedelta

from sqlmodel import col, select

from pipeline.deliveries import deadlines
from pipeline.deliveries.deadlines import DeadlineFilter
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import overdue
from pipeline.exports.schemas.inbox import Cause
from pipeline.exports.schemas.submissions import BrokerSubmissionView
from pipeline.ops import retention
from pipeline.ops.rebuild import service
from pipeline.workflow.acknowledgements import acknowledge_export
from tests.deliveries.entries.test_assessment import assert_rows_follow_from_log
from tests.deliveries.entries.test_entries import answer, packages, read
from tests.deliveries.entries.test_revisions import PLAN, amend, change
from tests.deliveries.entries.test_troubles import list_items
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, read_messages

#: Ten days without weekends and Veterans Day, before the time of each database; the day ends in New York.
RELEASED, DUE = "2026-11-02T15:00:00Z", datetime(2026, 11, 18, 5, tzinfo=UTC)


def submission_of(workflow: WorkflowHarness, export_id: str) -> BrokerSubmissionView:
    (found,) = read(workflow, export_id).broker_submissions
    return found


def sweep(workflow: WorkflowHarness, *, alarms: int) -> None:
    assert [len(overdue.notify_overdue(workflow.runtime)) for _ in range(2)] == [alarms, 0]


def release(workflow: WorkflowHarness, batch: str = "released", units: int = 1, *, speaks: bool = True) -> str:
    """Execute an export that is released; the customs broker may have spoken of another summary before."""
    if speaks:
        before = execute_export(workflow, factories.plan(batch="before"))
        answer(workflow, before, "a-1", "summary_paid")
        answer(workflow, before, "a-2", "released", at=RELEASED)
    export_id = execute_export(workflow, factories.plan(batch=batch, invoice="INV-R", units=units))
    answer(workflow, export_id, "a-1", "released", at=RELEASED)
    return export_id


def test_day_passes_without_alarm_if_the_broker_never_speaks_of_summaries(
    workflow: WorkflowHarness, database_url: str
) -> None:
    export_id = release(workflow, speaks=False)
    (listed,) = deadlines.list_deadlines(workflow.runtime, factories.ACCOUNT, DeadlineFilter(), limit=9).items
    assert (listed.kind, listed.deadline_at, listed.submission_status) == ("summary", DUE, "released")
    (entry,) = submission_of(workflow, export_id).entries
    assert (entry.correction_until, entry.protest_until) == (date(2027, 8, 29), None)
    assert_rows_follow_from_log(workflow, export_id)
    sweep(workflow, alarms=0)
    assert (list_items(workflow), read(workflow, export_id).outcome) == ([], "released")
    assert submission_of(workflow, export_id).summary_due_at is None
    assert_rows_follow_from_log(workflow, export_id)
    answer(workflow, export_id, "a-2", "summary_liquidated", at="2026-11-20T04:59:00Z")
    (entry,) = submission_of(workflow, export_id).entries
    assert (entry.correction_until, entry.protest_until) == (None, date(2027, 5, 18))


def test_late_summary_is_an_item_and_the_goods_stay_released(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = release(workflow, units=2)
    first, second = packages(workflow, export_id)
    sweep(workflow, alarms=1)
    (message,) = read_messages(workflow, export_id, MessageType.HANDOFF_OVERDUE)
    assert (message["summary"], message["deadlineAt"], message["outcome"]) == (True, "2026-11-18T05:00:00Z", "released")
    (item,) = list_items(workflow)
    assert (item.cause, item.deadline_at, item.text) == (Cause.SUMMARY, DUE, "")
    assert (item.reason.partition(",")[0], item.remedies) == ("The goods are released", ("reply", "acknowledge"))
    assert read(workflow, export_id).outcome == "released"
    assert_rows_follow_from_log(workflow, export_id)
    acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, "key_person")
    assert list_items(workflow) == []
    answer(workflow, export_id, "a-2", "summary_filed", first)
    assert len(list_items(workflow)) == 1, "the other one is still late"
    answer(workflow, export_id, "a-3", "summary_rejected", second, message="Line 3.")
    (item,) = list_items(workflow)
    assert (item.text, item.deadline_at) == (f"{second}: summary rejected. Line 3.", DUE)
    service.rebuild_exports(workflow.runtime, apply=True)
    assert_rows_follow_from_log(workflow, export_id)
    answer(workflow, export_id, "a-4", "filed", second)
    assert (list_items(workflow), submission_of(workflow, export_id).summary_due_at) == ([], None)
    assert_rows_follow_from_log(workflow, export_id)


def test_order_of_arrival_and_correction_decide_the_day(workflow: WorkflowHarness) -> None:
    export_id = release(workflow)
    assert submission_of(workflow, export_id).summary_due_at == DUE
    answer(workflow, export_id, "a-2", "cancelled", at="2026-11-02T15:30:00Z")
    assert submission_of(workflow, export_id).summary_due_at is None
    answer(workflow, export_id, "a-3", "remark", message="Not cancelled.", corrects="a-2")
    assert submission_of(workflow, export_id).summary_due_at == DUE
    answer(workflow, export_id, "a-4", "released", at="2026-11-02T04:59:00Z")  # the day before, in New York
    assert submission_of(workflow, export_id).summary_due_at == DUE - timedelta(days=1)
    assert_rows_follow_from_log(workflow, export_id)
    for taken_back, text in (("a-1", "Later."), ("a-4", "Later.")):
        answer(workflow, export_id, f"of-{taken_back}", "remark", message=text, corrects=taken_back)
    answer(workflow, export_id, "a-5", "released", at="2026-11-24T14:00:00Z")
    assert submission_of(workflow, export_id).summary_due_at == datetime(2026, 12, 10, 5, tzinfo=UTC)
    sweep(workflow, alarms=0)
    assert submission_of(workflow, export_id).summary_due_at is not None


def test_entry_that_goes_on_keeps_its_day(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, PLAN)
    first = packages(workflow, old)[0]
    answer(workflow, old, "a-1", "released", first, at=RELEASED)
    answer(workflow, old, "a-2", "summary_rejected", first)
    new = amend(workflow, old, change(1))
    assert submission_of(workflow, old).summary_due_at is None
    workflow.finish(new)
    assert submission_of(workflow, new).summary_due_at == DUE
    (item,) = list_items(workflow)
    assert (item.export_id, item.text) == (new, f"{first}: summary rejected")
    answer(workflow, old, "a-3", "summary_filed", first)
    assert (submission_of(workflow, new).summary_due_at, list_items(workflow)) == (None, [])
    for export_id in (old, new):
        assert_rows_follow_from_log(workflow, export_id)


def test_purge_ends_the_deadline(workflow: WorkflowHarness) -> None:
    export_id = release(workflow)
    sweep(workflow, alarms=1)
    assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports
    row = workflow.one(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id))
    assert (row.summary_due_at, list_items(workflow)) == (None, [])
    assert_rows_follow_from_log(workflow, export_id)
