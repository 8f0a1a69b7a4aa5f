"""What the tests of the engine read and change of partners' deliveries."""

from collections import defaultdict

from sqlmodel import col, select

from pipeline.accounts.models import PartnerChannel
from pipeline.deliveries.models import Attempt, Delivery
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


def set_channel(workflow: WorkflowHarness, channel: str, partner_id: str = factories.WAREHOUSE) -> None:
    """Give the partner this channel."""
    with workflow.runtime.db.write() as session:
        session.add(
            PartnerChannel(
                account_id=factories.ACCOUNT,
                partner_id=partner_id,
                channel=channel,
                position=1,
                endpoint={"channel": channel, "url": "http://127.0.0.1:9/"},
            )
        )


def read_deliveries(workflow: WorkflowHarness, export_id: str) -> dict[str, list[str]]:
    """Return the states of the deliveries in order, by audience."""
    states: dict[str, list[str]] = defaultdict(list)
    with workflow.runtime.db.read() as session:
        rows = session.scalars(
            select(Delivery).where(col(Delivery.subject_id) == export_id).order_by(col(Delivery.position))
        )
        for row in rows:
            states[row.audience].append(row.state)
    return states


def assert_all_delivered_once(workflow: WorkflowHarness, export_id: str) -> None:
    """Check that each delivery was recorded as delivered by one attempt, and that no lease is left."""
    with workflow.runtime.db.read() as session:
        rows = session.scalars(select(Delivery).where(col(Delivery.subject_id) == export_id)).all()
        recorded = session.scalars(select(col(Attempt.delivery_id))).all()
    assert {(row.state, row.attempts, row.lease_until) for row in rows} == {("delivered", 1, None)}
    assert sorted(recorded) == sorted(row.id for row in rows)
