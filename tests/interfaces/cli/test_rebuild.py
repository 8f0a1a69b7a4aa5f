"""`exports rebuild`: names damaged rows, restores them with --apply, and its exit code says whether damage is left."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text, update

from pipeline.exports.models import Export, ExportPackage
from tests.ops.tampering import open_unguarded
from tests.support.command_line import Commands
from tests.workflow.conftest import WorkflowHarness, make_workflow
from tests.workflow.revisions import execute_export

__all__ = ["make_workflow"]


@dataclass
class DamagedDatabase:
    """A workflow harness, and the command on its database."""

    workflow: WorkflowHarness
    commands: Commands

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output."""
        result = self.commands("rebuild", *arguments)
        return result.exit_code, result.stdout

    def report(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code and the report."""
        code, shown = self.run(*arguments, "--json")
        return code, json.loads(shown)

    def write(self, statement: Any) -> None:
        """Change the database without the log."""
        with self.workflow.runtime.db.write() as session:
            session.execute(statement)


@pytest.fixture
def damaged_database(make_workflow: Callable[[str], WorkflowHarness], sqlite_url: str) -> DamagedDatabase:
    """A workflow harness, and the command on its database."""
    return DamagedDatabase(make_workflow(sqlite_url), Commands({"DATABASE_URL": sqlite_url}))


def test_rebuild_finds_no_damage(damaged_database: DamagedDatabase) -> None:
    execute_export(damaged_database.workflow)
    code, shown = damaged_database.run()
    assert (code, "every table agrees with the log: 1 exports" in shown) == (0, True)


def test_damage_is_named_then_restored(damaged_database: DamagedDatabase) -> None:
    export_id = execute_export(damaged_database.workflow)
    damaged_database.write(update(ExportPackage).values(type="PLT"))
    code, found = damaged_database.report("--check")
    (one,) = found["damaged"]
    assert (code, found["exports"], found["left"], one["exportId"]) == (1, 1, 1, export_id)
    assert {(each["table"], each["kind"], *each["columns"]) for each in one["differences"]} == {
        ("packages", "changed", "type")
    }
    code, shown = damaged_database.run("--export", export_id)
    assert (code, "--apply" in shown) == (1, True)
    code, found = damaged_database.report("--apply")
    assert (code, found["left"], found["damaged"][0]["left"]) == (0, 0, [])
    assert damaged_database.run("--check")[0] == 0


def test_unrestorable_damage_is_left_and_reported(damaged_database: DamagedDatabase) -> None:
    execute_export(damaged_database.workflow)
    damaged_database.write(update(Export).values(findings=[{"rule": "V01"}]))
    code, shown = damaged_database.run("--check")
    assert (code, "nothing can be restored" in shown, "--apply" in shown) == (1, True, False)
    code, shown = damaged_database.run("--apply")
    assert (code, "the rest cannot be restored" in shown, "restore them from a backup" in shown) == (1, True, True)


def test_refused_export_is_reported(damaged_database: DamagedDatabase) -> None:
    execute_export(damaged_database.workflow)
    damaged_database.write(update(Export).values(next_seq=1000))
    code, shown = damaged_database.run("--check")
    assert (code, "refused" in shown, "nothing can be restored" in shown) == (1, True, True)


def test_binary_key_is_shown(damaged_database: DamagedDatabase) -> None:
    execute_export(damaged_database.workflow)
    # A person's own connection does not enforce foreign keys.
    with open_unguarded(damaged_database.workflow.runtime.db) as connection:
        connection.execute(text("UPDATE packages SET package_ref = x'ff' WHERE rowid = 1"))
    code, found = damaged_database.report("--check")
    keys = [each["key"]["package_ref"] for each in found["damaged"][0]["differences"]]
    assert (code, len(keys), "b'\\xff'" in keys) == (1, 2, True)
    code, found = damaged_database.report("--apply")
    assert (code, found["damaged"][0]["left"]) == (0, [])


def test_rows_that_the_database_rejects_are_refused(damaged_database: DamagedDatabase) -> None:
    export_id = execute_export(damaged_database.workflow)
    # Another row has a unique value of the missing row.
    with open_unguarded(damaged_database.workflow.runtime.db) as connection:
        connection.execute(text("UPDATE packages SET export_id = 'exp_other' WHERE rowid = 1"))
    code, found = damaged_database.report("--apply", "--export", export_id)
    (one,) = found["damaged"]
    assert (code, one["refused"]) == (
        1,
        "the database rejects a restored row: UNIQUE constraint failed: packages.account_id, packages.sscc",
    )
    assert [(each["table"], each["kind"]) for each in one["differences"]] == [("packages", "missing")]


def test_unknown_export_is_reported(damaged_database: DamagedDatabase) -> None:
    assert damaged_database.run("--export", "exp_none")[0] == 3
