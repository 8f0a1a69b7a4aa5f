"""The commands that each run one process of the service, as far as they need no server; the Procfile starts them."""

from importlib.metadata import version
from typing import Any

import pytest

from pipeline.interfaces import server
from pipeline.workflow import dispatch
from tests.support.command_line import Commands
from tests.support.tables import table

SERVERS = {"BROKER_URL": "redis://127.0.0.1:9/0", "EXPORTS_SECRET_KEY": "k" * 32}


@pytest.fixture
def started_processes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would be started, with its options; nothing is."""
    ran: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dispatch, "run_worker", lambda *options: ran.append(options))
    monkeypatch.setattr(server, "run_web", lambda *options: ran.append(options))
    return ran


def test_version_is_that_of_the_distribution(commands: Commands) -> None:
    result = commands("--version")
    assert (result.exit_code, result.stdout) == (0, f"exports {version('exports')}\n")


@table("role", ["web", "worker", "deliveries", "intake"])
def test_single_process_needs_an_external_message_broker(
    commands: Commands, started_processes: list[Any], role: str
) -> None:
    result = commands(role, HOST="127.0.0.1")
    assert result.exit_code == 2
    assert "BROKER_URL must not be memory://" in result.stderr
    assert "exports serve" in result.stderr
    assert started_processes == []


@table("role", ["worker", "deliveries", "intake"])
def test_worker_needs_a_strong_secret_key(commands: Commands, started_processes: list[Any], role: str) -> None:
    result = commands(role, **SERVERS | {"EXPORTS_SECRET_KEY": "short"})
    assert (result.exit_code, "EXPORTS_SECRET_KEY has only 5 characters" in result.stderr) == (1, True), result.output
    assert started_processes == []


def test_web_on_all_addresses_needs_a_strong_secret_key(commands: Commands, started_processes: list[Any]) -> None:
    result = commands("web")
    assert (result.exit_code, "EXPORTS_SECRET_KEY" in result.stderr) == (1, True), result.output
    assert started_processes == []


@pytest.mark.parametrize(
    ("arguments", "environment", "listening"),
    [
        ([], {}, ("0.0.0.0", 8000, [])),  # noqa: S104 - the default
        ([], {"HOST": "127.0.0.1", "PORT": "9000"}, ("127.0.0.1", 9000, [])),
        ([], {"HOST": "", "PORT": ""}, ("0.0.0.0", 8000, [])),  # noqa: S104
        (["--port", "9001"], {"PORT": "9000"}, ("0.0.0.0", 9001, [])),  # noqa: S104
        (["--workers", "2"], {}, ("0.0.0.0", 8000, ["--workers", "2"])),  # noqa: S104
    ],
)
def test_web_listens_on_host_and_port_of_the_environment(
    commands: Commands,
    started_processes: list[Any],
    arguments: list[str],
    environment: dict[str, str],
    listening: tuple[Any, ...],
) -> None:
    result = commands("web", *arguments, **SERVERS, **environment)
    assert (result.exit_code, started_processes) == (0, [listening]), result.output


def test_options_of_celery_are_passed_on(commands: Commands, started_processes: list[Any]) -> None:
    assert commands("worker", "-Q", "exports.documents", "-P", "prefork", **SERVERS).exit_code == 0
    assert commands("worker", "--concurrency", "2", "-Q", "exports.steps", **SERVERS).exit_code == 0
    assert commands("worker", "-c", "1", **SERVERS).exit_code == 0
    assert commands("deliveries", "-c", "4", **SERVERS).exit_code == 0
    assert commands("deliveries", **SERVERS).exit_code == 0
    assert started_processes == [
        ("worker", ["-Q", "exports.documents", "-P", "prefork"]),
        ("worker", ["-P", "prefork", "-c", "2", "-Q", "exports.steps"]),
        ("worker", []),
        ("deliveries", ["-c", "4"]),
        ("deliveries", []),
    ]


def test_deliveries_with_a_command_runs_no_process(commands: Commands, started_processes: list[Any]) -> None:
    result = commands("deliveries", "list")
    assert (result.exit_code, started_processes) == (4, []), result.output
