"""`exports doctor`: its checks, findings and remedies."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.customs.reference.ruleset import ruleset
from pipeline.ops.migrations.runner import list_revisions
from tests.conftest import Stack
from tests.support.command_line import Commands


def read_outcomes(commands: Commands, **environment: str) -> tuple[int, dict[str, Any]]:
    result = commands("doctor", "--json", **environment)
    return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}


def test_doctor_passes_on_a_migrated_machine(commands: Commands) -> None:
    commands.json("migrate")
    code, checks = read_outcomes(commands)
    assert code == 0
    assert list(checks) == [
        "secret key", "database", "database settings", "migrations", "installation", "row-level security", "partner secrets", "GS1 prefixes", "message broker", "messages in queues", "artifact store", "documents", "mail server", "mailbox", "fonts", "PDF engine", "customs rules", "clock"
    ]  # fmt: skip
    assert all(check["ok"] and check["remedy"] is None for check in checks.values())
    age = (datetime.now(UTC).date() - ruleset().as_of).days
    assert f"as of {ruleset().as_of}, {age} days old" in checks["customs rules"]["found"]


def test_doctor_reports_what_is_outdated(new_machine: Commands) -> None:
    code, checks = read_outcomes(new_machine)
    assert code == 1
    assert [name for name, check in checks.items() if not check["ok"]] == [
        "migrations",
        "installation",
        "row-level security",
        "partner secrets",
        "GS1 prefixes",
        "documents",
    ]
    assert "exports migrate" in checks["migrations"]["remedy"]


def test_commands_reject_tables_of_an_unreleased_version(commands: Commands, tmp_path: Path) -> None:
    commands.json("migrate")
    with closing(sqlite3.connect(tmp_path / "exports.db")) as connection:
        connection.execute("DROP TABLE logos")
    code, checks = read_outcomes(commands)
    found = f"the database is at revision {list_revisions()[0]}, but its tables are not of this version: no table logos"
    assert (code, checks["migrations"]["found"]) == (1, found)
    assert checks["row-level security"]["found"] == "cannot be checked without the migrations"
    remedy = checks["migrations"]["remedy"]
    for command in (["migrate"], ["accounts", "list"]):
        refused = commands(*command, "--json")
        problem = {"errorCode": "REFUSED", "message": found, "remedy": remedy}
        assert (refused.exit_code, json.loads(refused.stdout)) == (1, problem)
    assert remedy.startswith("A version that was not released made them. Keep a copy")


def test_copy_of_another_installations_database_is_found_until_it_is_adopted(commands: Commands) -> None:
    for name in ("live", "drill"):
        commands.json("migrate", EXPORTS_INSTALLATION=name)
    code, checks = read_outcomes(commands, EXPORTS_INSTALLATION="drill")
    assert (code, [name for name, check in checks.items() if not check["ok"]]) == (1, ["installation"])
    assert "belongs to the installation live" in checks["installation"]["found"]
    assert "exports migrate --adopt" in checks["installation"]["remedy"]
    assert commands("migrate", "--adopt").exit_code == 2, "without a name there is nothing to record"
    commands.json("migrate", "--adopt", EXPORTS_INSTALLATION="drill")
    code, checks = read_outcomes(commands, EXPORTS_INSTALLATION="drill")
    assert (code, checks["installation"]["found"]) == (0, "the database belongs to drill")


def test_doctor_names_the_account_whose_gs1_prefix_is_nearly_used(commands: Commands) -> None:
    for account, prefix, issued in (("acc_1", "0614141", "800001"), ("acc_2", "0614141234", "799999")):
        commands.json("accounts", "create", account, "--name", "Maple", "--gs1-prefix", prefix)
        commands.json("accounts", "skip-numbers", account, "--above-sscc", issued)
    check = read_outcomes(commands)[1]["GS1 prefixes"]
    assert (check["ok"], check["found"]) == (True, "acc_2 has used 80% of 0614141234; 200000 serials are left")
    commands.json("accounts", "skip-numbers", "acc_2", "--above-sscc", "800000")
    check = read_outcomes(commands)[1]["GS1 prefixes"]
    assert (check["ok"], check["found"]) == (False, "acc_2 has used 80% of 0614141234; 199999 serials are left")
    assert "Ask GS1 for another company prefix" in check["remedy"]


def test_doctor_names_every_part_that_fails_with_a_remedy(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    code, checks = read_outcomes(
        commands,
        DATABASE_URL="postgresql://nobody:canary@127.0.0.1:9/none",
        BROKER_URL="redis://:canary@127.0.0.1:9/0",
        ARTIFACTS_URL=f"file:{tmp_path / 'file' / 'artifacts'}",
    )
    assert code == 1
    assert [name for name, check in checks.items() if check["ok"]] == [
        "mail server",
        "mailbox",
        "fonts",
        "PDF engine",
        "customs rules",
    ]
    for name in ("secret key", "database", "message broker", "artifact store"):
        assert checks[name]["remedy"]
    assert checks["clock"]["found"] == "cannot be checked without the database"
    assert "canary" not in json.dumps(checks)


def test_doctor_gives_no_remedy_if_another_part_is_the_cause(new_machine: Commands, tmp_path: Path) -> None:
    dead = {"BROKER_URL": "redis://:canary@127.0.0.1:9/0", "EXPORTS_SECRET_KEY": "k" * 32}
    _, checks = read_outcomes(new_machine, **dead)
    assert checks["messages in queues"]["found"] == "cannot be checked without the migrations"
    new_machine.json("migrate")
    _, checks = read_outcomes(new_machine, **dead)
    assert [name for name, check in checks.items() if not check["ok"]] == ["message broker", "messages in queues"]
    assert checks["messages in queues"]["found"] == "cannot be checked without the message broker"
    _, checks = read_outcomes(
        new_machine,
        **dead,
        DATABASE_URL="postgresql://nobody:long-and-random@127.0.0.1:9/none",
        ARTIFACTS_URL=f"file:{tmp_path / 'none yet'}",
    )
    assert checks["messages in queues"]["found"] == "cannot be checked without the migrations"
    assert checks["artifact store"]["found"].startswith("cannot be checked without the database: the database did not")
    assert checks["artifact store"]["remedy"] == checks["database"]["remedy"]
    assert not any("noeviction" in (check["remedy"] or "") for check in checks.values())


def test_doctor_checks_messages_in_queues_only_on_redis(commands: Commands) -> None:
    _, checks = read_outcomes(
        commands, BROKER_URL="amqp://exports:long-and-random@127.0.0.1:9//", EXPORTS_SECRET_KEY="k" * 32
    )
    assert not checks["message broker"]["ok"]
    assert checks["messages in queues"]["found"] == "RabbitMQ keeps their messages"


def test_doctor_names_partners_with_unreadable_secrets(commands: Commands) -> None:
    commands.json("migrate")
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    partner = ("--account", "acc_1", "--kind", "warehouse", "--name", "Warehouse")
    for name in ("wh_1", "wh_2"):
        commands.json("partners", "add", name, *partner, EXPORTS_SECRET_KEY="an older one of thirty-two characters")
    commands.json("partners", "add", "wh_3", *partner)
    code, checks = read_outcomes(commands)
    assert (code, checks["partner secrets"]["found"]) == (1, "2 of 3 cannot be decrypted, such as that of acc_1/wh_1")
    assert "EXPORTS_SECRET_KEYS_PREVIOUS" in checks["partner secrets"]["remedy"]
    both = json.dumps(["an older one of thirty-two characters"])
    code, checks = read_outcomes(commands, EXPORTS_SECRET_KEYS_PREVIOUS=both)
    assert (code, checks["partner secrets"]["found"]) == (0, "3 can be decrypted")


def test_doctor_prints_for_people(new_machine: Commands) -> None:
    result = new_machine("doctor")
    assert "✓ database" in result.stdout
    assert "✗ migrations" in result.stdout


def test_doctor_passes_on_every_stack(stack: Stack) -> None:
    code, checks = read_outcomes(Commands({**stack.environment}))
    assert code == 0, checks
    assert "inside" in checks["message broker"]["found"] or "answers" in checks["message broker"]["found"]


def test_checks_stand_in_columns(commands: Commands) -> None:
    shown = [line for line in commands("doctor").stdout.splitlines() if line[:1] in {"✓", "✗"}]
    assert len({line.index(" ms ") for line in shown}) == 1
