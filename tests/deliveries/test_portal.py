"""What a partner sees of its deliveries and handoffs: its own, sent ones only, read by index, page by page."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.accounts.portal_links import PartnerVisitor
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries import portal
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.exports.states import DeliveryState
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.people import read_now
from tests.support.query_counter import record_plans
from tests.workflow.conftest import WorkflowHarness


def visitor_of(partner_id: str, *, test: bool = False, account: str = factories.ACCOUNT) -> PartnerVisitor:
    return PartnerVisitor(account, partner_id, test)


BROKER, WAREHOUSE = visitor_of(factories.BROKER), visitor_of(factories.WAREHOUSE)


@pytest.fixture
def runtime_on_both(make_workflow: Callable[[str], WorkflowHarness], database_url: str) -> Runtime:
    """A runtime on each of the databases, with the partners of the example plans."""
    opened = make_workflow(database_url).runtime
    exports.register_once(opened, factories.BROKER, "customs_broker")
    exports.register_once(opened, factories.WAREHOUSE, "warehouse")
    return opened


def hand_off(runtime: Runtime, batch: str, *, test: bool = False) -> str:
    export = exports.prepare_export(runtime, factories.plan(batch=batch, packages=3), test=test)
    exports.hand_off(runtime, export)
    return export.export_id


def set_state(runtime: Runtime, export_id: str, partner_id: str, state: DeliveryState) -> None:
    stored.change(
        runtime,
        update(Delivery)
        .where(col(Delivery.subject_id) == export_id, col(Delivery.partner_id) == partner_id)
        .values({"state": state.value}),
    )


def listed(runtime: Runtime, visitor: PartnerVisitor, state: DeliveryState | None = None, limit: int = 50) -> list[str]:
    """Return the ids of all deliveries that the visitor's pages list."""
    found: list[str] = []
    cursor = None
    while True:
        page = portal.list_deliveries(runtime, visitor, state=state, after=cursor, limit=limit)
        found += [each.id for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_partner_sees_only_its_own(runtime_on_both: Runtime) -> None:
    hand_off(runtime_on_both, "b1")
    for export_state in (factories.BROKER, factories.WAREHOUSE):
        with runtime_on_both.db.read() as session:
            export_id = session.scalars(select(col(Delivery.subject_id))).first()
        set_state(runtime_on_both, str(export_id), export_state, DeliveryState.DELIVERED)
    handoffs, packages = listed(runtime_on_both, BROKER), listed(runtime_on_both, WAREHOUSE)
    assert (len(handoffs), len(packages)) == (1, 3)
    strangers = [visitor_of("br_none"), visitor_of(factories.BROKER, account="acc_none"), visitor_of("")]
    for stranger in strangers:
        assert listed(runtime_on_both, stranger) == []
        assert set(portal.count_deliveries(runtime_on_both, stranger).values()) == {0}
        assert portal.list_handoffs(runtime_on_both, stranger, after=None, limit=5).items == []
    for stranger in (*strangers, WAREHOUSE):
        with pytest.raises(NotFound):
            portal.read_message(runtime_on_both, stranger, handoffs[0])
        with pytest.raises(NotFound):
            portal.check_delivery(runtime_on_both, stranger, handoffs[0])
        with pytest.raises(NotFound):
            portal.list_deliveries(runtime_on_both, stranger, state=None, after=handoffs[0], limit=5)
    (handoff,) = portal.list_handoffs(runtime_on_both, BROKER, after=None, limit=5).items
    for stranger in (*strangers, WAREHOUSE):
        with pytest.raises(NotFound):
            portal.read_handoff(runtime_on_both, stranger, handoff.submission_id)
        with pytest.raises(NotFound):
            portal.read_document(runtime_on_both, stranger, handoff.submission_id, "art_1")


def test_unsent_and_cancelled_messages_are_hidden(runtime_on_both: Runtime) -> None:
    export_id = hand_off(runtime_on_both, "b1")
    for state, shown in (
        (DeliveryState.WAITING, 0),
        (DeliveryState.CANCELLED, 0),
        (DeliveryState.PENDING, 3),
        (DeliveryState.DELIVERED, 3),
        (DeliveryState.DEAD, 3),
    ):
        set_state(runtime_on_both, export_id, factories.WAREHOUSE, state)
        set_state(runtime_on_both, export_id, factories.BROKER, state)
        assert len(listed(runtime_on_both, WAREHOUSE)) == shown
        assert len(portal.list_handoffs(runtime_on_both, BROKER, after=None, limit=5).items) == bool(shown)
        if shown:
            assert portal.count_deliveries(runtime_on_both, WAREHOUSE)[state] == shown
            assert len(listed(runtime_on_both, WAREHOUSE, state)) == shown


def test_test_exports_are_shown_only_to_test_partners(runtime_on_both: Runtime) -> None:
    hand_off(runtime_on_both, "b1", test=True)
    with runtime_on_both.db.write() as session:
        session.execute(update(Delivery).values(state=DeliveryState.DELIVERED.value))
        (submission_id,) = session.scalars(select(col(BrokerSubmission.id)))
    assert listed(runtime_on_both, BROKER) == []
    with pytest.raises(NotFound):
        portal.read_handoff(runtime_on_both, BROKER, submission_id)
    marked = replace(BROKER, test=True)
    (delivery_id,) = listed(runtime_on_both, marked)
    assert portal.read_message(runtime_on_both, marked, delivery_id).body is not None
    assert portal.read_handoff(runtime_on_both, marked, submission_id).test


def test_pages_hold_each_delivery_once_the_newest_export_first(runtime_on_both: Runtime) -> None:
    made = [hand_off(runtime_on_both, f"b{number}") for number in range(4)]
    for export_id in made[1:]:
        set_state(runtime_on_both, export_id, factories.WAREHOUSE, DeliveryState.DEAD)
    set_state(runtime_on_both, made[0], factories.WAREHOUSE, DeliveryState.DELIVERED)
    found: list[str] = []
    for limit in (1, 2, 5, 50):
        found = listed(runtime_on_both, WAREHOUSE, limit=limit)
        assert len(found) == len(set(found)) == 12
        assert len(listed(runtime_on_both, WAREHOUSE, DeliveryState.DEAD, limit)) == 9
    with runtime_on_both.db.read() as session:
        exports_by_delivery = dict(session.execute(select(col(Delivery.id), col(Delivery.subject_id))).all())
    order = [exports_by_delivery[each] for each in found]
    assert order == sorted(order, reverse=True)


def test_handoffs_are_paged_the_last_changed_first(runtime_on_both: Runtime) -> None:
    for number in range(3):
        export_id = hand_off(runtime_on_both, f"b{number}")
        set_state(runtime_on_both, export_id, factories.BROKER, DeliveryState.DELIVERED)
    first = portal.list_handoffs(runtime_on_both, BROKER, after=None, limit=2)
    second = portal.list_handoffs(runtime_on_both, BROKER, after=first.next_cursor, limit=2)
    found = (*first.items, *second.items)
    assert sorted(each.batch_id for each in found) == ["b0", "b1", "b2"]
    order = [(each.updated_at, each.submission_id) for each in found]
    assert order == sorted(order, reverse=True)
    assert second.next_cursor is None


@pytest.mark.parametrize(
    ("state", "index"),
    [
        (None, "ix_deliveries_partner"),
        (DeliveryState.DELIVERED, "ix_deliveries_partner"),
        (DeliveryState.PENDING, "ix_deliveries_partner_state"),
        (DeliveryState.DEAD, "ix_deliveries_partner_state"),
    ],
)
def test_lists_are_read_by_the_index_of_the_partner(
    runtime_on_both: Runtime, state: DeliveryState | None, index: str
) -> None:
    export_id = hand_off(runtime_on_both, "b1")
    set_state(runtime_on_both, export_id, factories.WAREHOUSE, state or DeliveryState.DELIVERED)
    (after, *_) = listed(runtime_on_both, WAREHOUSE)
    with record_plans(runtime_on_both.db) as plans:
        portal.list_deliveries(runtime_on_both, WAREHOUSE, state=state, after=after, limit=2)
    assert any(index in step for step in plans), plans


def test_purged_message_has_no_text(runtime_on_both: Runtime) -> None:
    export_id = hand_off(runtime_on_both, "b1")
    set_state(runtime_on_both, export_id, factories.BROKER, DeliveryState.DELIVERED)
    (delivery_id,) = listed(runtime_on_both, BROKER)
    (handoff,) = portal.list_handoffs(runtime_on_both, BROKER, after=None, limit=5).items
    exports.purge(runtime_on_both, export_id)
    assert portal.read_message(runtime_on_both, BROKER, delivery_id).body is None
    read = portal.read_handoff(runtime_on_both, BROKER, handoff.submission_id)
    assert (read.message, read.read_units(range(9)).documents, read.list_fields()) == (None, [], {})


def test_message_of_the_partner_is_found_by_its_id(runtime_on_both: Runtime) -> None:
    export_id = hand_off(runtime_on_both, "b1")
    set_state(runtime_on_both, export_id, factories.BROKER, DeliveryState.DELIVERED)
    (delivery_id,) = listed(runtime_on_both, BROKER)
    sent = portal.read_message(runtime_on_both, BROKER, delivery_id)
    assert portal.find_message(runtime_on_both, BROKER, sent.delivery.notification_id) == sent.body
    assert portal.find_message(runtime_on_both, WAREHOUSE, sent.delivery.notification_id) is None
    assert portal.find_message(runtime_on_both, BROKER, "") is None


def test_handoffs_with_an_answer_due_are_paged_the_earliest_deadline_first(runtime_on_both: Runtime) -> None:
    made = [hand_off(runtime_on_both, f"b{number}") for number in range(4)]
    now = read_now(runtime_on_both)
    due = {made[0]: 3, made[1]: 1, made[2]: 2, made[3]: None}
    for export_id, hours in due.items():
        set_state(runtime_on_both, export_id, factories.BROKER, DeliveryState.DELIVERED)
        deadline_at = None if hours is None else now + timedelta(hours=hours)
        with runtime_on_both.db.write() as session:
            submission = update(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id)
            session.execute(submission.values(deadline_at=deadline_at))
    assert portal.count_due_handoffs(runtime_on_both, BROKER) == 3
    with record_plans(runtime_on_both.db) as plans:
        first = portal.list_handoffs(runtime_on_both, BROKER, after=None, limit=2, due=True)
    assert any("ix_broker_submissions_due" in step for step in plans), plans
    second = portal.list_handoffs(runtime_on_both, BROKER, after=first.next_cursor, limit=2, due=True)
    assert [each.batch_id for each in (*first.items, *second.items)] == ["b1", "b2", "b0"]
    assert second.next_cursor is None
    stored.change(runtime_on_both, update(BrokerSubmission).values(deadline_at=None))
    assert portal.count_due_handoffs(runtime_on_both, BROKER) == 0
    again = portal.list_handoffs(runtime_on_both, BROKER, after=first.next_cursor, limit=2, due=True)
    assert again.items == []
