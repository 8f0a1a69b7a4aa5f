"""`exports init` and `exports plans new`: their results execute, and existing data is not changed."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from config.settings import Settings
from pipeline.accounts.api_keys import Caller, find_caller
from pipeline.accounts.models import ApiKey, Partner
from pipeline.core.runtime import open_runtime
from pipeline.exports.models import Account
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.cli import demo
from pipeline.workflow.acceptance import accept_plan
from tests.support.command_line import Commands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current directory of the commands."""
    created = tmp_path / "empty"
    created.mkdir()
    monkeypatch.chdir(created)
    return created


def read_env_file(folder: Path) -> dict[str, str]:
    """Return the settings in the folder's .env."""
    lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def read_stored(commands: Commands) -> dict[str, Any]:
    """Return the accounts, partners and keys of the database."""
    runtime = open_runtime(Settings.model_validate({"database_url": commands.environment["DATABASE_URL"]}))
    try:
        with runtime.db.read() as session:
            return {
                "accounts": [(row.id, row.name, row.gs1_prefix) for row in session.exec(select(Account))],
                "partners": sorted((row.account_id, row.id, row.test) for row in session.exec(select(Partner))),
                "keys": [(row.id, row.account_id, row.mode, row.roles) for row in session.exec(select(ApiKey))],
            }
    finally:
        runtime.close()


def test_init_creates_what_an_export_needs_and_shows_the_key_once(new_machine: Commands, folder: Path) -> None:
    result = new_machine("init", "--name", "Maple Goods Ltd", "--gs1-prefix", "0614141")

    assert result.exit_code == 0, result.output
    env = read_env_file(folder)
    assert list(env) == ["EXPORTS_INSTALLATION", "EXPORTS_SECRET_KEY", "EXPORTS_API_KEY"]
    assert len(env["EXPORTS_SECRET_KEY"]) >= 32
    assert env["EXPORTS_API_KEY"] in result.stdout
    assert env["EXPORTS_SECRET_KEY"] not in result.output
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    found = read_stored(new_machine)
    assert found["accounts"] == [("acc_1", "Maple Goods Ltd", "0614141")]
    assert found["partners"] == [("acc_1", each, True) for each in ("br_sandbox", "op_demo", "wh_demo")]
    assert [key[1:] for key in found["keys"]] == [("acc_1", "test", ["execute", "operate", "read"])]


def test_init_twice_changes_nothing_and_shows_no_secret_again(commands: Commands, folder: Path) -> None:
    assert commands("init").exit_code == 0
    before, found = (folder / ".env").read_bytes(), read_stored(commands)

    result = commands("init", "--name", "Another name")

    assert result.exit_code == 0, result.output
    assert "already exist" in result.stdout
    assert read_env_file(folder)["EXPORTS_API_KEY"] not in result.output
    assert ((folder / ".env").read_bytes(), read_stored(commands)) == (before, found)


def test_init_keeps_an_existing_env_file_and_names_the_key_command(commands: Commands, folder: Path) -> None:
    (folder / ".env").write_text("EXPORTS_LOG_FORMAT=text\n", encoding="utf-8")

    result = commands("init")

    assert result.exit_code == 0, result.output
    assert (folder / ".env").read_text(encoding="utf-8") == "EXPORTS_LOG_FORMAT=text\n"
    assert "exports keys create --account acc_1" in result.stdout
    assert read_stored(commands)["accounts"] == [("acc_1", "acc_1", None)]
    assert read_stored(commands)["keys"] == []


