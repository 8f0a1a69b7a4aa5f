"""`exports audit`: the log verified and checkpointed on the command line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from pipeline.core.db import Database
from pipeline.exports.audit_trail import Action, record_act
from pipeline.interfaces.cli.output import ExitCode
from tests.support import factories
from tests.support.command_line import Commands


def test_verify_proves_chains_and_names_breaks(service: Commands, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(factories.plan(batch="batch_audited")))
    export_id = service.json("execute", str(plan), "--wait")["exportId"]
    found = service.json("audit", "verify", "--export", export_id)
    assert (found["intact"], found["exports"], found["faults"]) == (True, 1, [])
    assert "every chain is intact: 1 exports" in service("audit", "verify", "--export", export_id).stdout
    copy = tmp_path / "copy.db"
    with sqlite3.connect(service.environment["DATABASE_URL"].removeprefix("sqlite:///")) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    database.close()
    with sqlite3.connect(copy) as database:
        database.execute("DROP TRIGGER events_no_update")
        database.execute("UPDATE events SET actor = 'somebody' WHERE export_id = ? AND seq = 2", (export_id,))
    database.close()
    result = service("audit", "verify", "--json", DATABASE_URL=f"sqlite:///{copy}")
    assert result.exit_code == ExitCode.REFUSED
    (fault,) = json.loads(result.stdout)["faults"]
    assert (fault["exportId"], fault["seq"], fault["kind"]) == (export_id, 2, "changed")
    assert service("audit", "checkpoint", DATABASE_URL=f"sqlite:///{copy}").exit_code == ExitCode.REFUSED


def test_list_shows_acts_and_verify_counts_them(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    url = commands.environment["DATABASE_URL"]
    database = Database(url)
    for actor in ("per_1", "per_2"):
        with database.write() as session:
            record_act(session, factories.ACCOUNT, actor, Action.SIGNED_IN, "ses_1", {"method": "password"})
    database.dispose()
    listed = commands.json("audit", "list", "--account", factories.ACCOUNT, "--limit", "1")
    assert ([each["actor"] for each in listed["items"]], listed["nextBefore"]) == (["per_2"], 2)
    older = commands("audit", "list", "--account", factories.ACCOUNT, "--before", "2").stdout
    assert ("per_1" in older, "per_2" in older, "signed_in" in older) == (True, False, True)
    assert commands.json("audit", "list", "--account", factories.ACCOUNT, "--actor", "per_9")["items"] == []
    assert commands("audit", "list", "--account", "nobody").exit_code == ExitCode.NOT_FOUND
    assert commands.json("audit", "verify")["acts"] == 2
    with sqlite3.connect(url.removeprefix("sqlite:///")) as opened:
        opened.execute("DROP TRIGGER acts_no_update")
        opened.execute("UPDATE acts SET actor = 'per_3' WHERE seq = 1")
    opened.close()
    result = commands("audit", "verify", "--json")
    assert result.exit_code == ExitCode.REFUSED
    (fault,) = json.loads(result.stdout)["faults"]
    assert (fault["accountId"], fault["seq"], fault["kind"]) == (factories.ACCOUNT, 1, "changed")


def test_checkpoint_file_is_verified_later(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    head = tmp_path / "head.json"
    stated = commands.json("audit", "checkpoint", "--account", factories.ACCOUNT)
    head.write_text(json.dumps(stated))
    assert (stated["account"], stated["exports"]) == (factories.ACCOUNT, 0)
    assert commands.json("audit", "verify", "--checkpoint", str(head))["intact"]
    head.write_text(json.dumps(stated | {"exports": 1}))
    assert commands("audit", "verify", "--checkpoint", str(head)).exit_code == ExitCode.REFUSED
    head.write_text("{}")
    assert commands("audit", "verify", "--checkpoint", str(head)).exit_code == ExitCode.USAGE
    assert commands("audit", "verify", "--checkpoint", str(tmp_path / "none")).exit_code == ExitCode.NOT_FOUND
    assert commands("audit", "verify", "--checkpoint", str(head), "--export", "exp_1").exit_code == ExitCode.USAGE
    assert commands("audit", "verify", "--export", "exp_1").exit_code == ExitCode.NOT_FOUND
    assert commands("audit", "checkpoint", "--account", "nobody").exit_code == ExitCode.NOT_FOUND
