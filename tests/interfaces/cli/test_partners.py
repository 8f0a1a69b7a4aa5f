"""Onboarding a partner from the command line: its states, secret and credential."""

from contextlib import closing
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from config.settings import Settings
from pipeline.accounts import recipients
from pipeline.core.runtime import open_runtime
from tests.support.command_line import Commands

OF = ("wh_1", "--account", "acc_1")


def add_partner(commands_with_account: Commands, *options: str) -> dict[str, Any]:
    created: dict[str, Any] = commands_with_account.json(
        "partners", "add", *OF, "--kind", "warehouse", "--name", "Dock 4", *options
    )
    return created


def test_partner_is_paused_and_resumed(commands: Commands) -> None:
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    add = ("partners", "add", "wh_1", "--account", "acc_1", "--kind", "warehouse", "--name", "Warehouse")
    commands.json(*add, "--queue")
    refused = commands("partners", "pause", "wh_1", "--account", "acc_1")
    assert (refused.exit_code, "draft; only a live partner" in refused.output) == (1, True)
    commands.json("partners", "test", "wh_1", "--account", "acc_1")
    for action, state in (("activate", "live"), ("pause", "paused"), ("resume", "live")):
        assert commands.json("partners", action, "wh_1", "--account", "acc_1")["state"] == state
    assert "wh_1 is paused" in commands("partners", "pause", "wh_1", "--account", "acc_1").output


def test_rotated_secret_is_shown_once_and_the_old_one_has_an_overlap(commands_with_account: Commands) -> None:
    first = add_partner(commands_with_account, "--live")
    assert first["state"] == "live"
    rotated = commands_with_account.json("partners", "rotate-secret", *OF, "--overlap", "0")
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != first["secret"]
    shown = commands_with_account("partners", "rotate-secret", *OF)
    assert "signing secret whsec_" in shown.stdout
    assert "The older one is valid until" in shown.stderr
    assert "whsec_" not in commands_with_account("partners", "list", "--account", "acc_1", "--json").stdout
    assert commands_with_account("partners", "rotate-secret", *OF, "--overlap", "169").exit_code == 2


def test_partner_with_email_alone_is_not_given_a_secret(commands_with_account: Commands) -> None:
    broker = ("br_1", "--account", "acc_1", "--kind", "customs_broker", "--name", "Broker")
    added = commands_with_account("partners", "add", *broker, "--email", "desk@broker.example")
    assert "needs no secret" in " ".join(added.output.split())
    assert "Give the secret" not in added.output


@pytest.mark.parametrize("password", ["of-the-partner\n", None])
def test_partner_with_email_and_sftp_does_not_show_its_credential(
    commands_with_account: Commands, tmp_path: Path, password: str | None
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    pin = key.export_public_key().decode().strip()
    file = tmp_path / "credential"
    file.write_text(password or key.export_private_key().decode())
    broker = ("br_1", "--account", "acc_1", "--kind", "customs_broker", "--name", "Broker")
    files = ("--sftp", "sftp://us@files.example/in", "--host-key", pin)
    assert commands_with_account("partners", "add", *broker, *files).exit_code == 2
    created = commands_with_account.json(
        "partners", "add", *broker, *files, "--credential", str(file), "--email", "desk@broker.example"
    )
    assert [endpoint["channel"] for endpoint in created["channels"]] == ["email", "sftp"]
    assert created["channels"][1] == {
        "channel": "sftp", "address": "sftp://us@files.example/in", "hostKeys": [pin], "password": None, "privateKey": None
    }  # fmt: skip
    assert "email desk@broker.example, sftp sftp://us@files.example/in" in " ".join(
        commands_with_account("partners", "list", "--account", "acc_1").stdout.split()
    )
    settings = Settings(database_url=commands_with_account.environment["DATABASE_URL"])
    with closing(open_runtime(settings)) as runtime, runtime.db.read() as session:
        _, endpoint = recipients.list_sealed_targets(session, "acc_1", "br_1")
    target = endpoint.unseal(settings)
    assert target.credential is not None
    assert target.credential.strip() == file.read_text().strip()


def test_receiver_needs_a_secret_or_token(commands_with_account: Commands) -> None:
    refused = commands_with_account("partners", "receiver")
    assert (refused.exit_code, "--secret or --token" in refused.stderr) == (2, True)


def test_unknown_partner_is_not_found(commands_with_account: Commands) -> None:
    for command in ("test", "activate", "rotate-secret"):
        assert commands_with_account("partners", command, *OF).exit_code == 3
