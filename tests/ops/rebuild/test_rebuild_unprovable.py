"""The rebuild changes nothing that it cannot prove: it rejects a broken log, and reports what it leaves."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel, col, select

from pipeline.core.db import table
from pipeline.deliveries.models import Acknowledgement, Attempt, BrokerSubmission, Delivery, Notification
from pipeline.deliveries.streams import sender
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export, ExportPackage, ExportUnit, LineTreatment, PlanSnapshot
from pipeline.ops import audit, retention
from pipeline.ops.rebuild import service
from pipeline.workflow.steps import NOTIFY_STEPS
from tests.ops.rebuild.test_rebuild import content, differences, restore, restore_all, run_answered_export
from tests.ops.tampering import open_unguarded
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, list_pending

pytestmark = pytest.mark.system


def test_rebuild_without_apply_writes_nothing(workflow: WorkflowHarness) -> None:
    export_id = run_answered_export(workflow)
    workflow.change(sa.update(ExportPackage).values(sscc=None))
    before, log = content(workflow), workflow.events(export_id)
    assert not service.rebuild_exports(workflow.runtime).intact
    assert (content(workflow), workflow.events(export_id)) == (before, log)


def test_rebuild_with_broken_log_restores_nothing(workflow: WorkflowHarness, database_url: str) -> None:
    run_answered_export(workflow)
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.update(table(Event)).where(col(Event.seq) == 2).values(actor="another"))
        connection.execute(sa.update(table(ExportPackage)).values(type="PLT"))
    before = content(workflow)
    (one,) = service.rebuild_exports(workflow.runtime, apply=True).damaged
    assert one.refusal == "its log is broken: event 2 is changed"
    assert content(workflow) == before


@pytest.mark.parametrize("gone", ["BROKER_ACKNOWLEDGED", "EXPORT_EXECUTED", "HANDED_OFF"])
def test_rebuild_with_cut_off_log_restores_nothing(workflow: WorkflowHarness, database_url: str, gone: str) -> None:
    export_id = run_answered_export(workflow)
    last = workflow.events(export_id).index(gone)
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.delete(table(Event)).where(col(Event.seq) > last))
    before = content(workflow)
    (one,) = service.rebuild_exports(workflow.runtime, apply=True).damaged
    assert one.refusal == f"its log is broken: event {last + 1} is missing"
    assert (content(workflow), len(workflow.events(export_id))) == (before, last)
    assert not audit.verify_chains(workflow.runtime).intact


def test_rebuild_restores_event_number_that_is_too_low(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = run_answered_export(workflow)
    events = len(workflow.events(export_id))
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.update(table(Export)).values(next_seq=3))
    found, left = restore(workflow)
    assert ([(d.table, d.columns) for d in found.differences], left.intact) == ([("exports", ["next_seq"])], True)
    assert len(workflow.events(export_id)) == events + 1
    assert audit.verify_chains(workflow.runtime).intact


def test_rebuild_removes_added_rows_but_keeps_attempted_messages(workflow: WorkflowHarness, database_url: str) -> None:
    """The end of the log and the export's last number are gone, so only the remaining events count."""
    export_id = execute_export(workflow, factories.plan(), deliver=False)
    (first, *_) = list_pending(workflow, export_id)
    assert sender.deliver_stream(workflow.runtime, export_id, first.partner_id, first.channel).delivered
    handed_off = workflow.events(export_id).index("HANDED_OFF") + 1
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.delete(table(Event)).where(col(Event.seq) >= handed_off))
        connection.execute(sa.update(table(Export)).values(next_seq=handed_off))
    assert {(d.table, d.kind, d.restorable) for d in restore(workflow)[1].differences} == {
        ("notifications", "added", False),
        ("deliveries", "added", False),
    }
    tried = [each for each in list_pending(workflow, export_id) if each.attempts]
    assert [each.id for each in list_pending(workflow, export_id)] == [each.id for each in tried]
    assert tried


