"""`exports retention` and `exports backup`: what is kept, held, purged and copied on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.commands.screen import ExitCode
from pipeline.models import PlanSnapshot
from tests import builders
from tests.cli.conftest import Commands
from tests.execution.conftest import House, house, make_house
from tests.execution.revisions import executed

__all__ = ["house", "make_house"]


def test_what_is_due_is_listed_held_and_taken_away_only_when_its_day_has_come(
    service: Commands, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(builders.plan(batch="batch_to_keep")))
    export_id = service.json("execute", str(plan), "--wait")["exportId"]
    purge = ("retention", "purge", "--dry-run", "--on", "2032-11-27")
    assert service.json("retention", "purge", "--dry-run") == []
    (due,) = [each for each in service.json(*purge) if each["export_id"] == export_id]
    assert (due["entry_on"], due["kept_until"], due["jurisdiction"], due["years"], due["held_by"]) == (
        "2026-11-26", "2032-11-26", "CA", 6, None,
    )  # fmt: skip

    who = ("--reason", "a dispute", "--by", "Legal")
    hold = service.json("retention", "hold", "--account", builders.ACCOUNT, "--export", export_id, *who)["id"]
    (due,) = [each for each in service.json(*purge) if each["export_id"] == export_id]
    assert due["held_by"] == hold
    assert re.search(
        r"\d+ exports and 0 plans without one would be purged on 2032-11-27, \d+ are held", service(*purge).stdout
    )
    assert [each["id"] for each in service.json("retention", "holds") if each["released_by"] is None] == [hold]
    service.json("retention", "release", hold, "--by", "Counsel")
    assert service("retention", "release", hold, "--by", "Counsel").exit_code == ExitCode.REFUSED
    assert "by Counsel" in service("retention", "holds", "--account", builders.ACCOUNT).stdout

    assert service("retention", "purge", "--on", "2032-11-27").exit_code == ExitCode.USAGE
    assert service.json("retention", "purge") == {"exports": 0, "plans": 0, "documents": 0, "unreadable": []}
    assert service.json("inspect", export_id)["purgedAt"] is None


def test_plan_that_cannot_be_read_is_told_beside_what_is_due(house: House) -> None:
    for name in ("one", "two"):
        executed(house, builders.plan(batch=name))
    with house.runtime.db.write() as session:
        damaged = session.scalars(select(PlanSnapshot.id)).first()
        session.execute(update(PlanSnapshot).where(col(PlanSnapshot.id) == damaged).values(document="garbage"))
    commands = Commands({"DATABASE_URL": house.runtime.settings.database_url})
    told = commands("retention", "purge", "--dry-run", "--on", "2040-01-01", "--json")
    assert (told.exit_code, len(json.loads(told.stdout))) == (ExitCode.REFUSED, 1)
    assert f"plan {damaged} cannot be read" in told.stderr


WHO = ("--reason", "a dispute", "--by", "Legal")


@pytest.mark.parametrize(
    "command",
    [
        ("backup", "copy"),
        ("audit", "verify"),
        ("audit", "head"),
        ("rebuild", "--check"),
        ("retention", "purge"),
        ("retention", "purge", "--dry-run"),
        ("retention", "hold", "--account", builders.ACCOUNT, *WHO),
        ("retention", "release", "hld_none", "--by", "Legal"),
        ("retention", "holds"),
        ("secrets", "rotate"),
    ],
    ids=" ".join,
)
def test_database_that_is_not_there_is_no_good_one(
    commands: Commands, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = commands(*command, DATABASE_URL="sqlite:///var/exports.db", ARTIFACTS_URL="file:var/artifacts")
    assert (told.exit_code, told.stdout) == (ExitCode.NOT_FOUND, "")
    assert f"there is no database {tmp_path / 'var' / 'exports.db'}" in told.stderr
    assert "DATABASE_URL" in told.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("sqlite:nonsense", ExitCode.USAGE, "DATABASE_URL is no address of a database"),
        ("sqlite:///{home}/text", ExitCode.USAGE, "text is no SQLite database"),
        ("sqlite:///{home}/text/exports.db", ExitCode.UNREACHABLE, "cannot be read"),
        ("sqlite:////proc/none/exports.db", ExitCode.UNREACHABLE, "cannot be made"),
    ],
)
def test_what_can_be_no_database_is_named(
    commands: Commands, tmp_path: Path, url: str, code: ExitCode, said: str
) -> None:
    (tmp_path / "text").write_text("what a person wrote")
    told = commands("accounts", "list", DATABASE_URL=url.format(home=tmp_path))
    assert (told.exit_code, said in told.stderr, "DATABASE_URL" in told.stderr) == (code, True, True), told.output


def test_what_people_say_is_shown_as_they_said_it(commands: Commands) -> None:
    """Square brackets are the terminal's own markup: of these one vanished, and the other ended every later listing."""
    said = "case [x] [/red] \\"
    account = ("--account", builders.ACCOUNT)
    commands.json("accounts", "create", builders.ACCOUNT, "--name", said)
    assert said in commands("accounts", "list").stdout
    hold = commands.json("retention", "hold", *account, "--reason", said, "--by", f"{said} A")["id"]
    commands.json("retention", "release", hold, "--by", f"{said} B")
    shown = commands("retention", "holds").stdout
    assert [mark for mark in (said, f"{said} A", f"{said} B") if mark not in shown] == []

    commands.json("keys", "create", *account, "--name", said)
    assert said in commands("keys", "list", *account).stdout

    add = ("partners", "add", "wh_1", *account, "--kind", "warehouse", "--name", said)
    assert commands(*add).exit_code == 0
    assert said in commands("partners", "list", *account).stdout

    waive = ("waivers", "add", "V17", *account, "--reason", said, "--by", said)
    assert commands(*waive).exit_code == 0
    assert commands("waivers", "list", *account).stdout.count(said) == 2