def test_init_creates_what_is_missing_and_keeps_the_rest(commands: Commands, folder: Path) -> None:
    commands("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    commands("partners", "add", "wh_demo", "--account", "acc_1", "--kind", "warehouse", "--name", "Ours", "--live")

    created = commands.json("init")

    assert created["made"] == ["customs broker br_sandbox", "operator op_demo"]
    assert read_stored(commands)["partners"] == [
        ("acc_1", "br_sandbox", True),
        ("acc_1", "op_demo", True),
        ("acc_1", "wh_demo", False),
    ]
    # What the previous secret key encrypted must still be readable.
    assert "EXPORTS_SECRET_KEY" not in read_env_file(folder)


def test_init_keeps_the_settings_that_are_given(commands: Commands, folder: Path) -> None:
    given = {"EXPORTS_SECRET_KEY": "k" * 32, "EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "false"}
    assert commands("init", **given).exit_code == 0
    assert list(read_env_file(folder)) == ["EXPORTS_API_KEY"]


@pytest.mark.parametrize(
    ("broker_url", "named"),
    [
        ("memory://", "`exports serve`, then"),
        ("amqp://exports:long-and-random@127.0.0.1:9//", "`exports web`, `exports worker`, `exports deliveries`, `exports intake`, each in its own terminal, then"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("folder")
def test_init_names_the_processes_to_start(commands: Commands, broker_url: str, named: str) -> None:
    assert f"Next: {named} in another terminal" in commands("init", BROKER_URL=broker_url).stderr


@pytest.mark.parametrize("wrong", [["--account", "a b"], ["--gs1-prefix", "x"]])
def test_init_with_an_invalid_value_fails_and_can_be_repeated(
    commands: Commands, folder: Path, wrong: list[str]
) -> None:
    result = commands("init", *wrong)
    assert result.exit_code == 1, result.output
    assert not (folder / ".env").exists()
    assert read_stored(commands) == {"accounts": [], "partners": [], "keys": []}
    assert commands("init").exit_code == 0


def test_init_that_cannot_write_env_creates_nothing(
    commands: Commands, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.interfaces.cli.init.ENV_FILE", folder / "none" / ".env")
        result = commands("init")
    assert (result.exit_code, ".env cannot be created" in result.stderr) == (1, True), result.output
    assert read_stored(commands) == {"accounts": [], "partners": [], "keys": []}
    assert commands("init").exit_code == 0
    assert len(read_env_file(folder)["EXPORTS_SECRET_KEY"]) >= 32


def test_init_with_a_weak_secret_key_creates_nothing(new_machine: Commands, folder: Path) -> None:
    result = new_machine("init", EXPORTS_PUBLIC_URL="https://exports.example", EXPORTS_SECRET_KEY="short")
    assert (result.exit_code, "EXPORTS_SECRET_KEY has only 5 characters" in result.stderr) == (1, True), result.output
    assert not (folder / ".env").exists()
    assert not (folder.parent / "exports.db").exists()


def test_migrate_refuses_a_weak_secret_key_before_it_migrates(new_machine: Commands, tmp_path: Path) -> None:
    result = new_machine("migrate", EXPORTS_PUBLIC_URL="https://exports.example", EXPORTS_SECRET_KEY="short")
    assert (result.exit_code, "EXPORTS_SECRET_KEY has only 5 characters" in result.stderr) == (1, True), result.output
    assert not (tmp_path / "exports.db").exists()


def test_new_plan_executes_after_init_and_has_its_own_batch(commands: Commands, folder: Path) -> None:
    assert commands("init").exit_code == 0
    plans = [
        commands.json("plans", "new", "--account", "acc_1", "--broker", "br_sandbox", *more)
        for more in ([], [], ["--batch", "batch_mine", "--warehouse", "wh_demo"])
    ]
    assert plans[2]["batchId"] == "batch_mine"
    assert len({plan["batchId"] for plan in plans}) == 3
    runtime = open_runtime(Settings.model_validate({"database_url": commands.environment["DATABASE_URL"]}))
    try:
        caller: Caller = find_caller(runtime, read_env_file(folder)["EXPORTS_API_KEY"])
        states = []
        for plan in plans:
            request = ExecuteRequest.model_validate({"accountId": "acc_1", "batchId": plan["batchId"], "plan": plan})
            states.append(accept_plan(runtime, caller, request, raw_plan=plan, idempotency_key=None).created)
        assert states == [True, True, True]
    finally:
        runtime.close()


def test_new_plan_inserts_partner_ids_literally(commands: Commands) -> None:
    text = commands("plans", "new", "--explain", "--broker", 'b"\\1', "--warehouse", "wh\\g<0>").stdout
    assert text.lstrip().startswith("//")
    assert f'"broker": {{"id": {json.dumps("b" + chr(34) + chr(92) + "1")}}}' in text
    assert '"warehouse": {"id": "wh\\\\g<0>"}' in text
    plan = commands.json("plans", "new", "--account", "acc_2", "--broker", "br_2", "--warehouse", "wh_2")
    assert (plan["accountId"], plan["broker"], plan["warehouse"]) == ("acc_2", {"id": "br_2"}, {"id": "wh_2"})
    assert Plan.model_validate(plan).units[0].packages[0].sscc is None


def test_partners_of_init_match_the_example_plan(commands: Commands) -> None:
    plan = commands.json("plans", "new")
    assert {plan["broker"]["id"], plan["warehouse"]["id"]} < {partner.id for partner in demo.PARTNERS}
