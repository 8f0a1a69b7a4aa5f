"""A process that is asked to stop releases its steps without counting an attempt."""

from collections.abc import Iterator

import pytest

from pipeline.accounts.models import Partner
from pipeline.core import shutdown
from pipeline.core.failpoints import hooks
from pipeline.deliveries.streams import sender
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.models import Artifact
from pipeline.workflow import render_documents as workflow_render_documents
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness


@pytest.fixture(autouse=True)
def reset_shutdown() -> Iterator[None]:
    """Reset the shutdown request."""
    yield
    shutdown.reset()


def test_step_before_shutdown_is_released_without_an_attempt(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    shutdown.request()
    outcome = run_step(workflow.runtime, export_id, 1, "record_packages")
    assert (outcome.completed, outcome.halted) == ((), True)
    assert outcome.tasks == (TaskMessage(export_id, 1, "record_packages"),), "another worker gets a task message"
    left = workflow.read_step(export_id, "record_packages")
    assert (left.state, left.attempts, left.lease_until) == ("ready", 0, None)
    assert workflow.events(export_id) == ["EXPORT_ACCEPTED"]
    shutdown.reset()
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages", "attach_customs")
    assert workflow.read_step(export_id, "record_packages").attempts == 1


def test_rendering_stops_between_documents_and_another_worker_finishes(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    rendered: list[str] = []

    def render(invoice: Invoice) -> Iterator[Document]:
        for document in render_documents(invoice):
            rendered.append(document.filename)
            shutdown.request()
            yield document

    with monkeypatch.context() as patched:
        patched.setattr(workflow_render_documents, "render_documents", render)
        outcome = run_step(workflow.runtime, export_id, 1, "render_documents")
    assert (len(rendered), outcome.completed, outcome.tasks) == (
        1,
        (),
        (TaskMessage(export_id, 1, "render_documents"),),
    )
    assert (workflow.read_step(export_id, "render_documents").attempts, workflow.count(Artifact)) == (0, 0)
    assert "STEP_RETRIED" not in workflow.events(export_id)
    shutdown.reset()
    assert "render_documents" in workflow.step(export_id, 1, "render_documents")
    assert workflow.read_step(export_id, "render_documents").attempts == 1


def test_profile_documents_stop_between_units(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"name": "Demo", "filename": "a.csv", "format": "csv", "columns": [{"header": "a", "field": "invoice_no"}]}
    with workflow.runtime.db.write() as session:
        session.get_one(Partner, (factories.ACCOUNT, factories.BROKER)).profile = words
    export_id = workflow.accept(factories.plan(units=2)).export_id
    for unit_no, name in ((1, "record_packages"), (1, "render_documents"), (2, "record_packages")):
        workflow.step(export_id, unit_no, name)
    rendered: list[str] = []

    def profile_document(*_: object) -> Document:
        rendered.append("a.csv")
        shutdown.request()
        return Document("broker_profile", "a.csv", "text/csv", "1", b"a")

    monkeypatch.setattr("pipeline.deliveries.handoff.profiles.profile_document", profile_document)
    outcome = run_step(workflow.runtime, export_id, 2, "render_documents")
    assert (len(rendered), outcome.completed) == (1, ("render_documents", "close_unit"))
    assert outcome.tasks == (TaskMessage(export_id, 0, "hand_off"),)


def test_next_step_claimed_during_shutdown_is_released(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = workflow.accept(factories.plan(units=2)).export_id
    for unit_no, name in ((1, "record_packages"), (1, "render_documents"), (2, "record_packages")):
        workflow.step(export_id, unit_no, name)
    # As if the signal came during the write of the first step.
    monkeypatch.setitem(hooks, "render_documents.mid", shutdown.request)
    outcome = run_step(workflow.runtime, export_id, 2, "render_documents")
    assert (outcome.completed, outcome.tasks) == (
        ("render_documents", "close_unit"),
        (TaskMessage(export_id, 0, "hand_off"),),
    )
    left = workflow.read_step(export_id, "hand_off", unit_no=0)
    assert (left.state, left.attempts, left.lease_until) == ("ready", 0, None)


def test_deliver_stream_during_shutdown_sends_nothing(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    for name in ("record_packages", "render_documents"):
        workflow.step(export_id, 1, name)
    workflow.step(export_id, 0, "hand_off")
    shutdown.request()
    assert sender.deliver_stream(workflow.runtime, export_id, factories.WAREHOUSE, "queue") == sender.DeliveryReport()
    shutdown.reset()
    assert sender.deliver_stream(workflow.runtime, export_id, factories.WAREHOUSE, "queue").delivered == 2
