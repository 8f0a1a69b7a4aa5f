"""The outcome of an export: the same in the list, its filter and the export itself."""

import itertools
import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from pipeline.core.runtime import Runtime
from pipeline.deliveries import outcomes
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExportSummary
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import NEEDS_PERSON, DeliveryState, ExportState, Outcome, SubmissionState
from pipeline.workflow import queries, read_model
from tests.deliveries.conftest import OpenRuntime, register_partners
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.filled import fill
from tests.support.query_counter import record_plans, record_statements

LATE = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
STATUSES = {
    SubmissionState.PENDING: Outcome.WITH_BROKER,
    SubmissionState.SENT: Outcome.WITH_BROKER,
    SubmissionState.DELIVERED: Outcome.WITH_BROKER,
    SubmissionState.RECEIVED: Outcome.WITH_BROKER,
    SubmissionState.ACCEPTED: Outcome.ACCEPTED,
    SubmissionState.REJECTED: Outcome.REJECTED,
    SubmissionState.QUERY: Outcome.QUERY,
    SubmissionState.FILED: Outcome.FILED,
    SubmissionState.RELEASED: Outcome.RELEASED,
    SubmissionState.HELD: Outcome.HELD,
    SubmissionState.WITHDRAWING: Outcome.WITHDRAWING,
    SubmissionState.WITHDRAWN: Outcome.WITHDRAWN,
    SubmissionState.NOT_WITHDRAWN: Outcome.NOT_WITHDRAWN,
    SubmissionState.FAILED: Outcome.UNDELIVERABLE,
}
STATES = {
    ExportState.ACCEPTED: Outcome.IN_PROGRESS,
    ExportState.EXECUTING: Outcome.IN_PROGRESS,
    ExportState.FAILED: Outcome.NEEDS_ATTENTION,
    ExportState.CANCELLED: Outcome.CANCELLED,
    ExportState.SUPERSEDED: Outcome.SUPERSEDED,
}


@pytest.fixture
def runtime(make_runtime: OpenRuntime, database_url: str) -> Runtime:
    """A runtime on each database, with the partners of the example plans."""
    runtime = make_runtime(database_url=database_url)
    fill(runtime, register_partners)
    return runtime


def shape(
    runtime: Runtime,
    export_id: str,
    state: ExportState = ExportState.EXECUTED,
    status: SubmissionState = SubmissionState.DELIVERED,
    *,
    overdue: bool = False,
    dead: str | None = None,
    held: bool = False,
) -> None:
    """Set the states of a handed-off export's rows. `dead` is the partner whose deliveries are dead."""
    late = LATE if overdue else None
    with runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == export_id).values(state=state.value))
        session.execute(update(Export).where(col(Export.id) == export_id).values(hold_seq=1 if held else None))
        session.execute(
            update(BrokerSubmission)
            .where(col(BrokerSubmission.export_id) == export_id)
            .values(state=status.value, overdue_at=late, deadline_at=late)
        )
        here = update(Delivery).where(col(Delivery.subject_id) == export_id)
        session.execute(here.values(state=DeliveryState.DELIVERED.value))
        if dead:
            session.execute(here.where(col(Delivery.audience) == dead).values(state=DeliveryState.DEAD.value))


def read_outcome(runtime: Runtime, export_id: str) -> Outcome:
    """Return the outcome of the export. The list, its filters and the export itself must agree."""
    with runtime.db.read() as session:
        described = read_model.read_export(session, factories.ACCOUNT, export_id).outcome
        listed = {each.export_id: each.outcome for each in count_exports(session)}
        found = [
            outcome for outcome in Outcome if export_id in {each.export_id for each in count_exports(session, outcome)}
        ]
    assert listed[export_id] is described
    assert found == [described]
    return described


def count_exports(session: Session, *outcomes: Outcome) -> list[ExportSummary]:
    return queries.list_exports(session, factories.ACCOUNT, ExportFilter(outcome=outcomes), cursor=None, limit=9).items


def hand_off(runtime: Runtime, batch: str = factories.BATCH) -> str:
    export = exports.prepare_export(runtime, factories.plan(batch=batch, invoice=batch))
    exports.hand_off(runtime, export)
    return export.export_id


def test_each_state_and_each_status_has_its_outcome(runtime: Runtime) -> None:
    hand_off(runtime, "another")
    export_id = hand_off(runtime)
    for state, outcome in STATES.items():
        shape(runtime, export_id, state, SubmissionState.REJECTED, overdue=True, dead="warehouse")
        assert read_outcome(runtime, export_id) is outcome, state
    for status, outcome in STATUSES.items():
        shape(runtime, export_id, status=status)
        assert read_outcome(runtime, export_id) is outcome, status


def test_triggers_keep_what_the_facts_say(runtime: Runtime) -> None:
    export_id = hand_off(runtime)
    for state, status, overdue, dead in itertools.product(
        ExportState, SubmissionState, (False, True), (None, "warehouse")
    ):
        if state is ExportState.EXECUTED or (overdue and dead and status is SubmissionState.REJECTED):
            shape(runtime, export_id, state, status, overdue=overdue, dead=dead, held=overdue)
            derived = outcomes.derive_outcome(
                state, status, held=overdue, undelivered=dead is not None, overdue=overdue
            )
            with runtime.db.read() as session:
                assert outcomes.read_outcome(session, export_id) is derived, (state, status, overdue, dead)


