"""Unreadable values are reported without hiding others, and restored if the log or the plan holds them."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from pipeline.core.db import table
from pipeline.exports.event_models import Event
from pipeline.exports.events import EventType, NewEvent, chain_events
from pipeline.exports.hash_chain import hash_event
from pipeline.exports.models import Export, ExportPackage, PlanSnapshot
from pipeline.ops import audit
from pipeline.ops.rebuild import service
from tests.ops.rebuild.test_rebuild import content, restore, restore_all, run_answered_export
from tests.ops.tampering import open_unguarded
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import deliver_all, execute_export

pytestmark = pytest.mark.system

#: Bytes that are not UTF-8, stored as text.
NO_TEXT = sa.text("CAST(x'ff' AS TEXT)")

#: SQLite stores any value in a cell. Each of these is restored from the log and the plan, or gets its initial value.
REPAIRED: tuple[tuple[str, str, Any], ...] = (
    ("packages", "contents", "garbage"),
    ("packages", "type", NO_TEXT),
    ("packages", "contents", NO_TEXT),
    ("exports", "accepted_at", NO_TEXT),
    ("treatments", "section232", "{"),
    ("exports", "accepted_at", "never"),
    ("exports", "finished_at", "never"),
    ("exports", "updated_at", "never"),
    ("exports", "ruleset_as_of", "x"),
    ("exports", "units_total", "many"),
    ("exports", "test", "maybe"),
    ("units", "created_at", "x"),
    ("steps", "lease_until", "soon"),
    ("steps", "due_at", "soon"),
    ("steps", "fence", "high"),
    ("artifacts", "generated_at", "x"),
    ("artifacts", "size", "large"),
    ("broker_submissions", "created_at", "x"),
    ("broker_submissions", "deadline_at", "x"),
    ("acknowledgements", "received_at", "x"),
    ("acknowledgements", "fields", "["),
    ("notifications", "created_at", "x"),
    ("deliveries", "due_at", "zzz"),
    ("deliveries", "delivered_at", "zzz"),
    ("deliveries", "created_at", "x"),
    ("deliveries", "state", b"\xff"),
    ("exports", "next_seq", "many"),
)


def write_garbage(workflow: WorkflowHarness, export_id: str, name: str, column: str, value: Any) -> None:
    """Write a value that does not fit the column's type into one row of the export."""
    here = {
        "exports": "id",
        "deliveries": "subject_id",
        "plans": "id = (SELECT plan_id FROM exports WHERE id = :export_id) OR '' ",
        "acknowledgements": "submission_id IN (SELECT id FROM broker_submissions WHERE export_id = :export_id) AND id ",
    }.get(name, "export_id")
    which = f"{here} = :export_id" if here in {"exports", "id", "export_id", "subject_id"} else f"{here} != ''"
    given = ":value" if value is not NO_TEXT else str(NO_TEXT)
    statement = f"UPDATE {name} SET {column} = {given} WHERE rowid = (SELECT min(rowid) FROM {name} WHERE {which})"  # noqa: S608
    with open_unguarded(workflow.runtime.db) as connection:
        done = connection.execute(
            sa.text(statement), {"export_id": export_id} | ({} if value is NO_TEXT else {"value": value})
        )
        assert done.rowcount == 1


def test_rebuild_reports_and_restores_unreadable_cell(workflow: WorkflowHarness) -> None:
    export_id, other = run_answered_export(workflow), execute_export(workflow, factories.plan(batch="batch_2"))
    before = content(workflow)
    # A cell has one value at a time. The number of the next event belongs to the chain.
    last = REPAIRED[-1:]
    cells = {(name, column): value for name, column, value in REPAIRED}
    again = [(name, column, value) for name, column, value in REPAIRED if cells[name, column] is not value]
    for damaged in ([(*cell, value) for cell, value in cells.items()][:-1], again, last):
        for name, column, value in damaged:
            write_garbage(workflow, export_id, name, column, value)
        assert audit.verify_chains(workflow.runtime).intact == (damaged is not last)
        found = service.rebuild_exports(workflow.runtime)
        assert (found.exports, [one.export_id for one in found.damaged]) == (2, [export_id])
        found_cells = [(d.table, d.kind, each) for d in restore_all(workflow, before).differences for each in d.columns]
        assert sorted(found_cells) == sorted((name, "changed", column) for name, column, _ in damaged)
        assert audit.verify_chains(workflow.runtime).intact
    workflow.finish(other)


