"""An export that breaks what works on it is set aside after five tries, with its reason, until an operator retries it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.db import database_now, utc_now
from pipeline.core.errors import ArtifactConflict, RendererCrashed
from pipeline.customs import treatment
from pipeline.deliveries.models import Notification
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.models import Event, ExportPackage, Step
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow import queries, step_failures, sweeper
from pipeline.workflow import read_model as inspection_view
from pipeline.workflow import render_documents as workflow_render_documents
from pipeline.workflow.engine import run_step
from pipeline.workflow.interventions import retry_export
from pipeline.workflow.queries import ExportFilter
from pipeline.workflow.steps import TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.support import factories
from tests.support.servers import PostgreSQL
from tests.workflow.conftest import WorkflowHarness

TRIES = 5
DIED = (
    "render_documents was begun 5 times, and each time its worker came to an end before it could say why: it was killed,"
    " crashed, ran out of memory or out of time; the workers' logs of then say more"
)


def view(workflow: WorkflowHarness, export_id: str) -> ExportView:
    with workflow.runtime.db.read() as session:
        return inspection_view.read_export(session, factories.ACCOUNT, export_id)


def list_exports(workflow: WorkflowHarness, *, quarantined: bool) -> list[str]:
    with workflow.runtime.db.read() as session:
        wanted = ExportFilter(quarantined=quarantined)
        return [
            each.export_id
            for each in queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50).items
        ]


def fail_silently(workflow: WorkflowHarness, export_id: str, name: str) -> None:
    """Claim the step, and leave behind what a worker does that is killed right after it."""
    with workflow.runtime.db.write() as session:
        session.execute(
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
    """Return the facts of the one event that tells of the failure."""
    with workflow.runtime.db.read() as session:
        (event,) = session.scalars(
            select(Event).where(col(Event.export_id) == export_id, col(Event.type) == "EXPORT_FAILED")
        ).all()
        return event.data


def list_operator_messages(workflow: WorkflowHarness, export_id: str) -> dict[str, Any]:
    """Return what the operators are told."""
    with workflow.runtime.db.read() as session:
        (notice,) = session.scalars(select(Notification).where(col(Notification.export_id) == export_id)).all()
    assert (notice.audience, notice.event_type) == ("operator", "exports.export.failed.v1")
    facts: dict[str, Any] = json.loads(notice.data)
    return facts


def fail_rendering(error: Exception) -> Callable[[Invoice], Iterator[Document]]:
    """Return what breaks in the place of the renderer."""

    def render(_: Invoice) -> Iterator[Document]:
        raise error

    return render


def test_export_that_ends_its_workers_is_quarantined_by_the_next_worker_and_not_tried(
    workflow: WorkflowHarness,
) -> None:
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    for tries in range(1, TRIES):
        fail_silently(workflow, export_id, "render_documents")
        if tries > 1:
            assert workflow.sweep() == [], "it is begun again at a moment of its own"
        assert [task.step for task in workflow.sweep()] == ["render_documents"]
    fail_silently(workflow, export_id, "render_documents")
    (due,) = workflow.sweep()
    assert due == TaskMessage(export_id, 1, "render_documents")
    outcome = run_step(workflow.runtime, export_id, due.unit_no, "render_documents")
    assert outcome.completed == ()
    (task,) = outcome.tasks
    assert task == TaskMessage(export_id, partner_id=factories.OPERATOR, channel="queue"), (
        "only the operators are woken"
    )

    seen = view(workflow, export_id)
    assert (seen.state, seen.quarantined, seen.failure) == ("failed", True, f"render_documents: {DIED}")
    assert seen.status == (
        f"Quarantined at render_documents of U1 after 5 attempts, until it is retried or cancelled: {DIED}"
    )
    assert [(step.attempts, step.error) for step in seen.units[0].steps if step.name == "render_documents"] == [
        (TRIES, DIED)
    ]
    facts = {"step": "render_documents", "unitNo": 1, "attempts": TRIES, "reason": DIED, "quarantined": True}
    assert read_failure(workflow, export_id).items() >= facts.items()
    notice = list_operator_messages(workflow, export_id)
    assert (notice["quarantined"], notice["attempts"]) == (True, TRIES)
    assert list_exports(workflow, quarantined=True) == [export_id]
    assert list_exports(workflow, quarantined=False) == []
    assert workflow.sweep() == [], "it is owed nothing any more"


def test_what_ended_together_again_and_again_is_begun_apart(workflow: WorkflowHarness) -> None:
    exports = [workflow.accept(factories.plan(batch=f"batch_{number}")).export_id for number in range(8)]

    def die_together() -> None:
        for export_id in exports:
            fail_silently(workflow, export_id, "record_packages")
        workflow.clock.pass_seconds(30)

    die_together()
    assert len(find_due(workflow.runtime)) == len(exports), "once may be the machine's doing: no time is lost"
    die_together()
    assert find_due(workflow.runtime) == []
    with workflow.runtime.db.read() as session:
        due = session.scalars(select(col(Step.due_at)).where(col(Step.name) == "record_packages")).all()
    assert len(set(due)) == len(exports)
    assert all(workflow.clock.now <= each <= workflow.clock.now + timedelta(seconds=30) for each in due if each)
    assert {step.error for step in view(workflow, exports[0]).units[0].steps} == {None, step_failures.WORKER_LOST}
    workflow.finish(exports[0])
    assert {workflow.state(each) for each in exports} == {"executed"}


@pytest.mark.parametrize("what", ["ends", "renews its lease"])
def test_a_slow_worker_is_not_postponed_by_a_sweep_that_looked_just_before(
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
    with workflow.runtime.db.write() as session:
        session.execute(step.values(attempts=2, fence=2, lease_until=long_ago, due_at=long_ago, error=None))
    done = {"state": "done", "lease_until": None, "due_at": None}
    renewed = {"lease_until": database_now(30), "due_at": database_now(30)}

    def meanwhile(least: float, _: float) -> float:
        with workflow.runtime.db.write() as session:
            session.execute(step.values(done if what == "ends" else renewed))
        return least

    monkeypatch.setattr("pipeline.workflow.sweeper.random.uniform", meanwhile)
    with workflow.runtime.db.write() as session:
        sweeper.stagger_lost_steps(session, workflow.runtime.settings)
    with workflow.runtime.db.read() as session:
        (row,) = session.scalars(
            select(Step).where(col(Step.export_id) == export_id, col(Step.name) == "record_packages")
        ).all()
    assert row.error is None
    if what == "ends":
        assert (row.state, row.lease_until, row.due_at) == ("done", None, None)
    else:
        # The database's clock goes on between the two.
        assert row.lease_until is not None
        assert row.due_at is not None
        assert min(row.lease_until, row.due_at) > utc_now()


def test_message_that_comes_before_the_sweep_sets_it_aside_as_well(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    for _ in range(TRIES):
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
def test_export_that_breaks_the_renderer_is_set_aside_after_five_tries(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(workflow_render_documents, "render_documents", fail_rendering(error))
    export_id = workflow.accept().export_id
    workflow.finish(export_id)
    seen = view(workflow, export_id)
    assert (seen.state, seen.quarantined, seen.failure) == ("failed", True, f"render_documents: {reason}")
    assert workflow.events(export_id).count("STEP_RETRIED") == TRIES - 1
    assert read_failure(workflow, export_id)["attempts"] == TRIES


def test_step_that_its_worker_goes_on_with_has_as_many_tries_as_any_other(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_: object) -> NoReturn:
        raise ZeroDivisionError

    export_id = workflow.accept().export_id
    monkeypatch.setattr(treatment, "line_digests", break_off)
    assert workflow.step(export_id, 1, "record_packages") == ("record_packages",)
    workflow.finish(export_id)
    with workflow.runtime.db.read() as session:
        retried = session.scalars(
            select(Event)
            .where(col(Event.export_id) == export_id, col(Event.type) == "STEP_RETRIED")
            .order_by(col(Event.seq))
        ).all()
    assert [(event.data["step"], event.data["attempt"]) for event in retried] == [
        ("attach_customs", number) for number in range(1, TRIES)
    ]
    assert read_failure(workflow, export_id)["attempts"] == TRIES


def test_known_fault_is_a_failure_and_no_quarantine(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    workflow.store.error_on_put = ArtifactConflict("it came out otherwise")
    workflow.finish(export_id)
    seen = view(workflow, export_id)
    assert (seen.state, seen.quarantined) == ("failed", False)
    assert seen.status.startswith("Failed at render_documents of U1: it came out otherwise")
    assert read_failure(workflow, export_id)["quarantined"] is False
    assert list_exports(workflow, quarantined=True) == []


def test_operator_lets_it_go_on_with_all_its_tries_again(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        workflow_render_documents, "render_documents", fail_rendering(RendererCrashed("the PDF engine died"))
    )
    export_id = workflow.accept().export_id
    workflow.finish(export_id)
    assert view(workflow, export_id).quarantined

    for _ in range(2):  # once before the cause is mended: five tries more, and it is told once more
        retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
        seen = view(workflow, export_id)
        assert (seen.state, seen.quarantined, seen.failure) == ("executing", False, None)
        workflow.finish(export_id)
        monkeypatch.setattr(workflow_render_documents, "render_documents", render_documents)
    assert view(workflow, export_id).state == "executed"
    assert workflow.events(export_id).count("EXPORT_FAILED") == 2
    assert workflow.events(export_id).count("EXPORT_RESUMED") == 2


def test_quarantine_of_one_export_holds_up_no_other(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
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
