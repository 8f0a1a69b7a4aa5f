"""Deadlines know when the goods arrive, and a handoff is overdue only while its answer is expected."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.accounts import leads, service
from pipeline.accounts.schemas import LeadChanges
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import overdue, waits
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import Outcome, SubmissionState
from pipeline.interfaces.api.metrics import WorkCollector
from pipeline.ops import retention
from pipeline.workflow import inbox, queries
from pipeline.workflow.withdrawals import withdraw_export
from tests.deliveries.submissions.test_overdue import DAY, HOUR, record_answer
from tests.support import factories
from tests.support.people import OTHER
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment, read, read_messages

#: When the goods of the plan arrive.
ARRIVAL = datetime(2026, 11, 26, 18, tzinfo=UTC)


def count_late(workflow: WorkflowHarness) -> tuple[float, list[str]]:
    """Return the gauge's number of overdue handoffs, and the exports listed as overdue."""
    families = {family.name: family for family in WorkCollector(workflow.runtime).collect()}
    late = sum(sample.value for sample in families["exports_handoffs_overdue"].samples)
    wanted = ExportFilter(outcome=(Outcome.OVERDUE,))
    with workflow.runtime.db.read() as session:
        listed = queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=9).items
    return late, [each.export_id for each in listed]


def amend(workflow: WorkflowHarness, export_id: str) -> None:
    make_amendment(workflow, export_id)


def purge(workflow: WorkflowHarness, _: str) -> None:
    assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports


@pytest.mark.parametrize("end", [amend, purge])
def test_overdue_handoff_counts_until_amendment_or_purge(
    workflow: WorkflowHarness, database_url: str, end: Callable[[WorkflowHarness, str], None]
) -> None:
    export_id = execute_export(workflow)
    assert count_late(workflow) == (0, [])
    workflow.change(update(BrokerSubmission).values(deadline_at=database_now(-1)))
    overdue.notify_overdue(workflow.runtime)
    assert count_late(workflow) == (1, [export_id])
    end(workflow, export_id)
    assert count_late(workflow) == (0, [])


@pytest.mark.parametrize(
    ("status", "hours_by_arrival"),
    [
        (SubmissionState.PENDING, {None: 0.25, 51.0: 0.25, 0.1: 0.25, -9.0: 0.25}),
        (SubmissionState.DELIVERED, {None: 1, 51.0: 1, 6.5: 0.5, 6.0: 0, -9.0: 0}),
        (SubmissionState.RECEIVED, {None: 24, 51.0: 24, 10.0: 6, 4.0: 0, -9.0: 0}),
        (SubmissionState.ACCEPTED, {None: 48, 51.0: 48, 10.0: 8, 2.0: 0, -9.0: 0}),
        (SubmissionState.FILED, {None: 120, 126.0: 120, 10.0: 10, 0.0: 0, -9.0: 0}),
    ],
)
def test_next_status_is_due_before_the_arrival(
    make_workflow: Callable[[str], WorkflowHarness],
    database_url: str,
    status: SubmissionState,
    hours_by_arrival: dict[float | None, float],
) -> None:
    runtime = make_workflow(database_url).runtime
    with runtime.db.read() as session:
        now = session.execute(select(database_now())).scalar_one()
        due = {}
        for hours in hours_by_arrival:
            arrives_at = None if hours is None else now + timedelta(hours=hours)
            deadline = waits.status_deadline(runtime.settings, status, factories.ACCOUNT, arrives_at, "truck")
            assert deadline is not None
            due[hours] = session.execute(select(deadline)).scalar_one()
    # The clock of PostgreSQL goes on meanwhile.
    late = {hours: at - now - timedelta(hours=hours_by_arrival[hours]) for hours, at in due.items()}
    assert all(timedelta(0) <= each < timedelta(seconds=60) for each in late.values()), late


def read_now(runtime: Runtime) -> datetime:
    with runtime.db.read() as session:
        now: datetime = session.execute(select(database_now())).scalar_one()
    return now


def set_leads(runtime: Runtime, changes: Mapping[str, Any], account: str = factories.ACCOUNT) -> None:
    leads.change_leads(runtime, account, LeadChanges.model_validate(changes), changed_by="test")


@pytest.mark.parametrize(
    ("own", "by", "hours"),
    [
        ({"truck": {"filedMinutes": 600}}, "truck", 30),
        ({"truck": {"filedMinutes": 600}}, "air", 38),
        ({"truck": {"filedMinutes": 600}}, None, 38),  # of an older version
        ({"truck": {"receivedMinutes": 600}}, "truck", 38),
        ({"vessel": {"filedMinutes": 0}}, "vessel", 40),
        ({"vessel": {"filedMinutes": 43_200}}, "vessel", 0),
        ({"vessel": None}, "vessel", 38),
    ],
)
def test_own_lead_of_the_mode_counts_before_the_settings(
    workflow: WorkflowHarness, database_url: str, own: dict[str, dict[str, int] | None], by: str | None, hours: int
) -> None:
    runtime = workflow.runtime
    service.create_account(runtime, OTHER, "Oak Goods Ltd")
    everything = dict.fromkeys(("receivedMinutes", "answeredMinutes", "filedMinutes", "releasedMinutes"), 1200)
    set_leads(runtime, dict.fromkeys(leads.MODES, everything), OTHER)
    set_leads(runtime, own)
    now = read_now(runtime)
    with runtime.db.read() as session:
        arrival = factories.ACCOUNT, now + timedelta(hours=40), by
        deadline = waits.status_deadline(runtime.settings, SubmissionState.ACCEPTED, *arrival)
        assert deadline is not None
        late = session.execute(select(deadline)).scalar_one() - now - timedelta(hours=hours)
    assert timedelta(0) <= late < timedelta(seconds=60)