def test_late_answer_is_overdue_unless_it_needs_a_person(runtime: Runtime) -> None:
    export_id = hand_off(runtime)
    for status in (SubmissionState.PENDING, SubmissionState.DELIVERED, SubmissionState.ACCEPTED, SubmissionState.FILED):
        shape(runtime, export_id, status=status, overdue=True)
        assert read_outcome(runtime, export_id) is Outcome.OVERDUE, status
    for status in (SubmissionState.REJECTED, SubmissionState.QUERY, SubmissionState.HELD):
        shape(runtime, export_id, status=status, overdue=True, dead="warehouse")
        assert read_outcome(runtime, export_id) is STATUSES[status]


def test_dead_warehouse_message_is_undeliverable_and_a_dead_copy_is_not(runtime: Runtime) -> None:
    export_id = hand_off(runtime)
    shape(runtime, export_id, status=SubmissionState.RELEASED, dead="warehouse")
    assert read_outcome(runtime, export_id) is Outcome.UNDELIVERABLE
    for audience in ("operator", "customs_broker"):
        shape(runtime, export_id, status=SubmissionState.RELEASED, dead=audience)
        assert read_outcome(runtime, export_id) is Outcome.RELEASED, audience


def test_filter_by_several_outcomes_finds_all(runtime: Runtime) -> None:
    rejected, held, released = (hand_off(runtime, batch) for batch in ("A", "B", "C"))
    shape(runtime, rejected, status=SubmissionState.REJECTED)
    shape(runtime, held, status=SubmissionState.HELD)
    shape(runtime, released, status=SubmissionState.RELEASED)
    with runtime.db.read() as session:
        found = count_exports(session, Outcome.REJECTED, Outcome.HELD)
    assert [each.export_id for each in found] == [held, rejected]


@pytest.mark.parametrize(
    ("stands_at", "described"),
    [
        (SubmissionState.PENDING, "overdue: the handoff to br_1 was not delivered by 2026-11-24 16:00:00 UTC"),
        (SubmissionState.DELIVERED, "overdue: br_1 did not answer by 2026-11-24 16:00:00 UTC"),
        (SubmissionState.FILED, "overdue: br_1 filed the entry but customs did not release the goods by 2026-11-24"),
    ],
)
def test_status_text_names_the_overdue_status_and_deadline(
    runtime: Runtime, stands_at: SubmissionState, described: str
) -> None:
    export_id = hand_off(runtime)
    shape(runtime, export_id, status=stands_at, overdue=True)
    with runtime.db.read() as session:
        status = read_model.read_export(session, factories.ACCOUNT, export_id).status
    assert described.replace("br_1", factories.BROKER) in status


def test_filtered_list_is_one_statement_that_uses_an_index(runtime: Runtime) -> None:
    """An account has a million exports, and the filter may match none of them."""
    hand_off(runtime)
    filters = [ExportFilter(state=state) for state in ExportState]
    filters += [ExportFilter(outcome=(outcome,)) for outcome in Outcome]
    filters += [ExportFilter(), ExportFilter(quarantined=True), ExportFilter(outcome=tuple(Outcome))]
    filters += [ExportFilter(broker="br_none"), ExportFilter(warehouse="wh_none")]
    filters += [ExportFilter(outcome=tuple(NEEDS_PERSON), broker="br_none", accepted_after=LATE)]
    for wanted in filters:
        with record_statements(runtime.db) as asked, record_plans(runtime.db) as plans, runtime.db.read() as session:
            queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50)
        assert len([each for each in asked if each.startswith("SELECT")]) == 1
        # What is sorted is a page.
        assert [step for step in plans if re.match(r"SCAN (?!anon)|.*Seq Scan", step)] == [], wanted


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (ExportFilter(), "ix_exports_account_id_id"),
        (ExportFilter(state=ExportState.EXECUTED), "ix_exports_state"),
        *((ExportFilter(outcome=(outcome,)), "ix_exports_outcome") for outcome in Outcome),
        (ExportFilter(outcome=(Outcome.HELD,), state=ExportState.EXECUTED), "ix_exports_outcome"),
        (ExportFilter(outcome=(Outcome.HELD,), accepted_after=LATE, accepted_before=LATE), "ix_exports_outcome"),
        (ExportFilter(outcome=(Outcome.HELD,), broker=factories.BROKER), "ix_exports_broker_outcome"),
        (ExportFilter(outcome=(Outcome.HELD,), warehouse=factories.WAREHOUSE), "ix_exports_warehouse_outcome"),
    ],
)
def test_filter_has_its_index(runtime: Runtime, wanted: ExportFilter, index: str) -> None:
    with record_plans(runtime.db) as plans, runtime.db.read() as session:
        queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50)
    assert any(index in step for step in plans), plans


