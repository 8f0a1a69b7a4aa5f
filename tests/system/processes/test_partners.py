"""Onboarding a partner against the receivers of the service, each in its own process."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Commands, exports

OF = ("wh_1", "--account", "acc_1")


@contextmanager
def run_receiver(folder: Path, *options: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run `exports partners receiver` in its own process; give its URL and, afterwards, the requests that it received."""
    with run_stand_in(folder, "receiver", *options) as (greeting, seen):
        yield greeting["address"], seen


@contextmanager
def run_stand_in(folder: Path, *command: str) -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
    """Run one of the receivers in its own process; give its first line and, afterwards, its further output."""
    process = exports(["partners", *command, "--json"], {}, folder)
    seen: list[dict[str, Any]] = []
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), seen
    finally:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        seen += [json.loads(line) for line in stdout.splitlines()]
        assert (process.returncode, stderr) == (0, "")


def add_partner(commands_with_account: Commands, *options: str) -> dict[str, Any]:
    created: dict[str, Any] = commands_with_account.json(
        "partners", "add", *OF, "--kind", "warehouse", "--name", "Dock 4", *options
    )
    return created


def test_partner_goes_live_after_its_test_has_passed(commands_with_account: Commands, tmp_path: Path) -> None:
    with run_receiver(tmp_path, "--token", "unused") as (address, _):
        port = address.rsplit(":", 1)[1].split("/")[0]
    created = add_partner(commands_with_account, "--webhook", address)
    assert created["state"] == "draft"
    refused = commands_with_account("partners", "activate", *OF)
    assert (refused.exit_code, "run its connection test" in refused.stderr) == (1, True)
    with run_receiver(tmp_path, "--secret", created["secret"], "--port", port) as (_, seen):
        tested = commands_with_account.json("partners", "test", *OF)
    assert (tested["passed"], tested["state"], tested["testedBy"]) == (True, "verified", "cli")
    assert [each["status"] for each in seen] == [204, 401, 401]
    assert {(each["id"], each["type"]) for each in seen} == {(tested["id"], "exports.connection.test.v1")}
    assert commands_with_account.json("partners", "activate", *OF)["state"] == "live"
    assert commands_with_account.json("partners", "list", "--account", "acc_1")[0]["lastTest"]["id"] == tested["id"]


def test_failed_connection_test_shows_stage_and_remedy_and_exits_1(
    commands_with_account: Commands, tmp_path: Path
) -> None:
    with run_receiver(tmp_path, "--token", "x", "--bad", "accepts-forged") as (address, _):
        add_partner(commands_with_account, "--webhook", address, "--queue")
        result = commands_with_account("partners", "test", *OF)
    assert result.exit_code == 1
    assert "✓  signed event" in result.stdout
    assert "✗  wrongly signed event" in result.stdout
    assert "→ make it verify webhook-signature first" in result.stdout
    assert "wh_1 did not pass, and is testing" in result.stdout
    assert commands_with_account("partners", "test", *OF, "--json").exit_code == 1
    assert "testing, failed" in commands_with_account("partners", "list", "--account", "acc_1").stdout


@pytest.mark.parametrize(("bad", "stage"), [(None, None), ("no-mail", "test mail")])
def test_connection_test_passes_on_the_bundled_mail_and_file_servers(
    commands_with_account: Commands, tmp_path: Path, bad: str | None, stage: str | None
) -> None:
    mails, files = tmp_path / "mails", tmp_path / "files"
    mails.mkdir()
    files.mkdir()
    options = () if bad is None else ("--bad", bad)
    with (
        run_stand_in(mails, "mail-receiver", str(mails), *options) as (mail, _),
        run_stand_in(files, "file-receiver", str(files)) as (file, _),
    ):
        (tmp_path / "password").write_text(file["password"])
        broker = ("br_1", "--account", "acc_1", "--kind", "customs_broker", "--name", "Broker")
        sftp = ("--sftp", file["address"], "--host-key", file["hostKey"], "--credential", str(tmp_path / "password"))
        commands_with_account.json("partners", "add", *broker, *sftp, "--email", "desk@broker.example")
        settings = {
            **commands_with_account.environment,
            "EXPORTS_SMTP_URL": mail["url"],
            "EXPORTS_MAIL_FROM": "exports@maple.example",
            "SSL_CERT_FILE": mail["certificate"],
        }
        process = exports(["partners", "test", "br_1", "--account", "acc_1", "--json"], settings, tmp_path)
        stdout, _ = process.communicate(timeout=60)
    endpoints = {endpoint["channel"]: endpoint["stages"][-1] for endpoint in json.loads(stdout)["endpoints"]}
    assert endpoints["sftp"]["passed"]
    assert (endpoints["email"]["passed"], endpoints["email"]["name"]) == (bad is None, stage or "test mail")
    assert (process.returncode, len(list(mails.glob("*.eml")))) == ((0, 1) if bad is None else (1, 0))
