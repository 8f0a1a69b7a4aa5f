"""The status text says what is true of the handoff while its customs broker does not take it."""

from pipeline.core.errors import ChannelUnavailable
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import recovery
from pipeline.deliveries.streams.attempts import SendResult, record_attempts
from pipeline.deliveries.streams.streams import claim_stream
from pipeline.workflow.read_model import read_export
from tests.support import factories
from tests.support.task_by_task import task_by_task
from tests.workflow.conftest import WorkflowHarness


def test_handoff_that_waits_for_its_next_attempt_is_not_being_delivered(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    with task_by_task():
        for step in ("record_packages", "render_documents", "close_unit"):
            workflow.step(export_id, 1, step)
        workflow.step(export_id, 0, "hand_off")
    stream = DeliveryStream(export_id, factories.BROKER, "queue")
    claimed = claim_stream(workflow.runtime, stream)
    assert claimed is not None
    away = ChannelUnavailable("the broker's server is down", retry_after_seconds=86_400)
    assert record_attempts(workflow.runtime, claimed, SendResult([], [1], away)).retried
    for step in ("notify_broker", "notify_warehouse", "notify_operator"):
        workflow.step(export_id, 0, step)
    broker = factories.BROKER
    waits = f"{broker} did not take the handoff, which waits for its next attempt: the broker's server is down"
    assert read_status(workflow, export_id) == f"Executed; {waits}"
    with workflow.runtime.db.write() as session:
        assert recovery.make_stream_due(session, workflow.runtime.settings, stream) == 1
    assert claim_stream(workflow.runtime, stream) is not None
    assert read_status(workflow, export_id) == f"Executed; the handoff to {broker} is being delivered"


def read_status(workflow: WorkflowHarness, export_id: str) -> str:
    with workflow.runtime.db.read() as session:
        return read_export(session, factories.ACCOUNT, export_id).status
