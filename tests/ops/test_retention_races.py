"""A purge during running exports never deletes bytes that another export is about to record, nor a plan in use."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core.db import database_now
from pipeline.core.errors import ChannelUnavailable, StoreUnavailable
from pipeline.core.failpoints import hooks
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import attempts, sender, streams
from pipeline.documents import repository
from pipeline.documents.registry import Document
from pipeline.exports import plans as export_plans
from pipeline.exports.models import Account, Artifact, Export, LegalHold, PlanSnapshot
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import DeliveryState
from pipeline.exports.step_context import StepContext, build_context
from pipeline.ops import legal_holds, retention
from pipeline.workflow import preflight
from pipeline.workflow.step_leases import claim_step
from tests.ops.test_retention import execute_export, place_hold, plan
from tests.support import factories
from tests.workflow.conftest import Answers, WorkflowHarness

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("database_url")]

DAY = date(2032, 11, 27)
#: An unhindered purge or hold ends in far less time.
WAITS_SECONDS = 0.2
SHARED = Document("shared", "shared.csv", "text/csv", "1", b"the same bytes in both")


def start_rendering(workflow: WorkflowHarness) -> StepContext:
    """Return the step of an export that renders a document which an expired export has too."""
    old_id = execute_export(workflow, plan("old"))
    old = build_context(workflow.get(Export, old_id), unit_no=1, step="render_documents", fence=1, attempt=1)
    record(workflow, repository.store_document(workflow.runtime, old, 1, SHARED))
    export_id = workflow.accept(plan("new", arrival="2026-12-20T12:00:00Z")).export_id
    workflow.step(export_id, 1, "record_packages")
    context = claim_step(workflow.runtime, export_id, 1, "render_documents")
    assert context is not None
    return context


def record(workflow: WorkflowHarness, row: repository.ArtifactRow) -> None:
    with workflow.runtime.db.write() as session:
        repository.record_documents(session, workflow.store, [row])


def test_export_whose_messages_are_being_sent_is_left_to_the_next_purge(
    workflow: WorkflowHarness, failing_queues: Answers
) -> None:
    with failing_queues(ChannelUnavailable("no room")):
        export_id = execute_export(workflow, plan("old"))
    with workflow.runtime.db.write() as session:
        waits = col(Delivery.state) == DeliveryState.PENDING.value
        session.execute(update(Delivery).where(waits).values(lease_until=None, due_at=database_now()))
    claimed = streams.claim_stream(workflow.runtime, DeliveryStream(export_id, factories.WAREHOUSE, "queue"))
    assert claimed is not None
    assert retention.purge_expired(workflow.runtime, DAY).exports == 0
    (sending,) = sender.send_held(workflow.runtime, [claimed])
    attempts.record_attempts(workflow.runtime, claimed, sending.sent)
    assert sending.sent.failure is None
    assert retention.purge_expired(workflow.runtime, DAY).exports == 1


@contextmanager
def purge_meanwhile(workflow: WorkflowHarness) -> Iterator[threading.Thread]:
    """Run a purge during the block, and wait for its end."""
    thread = threading.Thread(target=retention.purge_expired, args=(workflow.runtime, DAY))
    thread.start()
    try:
        yield thread
    finally:
        thread.join(20)
        assert not thread.is_alive()


def test_bytes_purged_before_they_are_recorded_are_stored_again(workflow: WorkflowHarness) -> None:
    context = start_rendering(workflow)
    row = repository.store_document(workflow.runtime, context, 1, SHARED)
    assert retention.purge_expired(workflow.runtime, DAY).exports == 1
    assert not workflow.store.has(row["sha256"])
    with pytest.raises(StoreUnavailable, match="purged"):
        record(workflow, row)
    record(workflow, repository.store_document(workflow.runtime, context, 1, SHARED))
    assert workflow.store.get(row["sha256"]) == SHARED.body
    assert retention.purge_expired(workflow.runtime, DAY).documents == 0
    assert workflow.store.has(row["sha256"])


def test_purge_waits_for_writer_of_same_bytes_and_keeps_them(workflow: WorkflowHarness) -> None:
    context = start_rendering(workflow)
    row = repository.store_document(workflow.runtime, context, 1, SHARED)
    with purge_meanwhile(workflow) as thread, workflow.runtime.db.write() as session:
        repository.record_documents(session, workflow.store, [row])
        thread.join(WAITS_SECONDS)
        assert thread.is_alive(), "the purge did not wait"
    assert workflow.store.get(row["sha256"]) == SHARED.body
    found = workflow.rows(select(col(Artifact.purged_at)).where(col(Artifact.sha256) == row["sha256"]))
    assert sorted(each is None for each in found) == [False, True]


def test_purge_keeps_registered_plan_that_is_being_executed(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_json = plan("registered")
    registered = preflight.register_plan(
        workflow.runtime, workflow.caller, export_plans.hash_plan(Plan.model_validate(plan_json), plan_json)
    )
    waited: list[bool] = []

    def meanwhile() -> None:
        purge.start()
        purge.join(WAITS_SECONDS)
        waited.append(purge.is_alive())

    purge = threading.Thread(target=retention.purge_expired, args=(workflow.runtime, DAY))
    monkeypatch.setitem(hooks, "accept.mid", meanwhile)
    export_id = workflow.accept(plan_json).export_id
    purge.join(20)
    assert waited == [True]
    with workflow.runtime.db.read() as session:
        assert session.get_one(Export, export_id).plan_id == registered.plan_id
        assert session.get_one(PlanSnapshot, registered.plan_id).document == export_plans.canonical_json(plan_json)


@pytest.mark.parametrize("registered", [False, True])
def test_purge_waits_for_hold_being_placed_on_the_account(workflow: WorkflowHarness, *, registered: bool) -> None:
    one = place_under_hold(workflow, registered=registered)
    with workflow.runtime.db.write() as session:
        # As `legal_holds.place_hold` does before it commits.
        session.get(Account, factories.ACCOUNT, with_for_update={"key_share": True})
        purge = threading.Thread(target=retention.purge_expired, args=(workflow.runtime, DAY))
        purge.start()
        purge.join(WAITS_SECONDS)
        assert purge.is_alive(), "the purge did not wait"
        session.add(LegalHold(id="hld_1", account_id=factories.ACCOUNT, reason="a dispute", placed_by="Legal"))
    purge.join(20)
    assert is_whole(workflow, one)


@pytest.mark.parametrize("registered", [False, True])
def test_hold_on_account_waits_for_running_purge(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, *, registered: bool
) -> None:
    one = place_under_hold(workflow, registered=registered)
    placed: list[bool] = []

    def clear_during_hold(*arguments: Any) -> bool:
        holding.start()
        holding.join(WAITS_SECONDS)
        placed.append(not holding.is_alive())
        return original(*arguments)

    holding = threading.Thread(target=place_hold, args=(workflow, None, "a dispute"))
    original = retention._clear_plan
    monkeypatch.setattr(retention, "_clear_plan", clear_during_hold)
    retention.purge_expired(workflow.runtime, DAY)
    holding.join(20)
    assert (placed, len(legal_holds.list_holds(workflow.runtime)), is_whole(workflow, one)) == ([False], 1, False)


def place_under_hold(workflow: WorkflowHarness, *, registered: bool) -> str:
    """Return the plan of an expired export, or of an expired registered plan."""
    plan_json = plan("one")
    if registered:
        return preflight.register_plan(
            workflow.runtime, workflow.caller, export_plans.hash_plan(Plan.model_validate(plan_json), plan_json)
        ).plan_id
    export_id = execute_export(workflow, plan_json)
    return workflow.get(Export, export_id).plan_id


def is_whole(workflow: WorkflowHarness, plan_id: str) -> bool:
    return workflow.get(PlanSnapshot, plan_id).document != repository.PURGED
