"""The commands about this machine: settings, database, doctor, accounts, keys, partners, schemas, serve."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from config.settings import Settings
from pipeline.core.clock import utc_now
from pipeline.exports import examples
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.cli.config import HIDDEN
from pipeline.interfaces.cli.main import app, load_command
from pipeline.interfaces.cli.server import WORKERS
from tests.interfaces.cli.test_server_doctor import read_outcomes
from tests.support.command_line import Commands, exports
from tests.support.logos import draw_logo


def list_commands() -> dict[tuple[str, ...], Any]:
    """Return every command of `exports` by its words."""
    group: Any = get_command(app)
    found: dict[tuple[str, ...], Any] = {}
    for name in group.list_commands(None):
        found |= list_inner_commands(load_command(name), (name,))
    return found


def list_inner_commands(command: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    if not isinstance(command, TyperGroup):
        return {path: command}
    found: dict[tuple[str, ...], Any] = {}
    for name, inner in command.commands.items():
        found |= list_inner_commands(inner, (*path, name))
    return found


def test_every_command_has_json_output() -> None:
    commands = list_commands()
    assert len(commands) >= 20
    silent = [path for path, command in commands.items() if "--json" not in [o for p in command.params for o in p.opts]]
    assert silent == []


def test_every_command_has_help() -> None:
    assert [path for path, command in list_commands().items() if not command.help] == []


# Settings


def test_settings_are_shown_with_their_source(commands: Commands) -> None:
    shown = {view["name"]: view for view in commands.json("config", "show", EXPORTS_PORT="9000")}
    assert len(shown) == len(Settings.model_fields)
    assert (shown["EXPORTS_PORT"]["value"], shown["EXPORTS_PORT"]["source"]) == ("9000", "env")
    assert (shown["EXPORTS_HOST"]["value"], shown["EXPORTS_HOST"]["source"]) == ("127.0.0.1", "default")
    assert shown["DATABASE_URL"]["source"] == "env"
    assert all(view["description"] for view in shown.values())


def test_setting_from_a_file_is_shown_as_such(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").write_text("EXPORTS_HOST=127.0.0.9\n")
    monkeypatch.setitem(Settings.model_config, "env_file", str(tmp_path / "settings"))
    shown = {view["name"]: view for view in commands.json("config", "show")}
    assert (shown["EXPORTS_HOST"]["value"], shown["EXPORTS_HOST"]["source"]) == ("127.0.0.9", ".env")


def test_no_secret_is_shown(commands: Commands) -> None:
    secrets = {
        "DATABASE_URL": "postgresql://user:canary@db.example/x?password=canary",
        "BROKER_URL": "amqp://user:canary@mq.example//",
        "EXPORTS_API_KEY": "canary",
        "EXPORTS_SECRET_KEY": "canary",
        "EXPORTS_BORDERBUDDY_TOKEN": "canary",
    }
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        result = commands(*arguments, **secrets)
        assert result.exit_code == 0
        assert "canary" not in result.output
        assert result.stdout.count(HIDDEN) >= 6
        assert f"amqp://user:{HIDDEN}@mq.example//" in result.stdout


def test_wrong_setting_is_a_usage_error(commands: Commands) -> None:
    result = commands("accounts", "list", DATABASE_URL="mysql://x")
    assert result.exit_code == 2
    assert "DATABASE_URL must begin with one of sqlite:" in result.stderr


# Database


def test_migrating_twice_changes_nothing(new_machine: Commands) -> None:
    assert new_machine.json("migrate") == {"migrated": True}
    assert new_machine.json("migrate") == {"migrated": False}


def test_migration_is_printed_and_not_done(new_machine: Commands) -> None:
    printed = new_machine("migrate", "--sql")
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert "CREATE TABLE exports (" in printed.stdout
    assert new_machine("migrate", "--sql", "--json").exit_code == 2
    assert new_machine.json("migrate") == {"migrated": True}
    assert new_machine("migrate", "--sql").stdout == "-- The database was already at the newest revision.\n"


def test_newer_schema_is_used_and_not_migrated(commands: Commands) -> None:
    commands.json("migrate")
    with closing(sqlite3.connect(commands.environment["DATABASE_URL"].removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    printed_lines = commands("migrate")
    assert (printed_lines.exit_code, "a newer version's revision, and was not changed" in printed_lines.output) == (
        0,
        True,
    )
    assert commands.json("migrate") == {"migrated": False}
    assert commands.json("accounts", "list") == []
    code, checks = read_outcomes(commands)
    assert (code, checks["migrations"]["found"]) == (
        0,
        "the tables are of a newer version; this version works with them until it is replaced",
    )


def test_unavailable_database_is_unreachable(commands: Commands) -> None:
    result = commands("accounts", "list", "--json", DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    assert (result.exit_code, json.loads(result.stdout)["errorCode"]) == (4, "UNREACHABLE")


# Accounts, keys, partners


def test_key_is_shown_once_and_listed_without_its_secret(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd", "--gs1-prefix", "0614141")
    created = commands.json("keys", "create", "--account", "acc_1", "--test", "--partner", "br_1", "--days", "7")
    assert created["key"].startswith("exp_test_")
    listed = commands("keys", "list", "--account", "acc_1", "--json")
    (key,) = json.loads(listed.stdout)
    assert (key["id"], key["mode"], key["roles"], key["revokedAt"]) == (created["id"], "test", ["partner:br_1"], None)
    assert created["key"] not in listed.stdout
    assert key["lastUsedAt"] is None
    assert "never" in commands("keys", "list", "--account", "acc_1").stdout

    commands.json("keys", "revoke", created["key"], "--account", "acc_1")
    assert commands.json("keys", "list", "--account", "acc_1")[0]["revokedAt"] is not None
    assert "revoked" in commands("keys", "list", "--account", "acc_1").stdout
    assert commands.json("accounts", "list")[0]["gs1Prefix"] == "0614141"


def test_account_name_with_deceiving_characters_is_rejected(commands: Commands) -> None:
    refused = commands("accounts", "create", "acc_1", "--name", "Maple \u202eelpaM")
    assert refused.exit_code == 1
    assert (
        "the name must not hold characters that change the direction of writing: U+202E (right-to-left override)"
        in refused.stderr
    )
    assert commands.json("accounts", "list") == []


def test_skip_numbers_after_a_restore(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd", "--gs1-prefix", "0614141")
    assert commands.json("accounts", "skip-numbers", "acc_1", "--packages", "40", "--ssccs", "100") == {
        "id": "acc_1",
        "packagesSkipped": 40,
        "ssccsSkipped": 100,
        "nextPackageNumber": "CP-000041",
        "nextSscc": "006141410000001019",
    }
    shown = commands("accounts", "skip-numbers", "acc_1", "--ssccs", "1").stdout
    assert "account acc_1: the next package number is CP-000041, the next SSCC 006141410000001026" in shown
    refused = commands("accounts", "skip-numbers", "acc_1")
    assert (refused.exit_code, "nothing to skip" in refused.stderr) == (1, True)
    assert commands("accounts", "skip-numbers", "acc_1", "--packages", "-1").exit_code == 2
    assert commands("accounts", "skip-numbers", "acc_2", "--packages", "1").exit_code == 3
    both = commands("accounts", "skip-numbers", "acc_1", "--packages", "1", "--above", "CP-000050")
    assert (both.exit_code, "exclude each other; give one" in both.stderr) == (1, True)
    assert commands.json(
        "accounts", "skip-numbers", "acc_1", "--above", "CP-000050", "--above-sscc", "006141410000002009"
    ) == {
        "id": "acc_1",
        "packagesSkipped": 10,
        "ssccsSkipped": 99,
        "nextPackageNumber": "CP-000051",
        "nextSscc": "006141410000002016",
    }


@pytest.mark.system
def test_log_lines_of_a_command_are_not_on_standard_output(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    skip = exports(["accounts", "skip-numbers", "acc_1", "--packages", "3", "--json"], commands.environment, tmp_path)
    printed, logged = skip.communicate(timeout=120)
    assert json.loads(printed)["nextPackageNumber"] == "CP-000004"
    assert "numbers_skipped" in logged


def test_mail_domains_of_an_account_are_set(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    again = commands("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    assert commands.json("accounts", "list")[0]["mailDomains"] is None
    assert commands.json("accounts", "mail-domains", "acc_1", "broker.example") == {
        "id": "acc_1", "mailDomains": ["broker.example"]
    }  # fmt: skip
    assert "broker.example" in commands("accounts", "list").stdout
    add = ("partners", "add", "br_1", "--account", "acc_1", "--kind", "customs_broker", "--name", "Broker")
    refused = commands(*add, "--email", "desk@other.example")
    assert (refused.exit_code, "may send mail to broker.example" in refused.stderr) == (1, True)
    assert "to no domain" in commands("accounts", "mail-domains", "acc_1").stdout
    assert "to any domain" in commands("accounts", "mail-domains", "acc_1", "--any").stdout
    assert commands("accounts", "mail-domains", "acc_1", "a.example", "--any").exit_code == 2
    assert commands("accounts", "mail-domains", "acc_2", "--any").exit_code == 3


def test_languages_of_an_account_are_set(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    assert commands.json("accounts", "list")[0]["languages"] == ["en"]
    assert commands.json("accounts", "languages", "acc_1", "en", "fr") == {"id": "acc_1", "languages": ["en", "fr"]}
    assert commands.json("accounts", "list")[0]["languages"] == ["en", "fr"]
    assert "print en" in commands("accounts", "languages", "acc_1", "en").stdout
    refused = commands("accounts", "languages", "acc_1", "fr")
    assert (refused.exit_code, "customs asks for English" in refused.stderr) == (1, True)
    assert commands("accounts", "languages", "acc_1", "de").exit_code == 2
    assert commands("accounts", "languages", "acc_2", "en").exit_code == 3


@pytest.mark.pdf_engine
def test_logo_of_an_account_is_set_and_removed(commands: Commands, tmp_path: Path) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    picture = tmp_path / "logo.png"
    picture.write_bytes(draw_logo())
    stored = {"id": "acc_1", "logo": {"width": 576, "height": 192}}
    assert commands.json("accounts", "logo", "acc_1", str(picture)) == stored
    assert "print the logo, 576 x 192 pixels" in commands("accounts", "logo", "acc_1", str(picture)).stdout
    assert "print no logo" in commands("accounts", "logo", "acc_1", "--remove").stdout
    picture.write_text("<svg/>")
    refused = commands("accounts", "logo", "acc_1", str(picture))
    assert (refused.exit_code, "neither PNG nor JPEG; save it as PNG" in refused.stderr) == (1, True)
    assert commands("accounts", "logo", "acc_1").exit_code == 2
    assert commands("accounts", "logo", "acc_1", str(picture), "--remove").exit_code == 2
    assert commands("accounts", "logo", "acc_2", "--remove").exit_code == 3


def test_keys_rotate_ends_the_older_key_after_the_overlap(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    old = commands.json("keys", "create", "--account", "acc_1", "--role", "read", "--name", "of the desk")
    new = commands.json("keys", "rotate", old["id"], "--account", "acc_1", "--overlap-hours", "2")
    assert (new["replaces"], new["key"] != old["key"]) == (old["id"], True)
    listed = {each["id"]: each for each in commands.json("keys", "list", "--account", "acc_1")}
    assert [listed[each["id"]]["roles"] for each in (old, new)] == [["read"], ["read"]]
    ends = datetime.fromisoformat(listed[old["id"]]["expiresAt"])
    assert timedelta(hours=1) < ends - datetime.now(UTC) <= timedelta(hours=2)
    assert listed[new["id"]]["expiresAt"] is new["expiresAt"] is None
    # By the whole key as well; without an overlap the older one has ended, and is not rotated again.
    newest = commands("keys", "rotate", new["key"], "--account", "acc_1", "--overlap-hours", "0")
    assert newest.stdout.startswith("exp_live_")
    assert "does not expire" in newest.stderr
    refused = commands("keys", "rotate", new["id"], "--account", "acc_1")
    assert (refused.exit_code, "has expired or was revoked" in refused.stderr) == (1, True)
    assert commands("keys", "rotate", "abcdefghij", "--account", "acc_1").exit_code == 3


def test_keys_rotate_keeps_the_expiry_or_takes_the_given_days(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    old = commands.json("keys", "create", "--account", "acc_1", "--days", "30")
    (kept,) = commands.json("keys", "list", "--account", "acc_1")
    new = commands.json("keys", "rotate", old["id"], "--account", "acc_1")
    listed = {each["id"]: each for each in commands.json("keys", "list", "--account", "acc_1")}
    assert listed[new["id"]]["expiresAt"] == new["expiresAt"] == kept["expiresAt"]
    before = datetime.now(UTC)
    longer = commands("keys", "rotate", new["id"], "--account", "acc_1", "--days", "90")
    ends = {f"expires on {each + timedelta(days=90):%Y-%m-%d}" for each in (before, datetime.now(UTC))}
    assert any(end in longer.stderr for end in ends)


def test_keys_of_an_unknown_account_are_not_found(commands: Commands) -> None:
    assert commands("keys", "create", "--account", "acc_nobody").exit_code == 3
    assert commands("keys", "revoke", "abc", "--account", "acc_nobody").exit_code == 3


def test_partner_is_registered_with_its_channels(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    of_account = ("--account", "acc_1", "--name", "Partner")
    created = commands.json("partners", "add", "wh_1", "--kind", "warehouse", "--queue", "--webhook",
                         "https://hooks.example/in", *of_account)  # fmt: skip
    assert created["secret"].startswith("whsec_")
    assert [channel["channel"] for channel in created["channels"]] == ["queue", "webhook"]
    listed = commands("partners", "list", "--account", "acc_1", "--json")
    assert [partner["id"] for partner in json.loads(listed.stdout)] == ["wh_1"]
    assert "whsec_" not in listed.stdout

    assert commands("partners", "add", "wh_2", "--kind", "depot", *of_account).exit_code == 2
    malformed = commands("partners", "add", "wh_2", "--kind", "warehouse", "--webhook", "ftp://x", *of_account)
    assert (malformed.exit_code, "address" in malformed.stderr) == (2, True)

    mailed = commands.json("partners", "add", "br_1", "--kind", "customs_broker", "--email", "desk@broker.example",
                           "--email", "clerk@broker.example", *of_account)  # fmt: skip
    assert mailed["channels"] == [{"channel": "email", "addresses": ["desk@broker.example", "clerk@broker.example"]}]
    nobody = commands("partners", "add", "br_2", "--kind", "customs_broker", "--email", "nobody", *of_account)
    assert (nobody.exit_code, "addresses" in nobody.stderr) == (2, True)


# Plans and schemas


def test_example_plan_is_valid_with_and_without_comments(commands: Commands) -> None:
    Plan.model_validate(commands.json("plans", "new"))
    Plan.model_validate_json(commands("plans", "new").stdout)  # into a file or pipe
    assert commands("plans", "new", "--explain").stdout.lstrip().startswith("//")
    assert commands("plans", "new", "--explain", "--json").exit_code == 2


def test_example_plans_are_dated_today(commands: Commands) -> None:
    for name in examples.list_all_names():
        printed = Plan.model_validate_json(commands("plans", "example", name).stdout)
        assert printed.units[0].entry.export_date > utc_now().date(), name
    unknown = commands("plans", "example", "cookwear")
    assert (unknown.exit_code, unknown.stdout) == (3, "")
    assert "Use one of: cookware" in unknown.stderr


@pytest.mark.parametrize(
    ("text", "printed_lines"),
    [
        ('{"a": }', "line 1, column 7"),
        ("[1]", "must hold a JSON object"),
        ('{\n// "//" in\n"a": "b//c" x}', "line 3, column 13"),
    ],
)
def test_invalid_plan_file_is_a_usage_error(commands: Commands, tmp_path: Path, text: str, printed_lines: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    result = commands("execute", str(tmp_path / "plan.json"))
    assert (result.exit_code, printed_lines in result.stderr) == (2, True), result.stderr
    assert commands("execute", str(tmp_path / "none.json")).exit_code == 3


def test_schemas_are_printed_by_name(commands: Commands) -> None:
    names = commands.json("schema")
    assert {"plan", "export", "problem"} <= set(names)
    assert commands.json("schema", "plan")["title"] == "Plan"
    assert commands("schema", "none").exit_code == 3
    assert names[-4:] == ["asyncapi", "openapi", "http", "cli"]
    assert commands.json("schema", "asyncapi")["asyncapi"] == "3.0.0"
    assert commands.json("schema", "openapi")["paths"]["/api/exports/execute"]["post"]["operationId"] == "executeExport"


# Serve


def test_taken_port_is_reported(service: Commands) -> None:
    taken = service.environment["EXPORTS_API_URL"].rsplit(":", 1)[1]
    result = service("serve", "--port", taken)
    assert result.exit_code == 1
    assert "--port 0" in result.stderr


def test_commands_named_by_serve_match_the_procfile() -> None:
    procfile = (Path(__file__).parents[3] / "Procfile").read_text().splitlines()
    lines = dict(line.split(": ", 1) for line in procfile)
    # Alone, a worker executes large units, too.
    commands = [lines[process].removesuffix(" -X exports.large") for process in ("worker", "deliveries", "intake")]
    assert commands == list(WORKERS)


def test_serve_on_all_addresses_needs_a_secret_key(commands: Commands) -> None:
    for variable, url in (
        ("BROKER_URL", "redis://127.0.0.1:9/0"),
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/x"),
    ):
        refused = commands("serve", "--port", "0", **{variable: url})
        assert (refused.exit_code, "EXPORTS_SECRET_KEY" in refused.stderr) == (1, True), refused.output
    refused = commands("serve", "--port", "0", "--host", "::")
    assert (refused.exit_code, "EXPORTS_SECRET_KEY" in refused.stderr) == (1, True), refused.output