@pytest.mark.parametrize(
    "wanted",
    # Without a filter PostgreSQL uses any index that begins with the account if it has few rows.
    [
        ExportFilter(state=ExportState.EXECUTED),
        ExportFilter(outcome=(Outcome.HELD,)),
        ExportFilter(outcome=(Outcome.UNDELIVERABLE,), broker=factories.BROKER),
        ExportFilter(outcome=(Outcome.OVERDUE,), accepted_after=LATE),
    ],
)
def test_later_page_does_not_read_the_pages_before_it(runtime: Runtime, wanted: ExportFilter) -> None:
    cursor = queries._encode_cursor("exp_1")
    with record_plans(runtime.db) as plans, runtime.db.read() as session:
        queries.list_exports(session, factories.ACCOUNT, wanted, cursor=cursor, limit=50)
    assert any(re.search(r"<\(\?,\?\)|Index Cond: .*ROW\(", step) for step in plans), plans


def test_days_and_outcome_bound_the_index_together(runtime: Runtime) -> None:
    wanted = ExportFilter(outcome=(Outcome.UNDELIVERABLE,), accepted_after=LATE, accepted_before=LATE)
    with record_plans(runtime.db) as plans, runtime.db.read() as session:
        queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50)
    both = r"\(outcome,id\)>\(\?,\?\) AND \(outcome,id\)<\(\?,\?\)|ROW\(.*>= ROW\(.*<= ROW\("
    assert any(re.search(both, step) for step in plans), plans


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ExportFilter(state=ExportState.EXECUTED, outcome=(Outcome.REJECTED, Outcome.NEEDS_ATTENTION)), ["B"]),
        (ExportFilter(state=ExportState.FAILED, outcome=(Outcome.REJECTED, Outcome.NEEDS_ATTENTION)), ["A"]),
        (ExportFilter(state=ExportState.FAILED, outcome=(Outcome.REJECTED,)), []),
        (ExportFilter(quarantined=True, outcome=(Outcome.REJECTED,)), []),
        (ExportFilter(quarantined=True, outcome=(Outcome.NEEDS_ATTENTION,)), []),
        (ExportFilter(quarantined=False, outcome=(Outcome.NEEDS_ATTENTION,)), ["A"]),
        (ExportFilter(outcome=(Outcome.REJECTED,), accepted_after=FUTURE), []),
        (ExportFilter(outcome=(Outcome.REJECTED,), accepted_before=FUTURE), ["B"]),
        (ExportFilter(outcome=(Outcome.REJECTED,), accepted_after=PAST, accepted_before=FUTURE), ["B"]),
        (ExportFilter(outcome=(Outcome.REJECTED,), accepted_before=PAST), []),
        (ExportFilter(outcome=(Outcome.REJECTED,), broker="br_none"), []),
        (ExportFilter(outcome=(Outcome.REJECTED,), warehouse=factories.WAREHOUSE), ["B"]),
    ],
)
def test_outcome_and_other_filters_both_hold(runtime: Runtime, wanted: ExportFilter, found: list[str]) -> None:
    failed, rejected = hand_off(runtime, "A"), hand_off(runtime, "B")
    shape(runtime, failed, ExportState.FAILED)
    shape(runtime, rejected, status=SubmissionState.REJECTED)
    with runtime.db.read() as session:
        listed = queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=9).items
    assert [each.batch_id for each in listed] == found


def test_page_after_a_cursor_stays_within_the_days(runtime: Runtime) -> None:
    older, newer = hand_off(runtime, "A"), hand_off(runtime, "B")
    for each in (older, newer):
        shape(runtime, each, status=SubmissionState.HELD)
    future, past = (ExportFilter(outcome=(Outcome.HELD,), accepted_before=each) for each in (FUTURE, PAST))
    for wanted, cursor, found in (
        (future, newer, [older]),
        (future, older, []),
        (future, "exp_zzz", [newer, older]),
        (past, "exp_zzz", []),
    ):
        with runtime.db.read() as session:
            after = queries._encode_cursor(cursor)
            page = queries.list_exports(session, factories.ACCOUNT, wanted, cursor=after, limit=9)
        assert [each.export_id for each in page.items] == found


def test_version_of_an_account_is_read_from_one_index_entry(runtime: Runtime) -> None:
    hand_off(runtime)
    with record_plans(runtime.db) as plans, runtime.db.read() as session:
        version = queries.read_account_version(session, factories.ACCOUNT)
        export = session.scalars(select(Export)).one()
        assert version == export.updated_at.isoformat()
        assert queries.read_account_version(session, "acc_none") == ""
    assert any("ix_exports_updated_at" in step for step in plans), plans


def test_outcome_of_a_removed_dead_letter_is_that_of_the_handoff(runtime: Runtime) -> None:
    export_id = hand_off(runtime)
    shape(runtime, export_id, status=SubmissionState.FILED, dead="warehouse")
    assert read_outcome(runtime, export_id) is Outcome.UNDELIVERABLE
    stored.change(runtime, delete(Delivery).where(col(Delivery.state) == DeliveryState.DEAD.value))
    assert read_outcome(runtime, export_id) is Outcome.FILED