@pytest.mark.parametrize(
    ("name", "column", "value", "message", "restorable"),
    [
        ("exports", "findings", "{", "exports", False),
        ("exports", "findings", "5", "exports", False),
        ("plans", "document", "garbage", "plans", False),
        ("plans", "document", NO_TEXT, "plans", False),
        ("notifications", "data", b"\xff", "notifications", True),
        ("notifications", "position", "first", "notifications", False),
        ("deliveries", "partner_id", b"\xff", "notifications", True),
    ],
)
def test_rebuild_reports_unreadable_cell_with_digest(
    workflow: WorkflowHarness, name: str, column: str, value: Any, message: str, *, restorable: bool
) -> None:
    export_id, _ = hand_off(workflow), execute_export(workflow, factories.plan(batch="batch_2"))
    write_garbage(workflow, export_id, name, column, value)
    found, left = restore(workflow)
    assert (found.export_id, message in {d.table for d in found.differences}) == (export_id, True)
    assert left.intact == restorable, left


def hand_off(workflow: WorkflowHarness) -> str:
    """Execute an export up to its handoff; all its messages are pending."""
    export_id = workflow.accept().export_id
    for name in ("record_packages", "render_documents"):
        workflow.step(export_id, 1, name)
    assert workflow.events(export_id)[-1] == "HANDED_OFF"
    return export_id


@pytest.mark.parametrize(
    ("column", "value"), [("data", "{"), ("at", "never"), ("data", "NaN"), ("type", b"\xff"), ("actor", NO_TEXT)]
)
def test_rebuild_with_unreadable_event_refuses_only_its_export(
    workflow: WorkflowHarness, column: str, value: Any
) -> None:
    export_id, other = execute_export(workflow), execute_export(workflow, factories.plan(batch="batch_2"))
    write_garbage(workflow, export_id, "events", column, value)
    write_garbage(workflow, other, "packages", "contents", "garbage")
    verified = audit.verify_chains(workflow.runtime, until=datetime(2030, 1, 1, tzinfo=UTC))
    assert [(fault.export_id, fault.seq, fault.kind) for fault in verified.breaks] == [(export_id, 1, "changed")]
    refused, restored = service.rebuild_exports(workflow.runtime, apply=True).damaged
    assert (refused.export_id, refused.refusal) == (export_id, "its log is broken: event 1 is changed")
    assert restored.after_restore is not None
    assert restored.after_restore.intact


def test_rebuild_with_unreadable_attempt_refuses_only_its_export(workflow: WorkflowHarness) -> None:
    export_id, other = execute_export(workflow), execute_export(workflow, factories.plan(batch="batch_2"))
    deliver_all(workflow, export_id)
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.text("UPDATE attempts SET at = 'x' WHERE rowid = 1"))
    (one,) = service.rebuild_exports(workflow.runtime, apply=True).damaged
    assert one.refusal is not None
    assert (one.export_id, "at of attempt 1 of" in one.refusal, other != export_id) == (export_id, True, True)


def test_rebuild_with_event_of_newer_version_refuses_only_its_export(
    workflow: WorkflowHarness, database_url: str
) -> None:
    export_id, other = (execute_export(workflow), execute_export(workflow, factories.plan(batch="batch_2")))
    seq = len(workflow.events(export_id)) + 1
    with workflow.runtime.db.read() as session:
        last = session.scalars(select(Event.hash).where(Event.export_id == export_id, Event.seq == seq - 1)).one()
        at = session.scalars(sa.select(sa.func.max(col(Event.at)))).one()
    (row,) = chain_events(export_id, seq, "somebody", at, [NewEvent(EventType.STEP_RETRIED)], last)
    row["type"] = "EXPORT_BLESSED"
    row["hash"] = hash_event(row)
    workflow.change(
        sa.insert(Event).values(**row),
        sa.update(Export).where(col(Export.id) == export_id).values(next_seq=seq + 1),
        sa.update(ExportPackage).where(col(ExportPackage.export_id) == other).values(type="PLT"),
    )
    found = {one.export_id: one for one in service.rebuild_exports(workflow.runtime, apply=True).damaged}
    refused = found.pop(export_id).refusal
    assert refused is not None
    assert "EXPORT_BLESSED, which this version does not know" in refused
    assert audit.verify_chains(workflow.runtime).intact
    left = found.pop(other).after_restore
    assert left is not None
    assert (left.intact, found) == (True, {})


def test_rebuild_reports_columns_that_only_a_backup_has(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = run_answered_export(workflow)
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(sa.update(table(PlanSnapshot)).values(document="garbage"))
        connection.execute(sa.delete(table(Export)))
    found, left = restore(workflow)
    wanting = next(d for d in found.differences if d.table == "exports")
    assert (found.export_id, wanting.kind, wanting.restorable, left.intact) == (export_id, "missing", False, False)
    assert "not its broker_id, warehouse_id" in wanting.message
