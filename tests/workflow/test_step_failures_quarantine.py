"""An export that kills its workers is quarantined after five attempts, with the reason, until an operator retries it."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.clock import utc_now
from pipeline.core.db import database_now
from pipeline.core.errors import ArtifactConflict, RendererCrashed
from pipeline.customs import treatment
from pipeline.deliveries.models import Notification
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.event_models import Event
from pipeline.exports.models import ExportPackage, Step
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.workflow import queries, read_model, step_failures, sweeper
from pipeline.workflow import render_documents as workflow_render_documents
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import retry_export
from pipeline.workflow.steps import TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.support.servers import PostgreSQL
from tests.workflow.conftest import WorkflowHarness

ATTEMPTS = 5
DIED = (
    "render_documents was started 5 times, and its worker died each time without recording a reason: it was killed,"
    " crashed, or ran out of memory or time; see the workers' logs of that time"
)


def view(workflow: WorkflowHarness, export_id: str) -> ExportView:
    with workflow.runtime.db.read() as session:
        return read_model.read_export(session, factories.ACCOUNT, export_id)


def list_exports(workflow: WorkflowHarness, *, quarantined: bool) -> list[str]:
    with workflow.runtime.db.read() as session:
        wanted = ExportFilter(quarantined=quarantined)
        return [
            each.export_id
            for each in queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50).items
        ]


def fail_silently(workflow: WorkflowHarness, export_id: str, name: str) -> None:
    """Claim the step and leave its row as a worker does that is killed right afterwards."""
    workflow.change(
        update(Step)
        .where(col(Step.export_id) == export_id, col(Step.name) == name)
        .values(
            attempts=col(Step.attempts) + 1,
            fence=col(Step.fence) + 1,
            lease_until=database_now(30),
            due_at=database_now(30),
            error=None,
        )
    )


def read_failure(workflow: WorkflowHarness, export_id: str) -> dict[str, Any]:
    """Return the data of the only EXPORT_FAILED event."""
    with workflow.runtime.db.read() as session:
        (event,) = session.scalars(
            select(Event).where(col(Event.export_id) == export_id, col(Event.type) == "EXPORT_FAILED")
        ).all()
        return event.data


def list_operator_messages(workflow: WorkflowHarness, export_id: str) -> dict[str, Any]:
    """Return the message to the operators."""
    (notice,) = workflow.rows(select(Notification).where(col(Notification.export_id) == export_id))
    assert (notice.audience, notice.event_type) == ("operator", "exports.export.failed.v1")
    facts: dict[str, Any] = json.loads(notice.data)
    return facts


def fail_rendering(error: Exception) -> Callable[[Invoice], Iterator[Document]]:
    """Return a renderer that raises `error`."""

    def render(_: Invoice) -> Iterator[Document]:
        raise error

    return render


def test_step_that_killed_its_workers_is_quarantined_without_another_attempt(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    for attempts in range(1, ATTEMPTS):
        fail_silently(workflow, export_id, "render_documents")
        if attempts > 1:
            assert workflow.sweep() == [], "its retry time is random"
        assert [task.step for task in workflow.sweep()] == ["render_documents"]
    fail_silently(workflow, export_id, "render_documents")
    (due,) = workflow.sweep()
    assert due == TaskMessage(export_id, 1, "render_documents")
    outcome = run_step(workflow.runtime, export_id, due.unit_no, "render_documents")
    assert outcome.completed == ()
    (task,) = outcome.tasks
    assert task == TaskMessage(export_id, partner_id=factories.OPERATOR, channel="queue"), (
        "only the operators are notified"
    )

    seen = view(workflow, export_id)
    assert (seen.state, seen.quarantined, seen.failure) == ("failed", True, f"render_documents: {DIED}")
    assert seen.status == (
        f"Quarantined at render_documents of U1 after 5 attempts, until a person retries or cancels it: {DIED}"
    )
    assert [(step.attempts, step.error) for step in seen.units[0].steps if step.name == "render_documents"] == [
        (ATTEMPTS, DIED)
    ]
    facts = {"step": "render_documents", "unitNo": 1, "attempts": ATTEMPTS, "reason": DIED, "quarantined": True}
    assert read_failure(workflow, export_id).items() >= facts.items()
    notice = list_operator_messages(workflow, export_id)
    assert (notice["quarantined"], notice["attempts"]) == (True, ATTEMPTS)
    assert list_exports(workflow, quarantined=True) == [export_id]
    assert list_exports(workflow, quarantined=False) == []
    assert workflow.sweep() == [], "no step of a quarantined export is due"


def test_steps_that_died_together_are_retried_apart(workflow: WorkflowHarness) -> None:
    exports = [workflow.accept(factories.plan(batch=f"batch_{number}")).export_id for number in range(8)]

    def die_together() -> None:
        for export_id in exports:
            fail_silently(workflow, export_id, "record_packages")
        workflow.clock.pass_seconds(30)

    die_together()
    assert len(find_due(workflow.runtime)) == len(exports), (
        "after one death all are due at once, because the machine may be the cause"
    )
    die_together()
    assert find_due(workflow.runtime) == []
    due = workflow.rows(select(col(Step.due_at)).where(col(Step.name) == "record_packages"))
    assert len(set(due)) == len(exports)
    assert all(workflow.clock.now <= each <= workflow.clock.now + timedelta(seconds=30) for each in due if each)
    assert {step.error for step in view(workflow, exports[0]).units[0].steps} == {None, step_failures.WORKER_LOST}
    workflow.finish(exports[0])
    assert {workflow.state(each) for each in exports} == {"executed"}


@pytest.mark.parametrize("what", ["ends", "renews its lease"])
def test_stagger_lost_steps_skips_step_of_a_slow_worker(
    make_workflow: Callable[[str], WorkflowHarness],
    postgres_server: PostgreSQL,
    postgres_template: str,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    workflow = make_workflow(postgres_server.fresh_url(postgres_template))
    export_id = workflow.accept().export_id
    step = update(Step).where(col(Step.export_id) == export_id, col(Step.name) == "record_packages")
    long_ago = database_now(-1)
    workflow.change(step.values(attempts=2, fence=2, lease_until=long_ago, due_at=long_ago, error=None))
    done = {"state": "done", "lease_until": None, "due_at": None}
    renewed = {"lease_until": database_now(30), "due_at": database_now(30)}

    def meanwhile(least: float, _: float) -> float:
        workflow.change(step.values(done if what == "ends" else renewed))
        return least

    monkeypatch.setattr("pipeline.workflow.sweeper.random.uniform", meanwhile)
    with workflow.runtime.db.write() as session:
        sweeper.stagger_lost_steps(session, workflow.runtime.settings)
    (row,) = workflow.rows(select(Step).where(col(Step.export_id) == export_id, col(Step.name) == "record_packages"))
    assert row.error is None
    if what == "ends":
        assert (row.state, row.lease_until, row.due_at) == ("done", None, None)
    else:
        # The database's clock advances between the two statements.
        assert row.lease_until is not None
        assert row.due_at is not None
        assert min(row.lease_until, row.due_at) > utc_now()


def test_task_message_before_the_sweep_quarantines_too(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    for _ in range(ATTEMPTS):
        fail_silently(workflow, export_id, "record_packages")
    workflow.clock.pass_seconds(30)
    assert workflow.step(export_id, 1, "record_packages") == ()
    assert view(workflow, export_id).quarantined
    assert workflow.count(ExportPackage) == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RendererCrashed("the PDF engine died of SIGSEGV"), "the PDF engine died of SIGSEGV"),
        (ZeroDivisionError("4111 1111"), "ZeroDivisionError in render_documents"),
    ],
)
def test_export_that_breaks_the_renderer_is_quarantined_after_five_attempts(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(workflow_render_documents, "render_documents", fail_rendering(error))
    export_id = workflow.accept().export_id
    workflow.finish(export_id)
    seen = view(workflow, export_id)
    assert (seen.state, seen.quarantined, seen.failure) == ("failed", True, f"render_documents: {reason}")
    assert workflow.events(export_id).count("STEP_RETRIED") == ATTEMPTS - 1
    assert read_failure(workflow, export_id)["attempts"] == ATTEMPTS


def test_step_continued_inline_has_all_its_attempts(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(_: object) -> NoReturn:
        raise ZeroDivisionError

    export_id = workflow.accept().export_id
    monkeypatch.setattr(treatment, "line_digests", break_off)
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages",)
    workflow.finish(export_id)
    retried = workflow.rows(
        select(Event)
        .where(col(Event.export_id) == export_id, col(Event.type) == "STEP_RETRIED")
        .order_by(col(Event.seq))
    )
    assert [(event.data["step"], event.data["attempt"]) for event in retried] == [
        ("attach_customs", number) for number in range(1, ATTEMPTS)
    ]
    assert read_failure(workflow, export_id)["attempts"] == ATTEMPTS


def test_known_error_fails_export_without_quarantine(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.store.error_on_put = ArtifactConflict("it has another hash")
    workflow.finish(export_id)
    seen = view(workflow, export_id)
    assert (seen.state, seen.quarantined) == ("failed", False)
    assert seen.status.startswith("Failed at render_documents of U1: it has another hash")
    assert read_failure(workflow, export_id)["quarantined"] is False
    assert list_exports(workflow, quarantined=True) == []


def test_retry_of_quarantined_export_restores_all_attempts(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        workflow_render_documents, "render_documents", fail_rendering(RendererCrashed("the PDF engine died"))
    )
    export_id = workflow.accept().export_id
    workflow.finish(export_id)
    assert view(workflow, export_id).quarantined

    for _ in range(2):  # the first retry comes before the cause is fixed: five more attempts and a second failure
        retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
        seen = view(workflow, export_id)
        assert (seen.state, seen.quarantined, seen.failure) == ("executing", False, None)
        workflow.finish(export_id)
        monkeypatch.setattr(workflow_render_documents, "render_documents", render_documents)
    assert view(workflow, export_id).state == "executed"
    assert workflow.events(export_id).count("EXPORT_FAILED") == 2
    assert workflow.events(export_id).count("EXPORT_RESUMED") == 2


def test_quarantine_of_one_export_does_not_delay_others(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(invoice: Invoice) -> Iterator[Document]:
        if invoice.header.number.startswith("POISON"):
            raise RendererCrashed("the PDF engine died")
        return render_documents(invoice)

    monkeypatch.setattr(workflow_render_documents, "render_documents", render)
    exports = [
        workflow.accept(factories.plan(batch=name, invoice=name)).export_id for name in ("POISON1", "GOOD", "POISON2")
    ]
    workflow.finish(exports[0])
    assert [view(workflow, each).state for each in exports] == ["failed", "executed", "failed"]
    assert sorted(list_exports(workflow, quarantined=True)) == sorted([exports[0], exports[2]])
