"""`exports retention`, `backup` and `artifacts check`: records kept, held, purged, copied and restored."""

import json
import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col, select
from typer.testing import Result

from pipeline.client.retry import NO_RETRIES
from pipeline.exports.models import Artifact, PlanSnapshot
from pipeline.interfaces.cli import connection
from pipeline.interfaces.cli.output import ExitCode
from tests.support import factories
from tests.support.command_line import Commands
from tests.support.tables import table
from tests.workflow.conftest import WorkflowHarness, make_workflow, workflow
from tests.workflow.revisions import execute_export

__all__ = ["make_workflow", "workflow"]


def test_due_records_are_listed_held_and_purged_only_when_due(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(factories.plan(batch="batch_to_keep")))
    export_id = service.json("execute", str(plan), "--wait")["exportId"]
    purge = ("retention", "purge", "--dry-run", "--on", "2032-11-27")
    assert service.json("retention", "purge", "--dry-run") == []
    (due,) = [each for each in service.json(*purge) if each["exportId"] == export_id]
    assert (due["entryOn"], due["keptUntil"], due["jurisdiction"], due["years"], due["heldBy"]) == (
        "2026-11-26", "2032-11-26", "CA", 6, None,
    )  # fmt: skip

    who = ("--reason", "a dispute", "--by", "Legal")
    hold = service.json("retention", "hold", "--account", factories.ACCOUNT, "--export", export_id, *who)["id"]
    (due,) = [each for each in service.json(*purge) if each["exportId"] == export_id]
    assert due["heldBy"] == hold
    assert re.search(
        r"\d+ exports and 0 plans without an export would be purged on 2032-11-27, \d+ are held", service(*purge).stdout
    )
    assert [each["id"] for each in service.json("retention", "holds") if each["releasedBy"] is None] == [hold]
    service.json("retention", "release", hold, "--by", "Counsel")
    assert service("retention", "release", hold, "--by", "Counsel").exit_code == ExitCode.REFUSED
    assert "by Counsel" in service("retention", "holds", "--account", factories.ACCOUNT).stdout

    assert service("retention", "purge", "--on", "2032-11-27").exit_code == ExitCode.USAGE
    assert service.json("retention", "purge") == {
        "exports": 0, "plans": 0, "documents": 0, "orders": 0, "unreadable": [],
    }  # fmt: skip
    assert service.json("inspect", export_id)["purgedAt"] is None


def test_unreadable_plan_is_reported_with_the_due_records(workflow: WorkflowHarness) -> None:
    for name in ("one", "two"):
        execute_export(workflow, factories.plan(batch=name))
    with workflow.runtime.db.write() as session:
        damaged = session.scalars(select(PlanSnapshot.id)).first()
        session.execute(update(PlanSnapshot).where(col(PlanSnapshot.id) == damaged).values(document="garbage"))
    commands = Commands({"DATABASE_URL": workflow.runtime.settings.database_url})
    completed = commands("retention", "purge", "--dry-run", "--on", "2040-01-01", "--json")
    assert (completed.exit_code, len(json.loads(completed.stdout))) == (ExitCode.REFUSED, 1)
    assert f"plan {damaged} cannot be read" in completed.stderr


WHO = ("--reason", "a dispute", "--by", "Legal")


