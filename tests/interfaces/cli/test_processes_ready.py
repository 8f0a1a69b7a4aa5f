"""The processes of the service with `--json`: one line once they take requests or messages, and a log of JSON lines."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import Commands, exports
from tests.support.command_output import read_validator
from tests.support.ports import free_port
from tests.support.servers import Redis

pytestmark = pytest.mark.system

PROCESSES = [["web"], ["worker"], ["worker", "-c", "2"], ["deliveries"], ["intake"]]


@contextmanager
def run(words: Sequence[str], commands: Commands, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process of the service, and stop it by SIGTERM."""
    process = exports([*words, "--json"], commands.environment | environment, folder)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


@pytest.mark.servers
@pytest.mark.parametrize("words", PROCESSES, ids=" ".join)
def test_ready_process_prints_one_line_and_logs_json(
    commands: Commands, redis_server: Redis, tmp_path: Path, words: list[str]
) -> None:
    assert commands("migrate").exit_code == 0
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port)] if words == ["web"] else []
    servers = {"BROKER_URL": redis_server.fresh_url(), "EXPORTS_SECRET_KEY": "k" * 32, "EXPORTS_LOG_FORMAT": "text"}
    with run([*words, *options], commands, tmp_path, **servers) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        read_validator(words[0]).validate(ready)
        assert (ready["process"], ready["pid"]) == (words[0], process.pid)
        if options:
            assert ready["address"] == f"http://127.0.0.1:{port}"
            assert httpx.get(f"{ready['address']}/livez").status_code == 200
    rest, log = process.communicate(timeout=60)
    assert rest == ""
    assert [line for line in log.splitlines() if not line.startswith("{")] == []
    assert all("event" in json.loads(line) for line in log.splitlines())


SERVERS = {"BROKER_URL": "redis://127.0.0.1:9/0", "EXPORTS_SECRET_KEY": "k" * 32}


@pytest.mark.parametrize("options", [["--port", "0"], ["--uds", "exports.sock"], ["--fd=3"]], ids=str)
def test_web_with_json_needs_a_fixed_address(commands: Commands, options: list[str]) -> None:
    refused = commands("web", "--json", *options, **SERVERS)
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["message"].startswith("--json needs a fixed host and port, not --")


def test_web_with_json_does_not_take_another_program_for_itself(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = commands("web", "--json", "--host", "127.0.0.1", "--port", str(port), **SERVERS)
    assert (refused.exit_code, json.loads(refused.stdout)["errorCode"]) == (1, "REFUSED")
    assert "Address already in use" in json.loads(refused.stdout)["message"]


def test_refused_process_says_why_in_json(commands: Commands) -> None:
    refused = commands("worker", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["errorCode"]) == (2, "USAGE")


def test_json_of_deliveries_stands_after_its_command(commands: Commands) -> None:
    refused = commands("deliveries", "--json", "list")
    assert (refused.exit_code, "list --json" in json.loads(refused.stdout)["remedy"]) == (2, True)


def test_log_of_a_process_is_json_without_the_option_too(commands: Commands, tmp_path: Path) -> None:
    """As root, Celery warns in several lines of text."""
    process = exports(["worker"], commands.environment | SERVERS, tmp_path)
    assert process.stderr is not None
    first = process.stderr.readline()
    process.terminate()
    _, rest = process.communicate(timeout=60)
    assert all("event" in json.loads(line) for line in [first, *rest.splitlines()])
