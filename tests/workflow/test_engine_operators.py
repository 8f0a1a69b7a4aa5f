"""The worker that ends an export notifies the operators, unless their messages may be delayed."""

from functools import partial

import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.core.db import database_now
from pipeline.core.failpoints import hooks
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import DeadDelivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import sender
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.deliveries import assert_all_delivered_once, read_deliveries, set_channel


def enqueue_for_operator(workflow: WorkflowHarness, export_id: str, *, leased: bool) -> None:
    """Enqueue another message to the operator, which another worker may be sending."""
    dead = DeadDelivery("dlv_1", "note", "warehouse", "exports.package.recorded.v1", 11, "a test refuses it")
    with workflow.runtime.db.write() as session:
        stream = DeliveryStream(export_id, factories.WAREHOUSE, "queue")
        operator_messages.enqueue_delivery_dead(session, stream, [dead])
        if leased:
            session.execute(
                update(Delivery)
                .where(col(Delivery.audience) == "operator", col(Delivery.state) == "pending")
                .values(lease_until=database_now(30))
            )


def test_operator_gets_all_its_messages_from_one_worker_in_order(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    enqueue = partial(enqueue_for_operator, workflow, export_id, leased=False)
    monkeypatch.setitem(hooks, "notify_broker.before", enqueue)
    assert run_step(workflow.runtime, export_id, 1, "record_packages").tasks == ()
    assert read_deliveries(workflow, export_id)["operator"] == ["delivered"] * 2
    assert_all_delivered_once(workflow, export_id)
    assert workflow.events(export_id).count("OPERATOR_NOTIFIED") == 1


def test_operator_whose_stream_another_worker_sends_is_left_to_it(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    monkeypatch.setitem(hooks, "notify_broker.before", partial(enqueue_for_operator, workflow, export_id, leased=True))
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert result.tasks == (TaskMessage(export_id, partner_id=factories.OPERATOR, channel="queue"),)
    assert read_deliveries(workflow, export_id)["operator"] == ["pending"] * 2
    workflow.clock.pass_seconds(3600)
    sender.deliver_stream(workflow.runtime, export_id, factories.OPERATOR, "queue")
    assert_all_delivered_once(workflow, export_id)


def test_operator_with_an_endpoint_is_notified_by_a_task(workflow: WorkflowHarness) -> None:
    set_channel(workflow, "webhook", factories.OPERATOR)
    export_id = workflow.accept().export_id
    result = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert workflow.state(export_id) == "executed"
    assert set(result.tasks) == {
        TaskMessage(export_id, partner_id=factories.OPERATOR, channel=channel) for channel in ("queue", "webhook")
    }