@table(
    "command",
    [
        ("backup", "copy"),
        ("audit", "verify"),
        ("audit", "checkpoint"),
        ("rebuild", "--check"),
        ("artifacts", "check"),
        ("artifacts", "restore"),
        ("retention", "purge"),
        ("retention", "purge", "--dry-run"),
        ("retention", "hold", "--account", factories.ACCOUNT, *WHO),
        ("retention", "release", "hld_none", "--by", "Legal"),
        ("retention", "holds"),
        ("secrets", "rotate"),
    ],
)
def test_missing_database_is_not_found(
    new_machine: Commands, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    completed = new_machine(*command, DATABASE_URL="sqlite:///var/exports.db", ARTIFACTS_URL="file:var/artifacts")
    assert (completed.exit_code, completed.stdout) == (ExitCode.NOT_FOUND, "")
    assert f"there is no database {tmp_path / 'var' / 'exports.db'}" in completed.stderr
    assert "DATABASE_URL" in completed.stderr
    assert [*tmp_path.iterdir()] == []


@table(
    ("url", "code", "text"),
    [
        ("sqlite:nonsense", ExitCode.USAGE, "DATABASE_URL must be the address of a database"),
        ("sqlite:///{home}/text", ExitCode.USAGE, "text is not a SQLite database"),
        ("sqlite:///{home}/text/exports.db", ExitCode.UNREACHABLE, "cannot be read"),
        ("sqlite:////proc/none/exports.db", ExitCode.UNREACHABLE, "cannot be created"),
    ],
)
def test_invalid_database_is_named(commands: Commands, tmp_path: Path, url: str, code: ExitCode, text: str) -> None:
    (tmp_path / "text").write_text("a text that is not a database")
    completed = commands("accounts", "list", DATABASE_URL=url.format(home=tmp_path))
    assert (completed.exit_code, text in completed.stderr, "DATABASE_URL" in completed.stderr) == (code, True, True), (
        completed.output
    )


def test_markup_in_user_text_is_printed_as_text(commands: Commands) -> None:
    """Square brackets are the terminal's markup: unescaped, one vanished and the other broke every later listing."""
    text = "case [x] [/red] \\"
    account = ("--account", factories.ACCOUNT)
    commands.json("accounts", "create", factories.ACCOUNT, "--name", text)
    assert text in commands("accounts", "list").stdout
    hold = commands.json("retention", "hold", *account, "--reason", text, "--by", f"{text} A")["id"]
    commands.json("retention", "release", hold, "--by", f"{text} B")
    shown = commands("retention", "holds").stdout
    assert [mark for mark in (text, f"{text} A", f"{text} B") if mark not in shown] == []

    commands.json("keys", "create", *account, "--name", text)
    assert text in commands("keys", "list", *account).stdout

    add = ("partners", "add", "wh_1", *account, "--kind", "warehouse", "--name", text)
    assert commands(*add).exit_code == 0
    assert text in commands("partners", "list", *account).stdout

    waive = ("waivers", "add", "V17", *account, "--reason", text, "--by", text)
    assert commands(*waive).exit_code == 0
    assert commands("waivers", "list", *account).stdout.count(text) == 2


def test_hold_without_reason_or_target_is_rejected(commands: Commands) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    assert commands("retention", "hold", "--account", "acc_none", *WHO).exit_code == ExitCode.NOT_FOUND
    assert commands("retention", "release", "hld_none", "--by", "Legal").exit_code == ExitCode.NOT_FOUND
    nameless = ("--reason", " ", "--by", "Legal")
    assert commands("retention", "hold", "--account", "acc_none", *nameless).exit_code == ExitCode.USAGE


@pytest.mark.system
def test_running_service_is_backed_up(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(factories.plan(batch="batch_to_copy")))
    service.json("execute", str(plan), "--wait")
    made = service.json("backup", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "exports.db").stat().st_size > 0
    documents = [path for path in (tmp_path / "copy" / "artifacts").rglob("*") if path.is_file()]
    assert len(documents) == made["documents"] > 0
    again = service("backup", str(tmp_path / "copy"))
    assert (again.exit_code, "is not empty" in again.output) == (ExitCode.REFUSED, True)


@pytest.mark.system
def test_backup_with_a_missing_document_names_it_and_fails(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(factories.plan(batch="batch_to_lose")))
    export = service.json("execute", str(plan), "--wait")
    lost = export["artifacts"][0]
    store = Path(service.environment["ARTIFACTS_URL"].removeprefix("file:"))
    (file,) = store.rglob(lost["sha256"])
    body = file.read_bytes()
    file.unlink()
    try:
        completed = service("backup", str(tmp_path / "copy"))
        as_json = service("backup", str(tmp_path / "another"), "--json")
    finally:
        file.write_bytes(body)
    assert (completed.exit_code, as_json.exit_code) == (ExitCode.REFUSED, ExitCode.REFUSED)
    assert lost["filename"] in completed.stdout
    assert export["exportId"] in completed.stdout
    (uncopied,) = json.loads(as_json.stdout)["uncopied"]
    assert (uncopied["exportId"], uncopied["filename"]) == (export["exportId"], lost["filename"])


# The store


def documents_of(workflow: WorkflowHarness) -> tuple[Commands, dict[str, Path]]:
    """Return the command line for an executed export, and its stored documents by file name."""
    export_id = execute_export(workflow, factories.plan())
    settings = workflow.runtime.settings
    commands = Commands({"DATABASE_URL": settings.database_url, "ARTIFACTS_URL": settings.artifacts_url})
    folder = Path(settings.artifacts_url.removeprefix("file:"))
    with workflow.runtime.db.read() as session:
        rows = session.exec(select(Artifact).where(col(Artifact.export_id) == export_id)).all()
        return commands, {row.filename: next(folder.rglob(row.sha256)) for row in rows}


def read_output(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_missing_documents_are_found_and_restored(workflow: WorkflowHarness) -> None:
    commands, files = documents_of(workflow)
    sound = commands("artifacts", "check")
    assert (sound.exit_code, f"✓ {len(files)} documents" in sound.stdout) == (ExitCode.OK, True)
    before = files["packing_list.pdf"].read_bytes()
    files["packing_list.pdf"].unlink()
    files["manifest.json"].write_bytes(b"")

    shown = commands("artifacts", "check")
    assert shown.exit_code == ExitCode.REFUSED
    assert re.search(r"packing_list\.pdf +missing", shown.stdout)
    assert re.search(r"manifest\.json +damaged", shown.stdout)
    assert f"2 of {len(files)} documents" in shown.stdout
    assert "`exports artifacts restore`" in shown.stdout
    as_json = commands("artifacts", "check", "--json")
    *bad, counts = read_output(as_json)
    assert as_json.exit_code == ExitCode.REFUSED
    assert [(each["filename"], each["condition"], each["restored"]) for each in bad] == [
        ("manifest.json", "damaged", False),
        ("packing_list.pdf", "missing", False),
    ]
    assert {name: counts[name] for name in ("documents", "missing", "damaged", "unreadable", "restored", "left")} == {
        "documents": len(files), "missing": 1, "damaged": 1, "unreadable": 0, "restored": 0, "left": 2
    }  # fmt: skip

    restored = commands("artifacts", "restore")
    assert restored.exit_code == ExitCode.OK
    assert "2 documents are restored, each with its recorded hash" in restored.stdout
    assert files["packing_list.pdf"].read_bytes() == before
    assert read_output(commands("artifacts", "restore", "--json"))[-1]["left"] == 0
    assert commands("artifacts", "check", "--export", "exp_none").exit_code == ExitCode.NOT_FOUND


def test_missing_store_folder_fails_doctor_and_check(workflow: WorkflowHarness) -> None:
    commands, files = documents_of(workflow)
    folder = Path(workflow.runtime.settings.artifacts_url.removeprefix("file:"))
    shutil.move(folder, folder.with_name("unmounted"))
    for command in ("check", "restore"):
        ended = commands("artifacts", command, "--json")
        assert (ended.exit_code, json.loads(ended.stdout)["errorCode"]) == (ExitCode.UNREACHABLE, "UNREACHABLE")
    ailing = commands("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(ailing.stdout)}
    assert ailing.exit_code == ExitCode.REFUSED
    assert [name for name, check in checks.items() if not check["ok"]] == ["artifact store", "documents"]
    for name in ("artifact store", "documents"):
        assert f"the artifact store's folder {folder} is missing; mount its disk" in checks[name]["found"]
    assert not folder.exists()

    folder.mkdir()  # the empty mount point of a disk
    checks = {check["name"]: check for check in json.loads(commands("doctor", "--json").stdout)}
    assert [name for name, check in checks.items() if not check["ok"]] == ["documents"]
    assert "the newest, is not in the artifact store" in checks["documents"]["found"]
    assert "exports artifacts restore" in checks["documents"]["remedy"]
    assert commands("artifacts", "restore").exit_code == ExitCode.OK
    assert commands("doctor").exit_code == ExitCode.OK
    assert all(path.is_file() for path in files.values())


def test_artifacts_argument_is_an_export_unless_it_is_a_command(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_RETRIES", NO_RETRIES)
    for arguments in (("exp_1",), ("list", "check"), ("list", "exp_1", "--out", "x"), ("--json", "exp_1")):
        assert commands("artifacts", *arguments).exit_code == ExitCode.UNREACHABLE, "there is no service"
    assert commands("artifacts").exit_code == ExitCode.USAGE
    for pair in (("check", "exp_1"), ("exp_1", "exp_2")):
        assert commands("artifacts", *pair).exit_code == ExitCode.USAGE