def test_hold_of_nothing_is_refused(commands: Commands) -> None:
    commands.json("accounts", "create", builders.ACCOUNT, "--name", "Maple Goods Ltd")
    assert commands("retention", "hold", "--account", "acc_none", *WHO).exit_code == ExitCode.NOT_FOUND
    assert commands("retention", "release", "hld_none", "--by", "Legal").exit_code == ExitCode.NOT_FOUND
    nameless = ("--reason", " ", "--by", "Legal")
    assert commands("retention", "hold", "--account", "acc_none", *nameless).exit_code == ExitCode.USAGE


def test_running_service_is_backed_up(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(builders.plan(batch="batch_to_copy")))
    service.json("execute", str(plan), "--wait")
    made = service.json("backup", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "exports.db").stat().st_size > 0
    documents = [path for path in (tmp_path / "copy" / "artifacts").rglob("*") if path.is_file()]
    assert len(documents) == made["documents"] > 0
    again = service("backup", str(tmp_path / "copy"))
    assert (again.exit_code, "is not empty" in again.output) == (ExitCode.REFUSED, True)


def test_backup_that_lacks_a_document_says_which_and_fails(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(builders.plan(batch="batch_to_lose")))
    export = service.json("execute", str(plan), "--wait")
    lost = export["artifacts"][0]
    store = Path(service.environment["ARTIFACTS_URL"].removeprefix("file:"))
    (file,) = store.rglob(lost["sha256"])
    body = file.read_bytes()
    file.unlink()
    try:
        told = service("backup", str(tmp_path / "copy"))
        as_json = service("backup", str(tmp_path / "another"), "--json")
    finally:
        file.write_bytes(body)
    assert (told.exit_code, as_json.exit_code) == (ExitCode.REFUSED, ExitCode.REFUSED)
    assert lost["filename"] in told.stdout
    assert export["exportId"] in told.stdout
    (uncopied,) = json.loads(as_json.stdout)["uncopied"]
    assert (uncopied["exportId"], uncopied["filename"]) == (export["exportId"], lost["filename"])
