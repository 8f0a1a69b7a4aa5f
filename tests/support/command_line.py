"""The command line, in this process or its own, and a running service for it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from config.settings import get_settings
from pipeline.interfaces.cli.main import app
from pipeline.interfaces.cli.output import ExitCode
from tests.interfaces.contracts.sent import check_database_notifications
from tests.support import factories
from tests.support.command_output import check_output

ROOT = Path(__file__).resolve().parents[2]


def exports(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, limit: str | None = None
) -> subprocess.Popen[str]:
    """Start the real command in its own process, with an option of prlimit as its limit if given."""
    return subprocess.Popen(
        [*(["prlimit", limit] if limit else []), str(Path(sys.executable).with_name("exports")), *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(arguments: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Run a program that must succeed, on the clock of the tests, and return what it printed."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Commands:
    """The command line in this process, with the test's settings."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        """Run `exports` with the arguments and return the result; check what `--json` printed by its schema."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.environment, **environment}.items():
                patch.setenv(name, value)
            get_settings.cache_clear()
            try:
                result = CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)
            finally:
                get_settings.cache_clear()
        if "--json" in arguments and result.exit_code != ExitCode.USAGE:
            check_output(arguments, result.stdout, result.exit_code)
        return result

    def json(self, *arguments: str, **environment: str) -> Any:
        """Run a command with --json that must succeed, and return its output."""
        result = self(*arguments, "--json", **environment)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


def _command_line(folder: Path) -> Commands:
    return Commands(
        {
            "DATABASE_URL": f"sqlite:///{folder / 'exports.db'}",
            "ARTIFACTS_URL": f"file:{folder / 'artifacts'}",
            "EXPORTS_API_URL": "http://127.0.0.1:9",
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
    )


# Fixtures; a folder whose tests use one imports it in its conftest.


@pytest.fixture
def new_machine(tmp_path: Path) -> Commands:
    """The command line without a database and folder: a command creates them."""
    return _command_line(tmp_path)


@pytest.fixture
def commands(tmp_path: Path, sqlite_url: str) -> Commands:
    """The command line on an empty SQLite database, without a folder of artifacts."""
    there = _command_line(tmp_path)
    assert there.environment["DATABASE_URL"] == sqlite_url
    return there


@pytest.fixture
def commands_with_account(commands: Commands) -> Commands:
    """The command line, with an account, allowed to reach this machine."""
    commands.environment["EXPORTS_ALLOW_PRIVATE_DESTINATIONS"] = "true"
    commands.json("accounts", "create", "acc_1", "--name", "Maple Goods Ltd")
    return commands


@contextmanager
def run_service(
    environment: Mapping[str, str], folder: Path, port: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `exports serve` in its own process, by default on a free port; give the process and its address."""
    process = exports(["serve", "--port", str(port), "--json"], environment, folder)
    try:
        assert process.stdout is not None
        yield process, json.loads("".join(process.stdout.readline() for _ in range(4)))["address"]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line for a running `exports serve`, with account, partners and key of the tests' plans."""
    home = tmp_path_factory.mktemp("service")
    environment = {
        "DATABASE_URL": f"sqlite:///{home / 'exports.db'}",
        "ARTIFACTS_URL": f"file:{home / 'artifacts'}",
        "EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "true",
        "EXPORTS_LOG_LEVEL": "ERROR",
        "EXPORTS_SWEEP_SECONDS": "60",  # it runs until the last test, and no test of it needs a sweep
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    there = Commands(environment)
    there.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    there.json("partners", "add", factories.BROKER, "--account", factories.ACCOUNT, "--kind", "customs_broker",
               "--name", "Sandbox broker", "--path", "borderbuddy", "--queue", "--test", "--live")  # fmt: skip
    there.json("partners", "add", factories.WAREHOUSE, "--account", factories.ACCOUNT, "--kind", "warehouse",
               "--name", "Demo warehouse", "--test", "--live")  # fmt: skip
    there.json("partners", "add", factories.OPERATOR, "--account", factories.ACCOUNT, "--kind", "operator",
               "--name", "Export desk", "--test", "--live")  # fmt: skip
    key = there.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin", "--test")["key"]
    with run_service(environment, home) as (_, address):
        there.environment |= {"EXPORTS_API_URL": address, "EXPORTS_API_KEY": key}
        yield there
    check_database_notifications(environment["DATABASE_URL"])
