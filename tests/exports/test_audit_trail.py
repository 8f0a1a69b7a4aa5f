"""The audit trail: numbered and chained by account, also by concurrent writers; every change of it is found."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pipeline.core.db import table
from pipeline.exports.audit_trail import ActFilter, Action, list_acts, record_act
from pipeline.exports.event_models import Act
from pipeline.exports.hash_chain import hash_act
from pipeline.ops import audit
from tests.ops.tampering import open_unguarded
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness

pytestmark = pytest.mark.databases

_ACTS = table(Act)


def record(workflow: WorkflowHarness, action: Action = Action.SIGNED_IN, actor: str = "per_1", **detail: Any) -> None:
    with workflow.runtime.db.write() as session:
        record_act(session, factories.ACCOUNT, actor, action, "ses_1", detail)


def read_rows(workflow: WorkflowHarness) -> list[dict[str, Any]]:
    with workflow.runtime.db.read() as session:
        return [dict(row) for row in session.execute(sa.select(_ACTS).order_by(_ACTS.c.seq)).mappings()]


def test_acts_are_numbered_chained_and_verified(workflow_on_both: WorkflowHarness) -> None:
    for number in range(3):
        record(workflow_on_both, number=number)
    first, second, third = read_rows(workflow_on_both)
    assert [first["seq"], second["seq"], third["seq"]] == [1, 2, 3]
    assert (first["prev_hash"], second["prev_hash"], third["hash"]) == (None, first["hash"], hash_act(third))
    found = audit.verify_chains(workflow_on_both.runtime)
    assert (found.acts, found.exports, found.intact) == (3, 0, True)


def test_rollback_leaves_no_gap(workflow_on_both: WorkflowHarness) -> None:
    record(workflow_on_both)
    with pytest.raises(ValueError, match="not JSON compliant"):
        record(workflow_on_both, number=float("nan"))
    record(workflow_on_both)
    assert [row["seq"] for row in read_rows(workflow_on_both)] == [1, 2]
    assert audit.verify_chains(workflow_on_both.runtime).intact


def test_concurrent_acts_form_one_chain(workflow_on_both: WorkflowHarness) -> None:
    together = threading.Barrier(6)

    def write() -> None:
        together.wait()
        for _ in range(5):
            record(workflow_on_both)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = audit.verify_chains(workflow_on_both.runtime)
    assert (found.acts, found.breaks) == (30, [])


def test_changed_missing_or_cut_acts_are_named(workflow_on_both: WorkflowHarness) -> None:
    for number in range(4):
        record(workflow_on_both, number=number)
    rows = read_rows(workflow_on_both)
    changes: list[tuple[sa.Executable, int, str]] = [
        (_ACTS.update().where(_ACTS.c.seq == 2).values({column: value}), 2, kind)
        for column, value, kind in (
            ("actor", "per_2", "changed"),
            ("action", "signed_out", "changed"),
            ("subject", "ses_2", "changed"),
            ("detail", {}, "changed"),
            ("at", datetime.fromisoformat("2026-01-01T00:00:00+00:00"), "changed"),
            ("prev_hash", "v1:00", "moved"),
            ("hash", "v1:00", "changed"),
        )
    ]
    changes += [(_ACTS.delete().where(_ACTS.c.seq == seq), seq, "missing") for seq in (1, 3, 4)]
    for statement, seq, kind in changes:
        with open_unguarded(workflow_on_both.runtime.db) as connection:
            connection.execute(statement)
        (fault,) = audit.verify_chains(workflow_on_both.runtime).breaks
        assert (fault.account_id, fault.export_id, fault.seq, fault.kind) == (factories.ACCOUNT, None, seq, kind)
        with open_unguarded(workflow_on_both.runtime.db) as connection:
            connection.execute(_ACTS.delete())
            connection.execute(_ACTS.insert(), rows)
    assert audit.verify_chains(workflow_on_both.runtime).intact


def test_trail_without_its_row_is_broken(workflow_on_both: WorkflowHarness) -> None:
    record(workflow_on_both)
    with open_unguarded(workflow_on_both.runtime.db) as connection:
        connection.execute(sa.text("DELETE FROM audit_trails"))
    (fault,) = audit.verify_chains(workflow_on_both.runtime).breaks
    assert (fault.account_id, fault.seq, fault.kind) == (factories.ACCOUNT, 2, "missing")


def test_checkpoint_shows_a_cut_trail(workflow_on_both: WorkflowHarness) -> None:
    record(workflow_on_both)
    record(workflow_on_both)
    stated = audit.sign_checkpoint(workflow_on_both.runtime, settled_seconds=0)
    until = datetime.fromisoformat(stated.until)
    assert stated.acts == 2
    assert audit.find_mismatch(stated, audit.verify_chains(workflow_on_both.runtime, until=until)) is None
    with open_unguarded(workflow_on_both.runtime.db) as connection:
        connection.execute(_ACTS.delete().where(_ACTS.c.seq == 2))
        connection.execute(sa.text("UPDATE audit_trails SET next_seq = 2"))
    found = audit.verify_chains(workflow_on_both.runtime, until=until)
    assert found.intact, "a trail that was cut together with its number must not break its chain"
    assert audit.find_mismatch(stated, found) == "the checkpoint counts 2 acts, the audit trails have 1"


def test_list_filters_and_pages(workflow_on_both: WorkflowHarness) -> None:
    for number in range(5):
        record(workflow_on_both, number=number)
    record(workflow_on_both, Action.SIGNED_OUT, "per_2")
    with workflow_on_both.runtime.db.read() as session:

        def read_numbers(*, limit: int = 50, before: int | None = None, **wanted: Any) -> tuple[list[int], int | None]:
            page = list_acts(session, factories.ACCOUNT, ActFilter(**wanted), before=before, limit=limit)
            return [each.seq for each in page.items], page.next_before

        assert read_numbers(limit=2) == ([6, 5], 5)
        assert read_numbers(limit=4, before=5) == ([4, 3, 2, 1], None)
        assert read_numbers(actor="per_2") == ([6], None)
        assert read_numbers(action=Action.SIGNED_IN, limit=2) == ([5, 4], 4)
        assert read_numbers(actor="per_2", action=Action.SIGNED_IN) == ([], None)
        assert read_numbers(subject="ses_1", actor="per_2") == ([6], None)
        assert read_numbers(subject="ses_2") == ([], None)
        day = read_rows(workflow_on_both)[0]["at"].date()
        assert read_numbers(first_day=day, last_day=day + timedelta(days=1), limit=1) == ([6], 6)
        assert read_numbers(last_day=day - timedelta(days=1)) == read_numbers(first_day=day + timedelta(days=2))
        assert list_acts(session, "acc_other").items == []


def test_database_refuses_changes_of_the_trail(workflow_on_both: WorkflowHarness) -> None:
    record(workflow_on_both)
    columns = ", ".join(column.name for column in _ACTS.columns)
    statements = ["UPDATE acts SET actor = 'x'", "DELETE FROM acts"]
    if workflow_on_both.runtime.db.is_sqlite:
        statements += [
            f"INSERT OR REPLACE INTO acts ({columns}) SELECT {columns} FROM acts",  # noqa: S608
            f"REPLACE INTO acts (rowid, {columns}) SELECT rowid, {columns.replace('seq', 'seq + 9')} FROM acts",  # noqa: S608
            "UPDATE OR REPLACE acts SET seq = seq + 1",
        ]
    else:
        statements.append("TRUNCATE acts")
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"), workflow_on_both.runtime.db.write() as session:
            session.execute(sa.text(statement))
    assert audit.verify_chains(workflow_on_both.runtime).acts == 1