def test_changed_lead_counts_from_the_next_status_on(workflow: WorkflowHarness, database_url: str) -> None:
    def read_due() -> datetime | None:
        return workflow.one(select(BrokerSubmission).where(col(BrokerSubmission.deadline_at).is_not(None))).deadline_at

    plan, arrival = factories.plan(), read_now(workflow.runtime) + timedelta(hours=40)
    plan["units"][0]["entry"]["estimatedArrivalAt"] = arrival.isoformat()
    export_id = execute_export(workflow, plan)
    set_leads(workflow.runtime, {"truck": {"answeredMinutes": 1800, "filedMinutes": 600}})
    record_answer(workflow.runtime, "received")
    assert read_due() == arrival - timedelta(hours=30)
    set_leads(workflow.runtime, {"truck": {"answeredMinutes": 1980, "filedMinutes": 720}, "air": {"filedMinutes": 900}})
    assert read_due() == arrival - timedelta(hours=30)
    record_answer(workflow.runtime, "accepted")
    assert read_due() == arrival - timedelta(hours=12)
    withdraw_export(workflow.runtime, factories.ACCOUNT, export_id, "per_1", "The buyer called.")
    assert read_due() == arrival - timedelta(hours=33)


def list_late(runtime: Runtime) -> list[tuple[str, str]]:
    """Let a sweep notify, and return the words of the inbox."""
    overdue.notify_overdue(runtime)
    return [(each.reason.partition(".")[0], each.text) for each in inbox.load_inbox(runtime, factories.ACCOUNT).items]


def test_arrival_without_release_is_an_alarm_of_its_own(workflow: WorkflowHarness) -> None:
    runtime, clock = workflow.runtime, workflow.clock
    export_id = execute_export(workflow)
    clock.pass_seconds(HOUR - 1)
    record_answer(runtime, "received")
    clock.now = ARRIVAL - timedelta(hours=20)
    record_answer(runtime, "accepted")
    assert workflow.one(select(BrokerSubmission)).deadline_at == ARRIVAL - timedelta(hours=2)
    assert list_late(runtime) == []
    clock.now = ARRIVAL - timedelta(hours=2)
    ahead = "the goods arrive at 2026-11-26 18:00 UTC"
    late = ("The customs broker has not answered in time", f"{ahead}; last status accepted")
    assert list_late(runtime) == [late]
    clock.now = ARRIVAL - timedelta(seconds=1)
    assert list_late(runtime) == [late]
    clock.now = ARRIVAL
    past = "the goods arrived at 2026-11-26 18:00 UTC, no release"
    assert (
        list_late(runtime)
        == list_late(runtime)
        == [("The goods arrived, and no release is known", f"{past}; last status accepted")]
    )
    assert read(workflow, export_id).status.endswith(f"by 2026-11-26 16:00:00 UTC, and {past}")
    alarms = read_messages(workflow, export_id, MessageType.HANDOFF_OVERDUE)
    assert [(each["arrived"], each["deadlineAt"], each["arrivesAt"]) for each in alarms] == [
        (arrived, "2026-11-26T16:00:00Z", "2026-11-26T18:00:00Z") for arrived in (False, True)
    ]
    # An entry that is filed only now is due for release at once.
    record_answer(runtime, "filed")
    assert list_late(runtime) == [("The goods arrived, and no release is known", f"{past}; last status filed")]
    record_answer(runtime, "released")
    clock.pass_seconds(365 * DAY)
    assert list_late(runtime) == []
    assert len(read_messages(workflow, export_id, MessageType.HANDOFF_OVERDUE)) == 3


@pytest.mark.parametrize(
    ("arrival", "export_date", "arrives_at"),
    [
        ("2026-11-24T19:24:00Z", "2026-11-24", "2026-11-24T19:24:00+00:00"),
        ("2026-11-23T15:00:01Z", "2026-11-23", "2026-11-23T15:00:01+00:00"),
        ("2026-11-23T15:00:00Z", "2026-11-23", None),  # a day ago: the plan says nothing of goods under way
        (None, "2026-11-26", "2026-11-26T05:00:00+00:00"),  # midnight in New York
        (None, "2026-11-24", None),  # some hour of a day that has begun
    ],
)
def test_handoff_knows_the_first_arrival_of_its_plan(
    workflow: WorkflowHarness, arrival: str | None, export_date: str, arrives_at: str | None
) -> None:
    plan = factories.plan(units=2)
    plan["units"][1]["entry"] |= {"estimatedArrivalAt": arrival, "exportDate": export_date}
    export_id = execute_export(workflow, plan)
    found = workflow.one(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id)).arrives_at
    assert (found and found.isoformat()) == arrives_at


def test_amended_arrival_moves_the_deadline(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    plan = factories.plan()
    plan["units"][0]["entry"] |= {"estimatedArrivalAt": "2026-11-24T19:24:00Z", "modeOfTransport": "air"}
    set_leads(workflow.runtime, {"air": {"receivedMinutes": 240}})
    new = make_amendment(workflow, old, plan).export_id
    for unit_no, name in ((1, "record_packages"), (1, "render_documents"), (0, "notify_broker")):
        workflow.step(new, unit_no, name)
    due = {row.export_id: row.deadline_at for row in workflow.rows(select(BrokerSubmission))}
    # The goods arrive in 4.4 hours. By the settings, the customs broker should have the handoff already.
    assert due == {old: None, new: workflow.clock.now + timedelta(minutes=24)}