def test_export_end_missing_in_the_log_is_repeated(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute_export(workflow, deliver=False)
    assert workflow.events(export_id)[-1] == "HANDED_OFF"
    service.restore_export(workflow.runtime, export_id)
    assert differences(workflow, export_id) == []
    states = workflow.step_states(export_id)
    assert {states[0, name] for name in NOTIFY_STEPS} == {"ready"}
    workflow.finish(export_id)
    assert (workflow.state(export_id), workflow.events(export_id).count("EXPORT_EXECUTED")) == ("executed", 1)


def test_rebuild_without_plan_leaves_plan_tables_unchanged(workflow: WorkflowHarness) -> None:
    export_id = run_answered_export(workflow)
    workflow.change(
        sa.update(PlanSnapshot).values(document=sa.func.replace(PlanSnapshot.document, "CA", "MX")),
        sa.update(Artifact).values(size=1),
        sa.update(ExportPackage).values(type="PLT"),
    )
    found = service.restore_export(workflow.runtime, export_id)
    assert [(d.table, d.kind, d.restorable) for d in found.differences] == [("plans", "changed", False)]
    with workflow.runtime.db.read() as session:
        assert set(session.scalars(select(ExportPackage.type))) == {"PLT"}
        assert 1 not in set(session.scalars(select(Artifact.size)))


def test_rebuild_compares_findings_with_their_digest(workflow: WorkflowHarness) -> None:
    export_id = run_answered_export(workflow)
    workflow.change(sa.update(Export).values(findings=[{"rule": "V01"}]))
    with workflow.runtime.db.read() as session:
        (found,) = service.compare_export(session, export_id).differences
    assert (found.columns, found.restorable) == (["findings"], False)


def test_restore_is_recorded_in_the_log(workflow: WorkflowHarness) -> None:
    export_id = run_answered_export(workflow)
    with workflow.runtime.db.write() as session:
        session.execute(sa.update(ExportPackage).values(type="PLT"))
        packages = session.scalar(sa.select(sa.func.count()).select_from(ExportPackage))
    service.restore_export(workflow.runtime, export_id)
    event = workflow.one(select(Event).where(col(Event.type) == "ROWS_RESTORED"))
    assert (event.actor, event.data) == ("rebuild", {"tables": {"packages": {"changed": packages}}})
    assert differences(workflow, export_id) == []


def add_messages(workflow: WorkflowHarness, export_id: str, *, messages: int, tried: bool = False) -> None:
    """Add messages that the log does not mention, to recipients that have pending messages."""
    with workflow.runtime.db.write() as session:
        notification = session.scalars(select(Notification).where(col(Notification.export_id) == export_id)).first()
        owed_to = session.scalars(select(Delivery).where(col(Delivery.subject_id) == export_id)).first()
        assert notification is not None
        assert owed_to is not None
        for place in range(messages):
            name = f"msg_{place}"
            session.add(Notification(**{**notification.model_dump(), "id": name, "data": "{}"}))
            session.flush()
            of_it = {"id": f"dlv_{place}", "notification_id": name, "attempts": int(tried)}
            session.add(Delivery(**{**owed_to.model_dump(), **of_it}))
            session.flush()
            if tried:
                session.add(Attempt(delivery_id=f"dlv_{place}", number=1, outcome="delivered", duration_ms=1))


@pytest.mark.parametrize("tried", [False, True])
def test_added_message_is_removed_unless_it_was_attempted(
    workflow: WorkflowHarness, database_url: str, *, tried: bool
) -> None:
    export_id = run_answered_export(workflow)
    before = content(workflow)
    add_messages(workflow, export_id, messages=1, tried=tried)
    found, left = restore(workflow)
    expected = {(name, "added", not tried) for name in ("notifications", "deliveries")}
    assert {(d.table, d.kind, d.restorable) for d in found.differences} == expected
    assert (left.intact, content(workflow) == before) == (not tried, not tried)
    assert all("it was attempted, and attempts are never deleted" in d.message for d in left.differences)


def test_added_messages_that_cannot_be_identified_stay(workflow: WorkflowHarness) -> None:
    export_id = run_answered_export(workflow)
    add_messages(workflow, export_id, messages=2)
    (left,) = (d for d in restore(workflow)[1].differences if d.table == "notifications")
    assert "the added ones are unknown" in left.message


# After a purge


def run_purged_export(workflow: WorkflowHarness) -> str:
    """Execute an export with an answer of the customs broker, and purge it."""
    export_id = run_answered_export(workflow)
    purged = retention.purge_expired(workflow.runtime, date(2040, 1, 1))
    assert (purged.exports, purged.documents > 0) == (1, True)
    assert differences(workflow, export_id) == []
    return export_id


KEPT: tuple[tuple[type[SQLModel], str, Any], ...] = (
    (Export, "purged_at", None),
    (Export, "purged_at", datetime(2039, 1, 1, tzinfo=UTC)),
    (Export, "state", "executing"),
    (Export, "plan_hash", "sha256:0"),
    (Export, "treatment_digest", "sha256:0"),
    (Export, "findings", [{"rule": "V01"}]),
    (ExportUnit, "treatment_digest", "sha256:0"),
    (ExportUnit, "package_number", "CP-000099"),
    (ExportUnit, "document", '{"unitRef": "1"}'),
    (Artifact, "sha256", "0" * 64),
    (Artifact, "size", 1),
    (Acknowledgement, "entry_number", "ABC-0000000-0"),
    (Acknowledgement, "message", "Which?"),
    (BrokerSubmission, "recipient", "customs@broker.example"),
    (Notification, "data", '{"said": 1}'),
    (Delivery, "state", "pending"),
)


def test_rows_of_purged_export_are_compared_and_restored(workflow: WorkflowHarness, database_url: str) -> None:
    run_purged_export(workflow)
    before = content(workflow)
    for model, column, value in KEPT:
        rows = table(model)
        with open_unguarded(workflow.runtime.db) as connection:
            first = connection.execute(sa.select(*rows.primary_key).order_by(*rows.primary_key)).first()
            assert first is not None
            here = [key == held for key, held in zip(rows.primary_key, first, strict=True)]
            connection.execute(sa.update(rows).where(*here).values({column: value}))
        (changed,) = [d.columns for d in restore_all(workflow, before).differences if d.table == rows.name]
        # On SQLite the outcome follows the state, by a trigger.
        assert {column} <= {*changed} <= {column, "outcome"}, changed


def test_missing_and_added_rows_of_purged_export_are_reported(workflow: WorkflowHarness, database_url: str) -> None:
    treated: dict[str, Any] = {
        "export_id": run_purged_export(workflow),
        "unit_no": 1,
        "line_ref": "1",
        "position": 1,
        "hts_code": "7326909000",
        "country_of_origin": "CA",
        "digest": "sha256:0",
    } | {name: [] for name in ("chapter99", "section232", "pga")}
    with open_unguarded(workflow.runtime.db) as connection:
        gone = connection.execute(sa.delete(table(Artifact))).rowcount
        connection.execute(sa.insert(table(LineTreatment)).values(treated))
    found, left = restore(workflow)
    assert {(d.table, d.kind) for d in found.differences} == {("artifacts", "missing"), ("treatments", "added")}
    assert (len(found.differences), left.intact) == (gone + 1, True)


def test_missing_row_of_purged_export_is_reported(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = run_purged_export(workflow)
    kept = execute_export(workflow, factories.plan(batch="batch_2"))
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.delete(table(Export)).where(col(Export.id) == export_id))
    found = audit.verify_chains(workflow.runtime)
    (fault,) = found.breaks
    assert (found.exports, found.broken, fault.export_id, fault.kind) == (2, 1, export_id, "missing")
    assert "the export's row is missing" in fault.message
    (only,) = audit.verify_chains(workflow.runtime, export_id=export_id).breaks
    assert only == fault
    (one,) = service.rebuild_exports(workflow.runtime, apply=True).damaged
    (row,) = (d for d in one.differences if d.table == "exports")
    assert (one.export_id, row.kind, row.restorable, kept != export_id) == (export_id, "missing", False, True)
