"""The files of running processes are replaced by those of another version, as `pip install` does it."""

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import asyncssh
import httpx
import psutil
import pytest

from tests.support import factories
from tests.support.command_line import ROOT, Commands, exports
from tests.support.ports import free_port
from tests.support.servers import Redis, poll

CODE: Final = ("config", "pipeline", "tasks", "templates")


#: Notes the modules of the product that each process imports.
NOTE_IMPORTS: Final = """
import os, sys
from pathlib import Path

def note(event, arguments):
    if event == "import" and arguments[0].partition(".")[0] in {"config", "pipeline", "tasks"}:
        with Path(__file__).with_name(f"{os.getpid()}.imports").open("a") as noted:
            print(arguments[0], file=noted)

sys.addaudithook(note)
"""


def write_version(installation: Path, version: str) -> None:
    """Write the metadata by which pip says what is installed."""
    folder = installation / "exports-0.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: exports\nVersion: {version}\n", encoding="utf-8")


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A folder with the installed service, which a test may change."""
    for name in CODE:
        shutil.copytree(ROOT / name, tmp_path / "installed" / name)
    write_version(tmp_path / "installed", "0.1.0")
    return tmp_path / "installed"


def read_until(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Return the first record of the event in the process's log."""
    assert process.stderr is not None
    for line in process.stderr:
        if f'"{event}"' in line:
            found: dict[str, Any] = json.loads(line)
            return found
    raise AssertionError(f"the process ended without {event}")


def test_service_prints_by_its_templates_and_then_takes_no_more_work(
    commands: Commands, installation: Path, tmp_path: Path
) -> None:
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    key = commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
    for partner, kind in ((factories.BROKER, "customs_broker"), (factories.WAREHOUSE, "warehouse")):
        commands.json("partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind, "--name", partner, "--live")  # fmt: skip
    environment = {**commands.environment, "PYTHONPATH": str(installation), "EXPORTS_LOG_LEVEL": "WARNING"}
    process = exports(["serve", "--port", "0", "--json"], environment, tmp_path)
    try:
        assert process.stdout is not None
        address = json.loads("".join(process.stdout.readline() for _ in range(4)))["address"]
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
            before = execute(client, "batch_before")
            poll(is_in(client, before, "executed"), 60, "the first export is not executed")

            for path in (installation / "templates" / "documents").iterdir():
                path.write_text("{{ fact_of_another_version }}", encoding="utf-8")
            (engine,) = psutil.Process(process.pid).children()
            engine.kill()
            after = execute(client, "batch_after")
            poll(is_in(client, after, "executed"), 60, "the second export is not executed")
            kinds = [list_documents(client, each) for each in (before, after)]
            assert kinds[0] == kinds[1]
            assert any("packing_list" in kind for kind in kinds[0])

            write_version(installation, "9.9.9")
            seen = read_until(process, "another_version_installed")
            assert (seen["own"], seen["installed"]) == ("0.1.0", "9.9.9")
            refused = execute(client, "batch_refused")
            ready = client.get("/readyz")
            assert ready.status_code == 503
            (part,) = [each for each in ready.json()["details"]["parts"] if each["name"] == "version"]
            assert part["message"] == "this process is version 0.1.0, and the installed one is 9.9.9; restart it"
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    with closing(sqlite3.connect(tmp_path / "exports.db")) as database:
        done = database.execute("SELECT count(*) FROM steps WHERE export_id = ? AND state = 'done'", [refused])
        assert done.fetchone() == (0,)


def test_processes_wait_for_their_restart(commands: Commands, installation: Path, tmp_path: Path) -> None:
    commands.json("migrate")
    with Redis() as redis:
        environment = {
            **commands.environment,
            "BROKER_URL": redis.fresh_url(),
            "EXPORTS_SECRET_KEY": "k" * 32,
            "PYTHONPATH": str(installation),
        }
        processes = [exports([role, "--json"], environment, tmp_path) for role in ("worker", "deliveries", "intake")]
        try:
            for process in processes:
                assert process.stdout is not None
                assert "pid" in process.stdout.readline()
            write_version(installation, "9.9.9")
            for process in processes:
                read_until(process, "another_version_installed")
                read_until(process, "waiting_for_restart")
                assert process.poll() is None
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [-signal.SIGTERM] * 3


def test_ready_processes_import_no_more_modules_of_the_product(
    commands: Commands, installation: Path, tmp_path: Path
) -> None:
    """Whatever arrives: the files may be those of another version by then."""
    commands.environment |= {"EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "true", "EXPORTS_SECRET_KEY": "k" * 32}
    (installation / "sitecustomize.py").write_text(NOTE_IMPORTS, encoding="utf-8")
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    key = commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
    (tmp_path / "password").write_text("secret", encoding="utf-8")
    pin = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    files = ("--sftp", "sftp://us@127.0.0.1:9/in", "--host-key", pin, "--credential", str(tmp_path / "password"))
    for partner, kind, channels in (
        (factories.BROKER, "customs_broker", files),
        (factories.WAREHOUSE, "warehouse", ("--webhook", "http://127.0.0.1:9/in", "--queue")),
        ("op_1", "operator", ("--email", "desk@maple.example")),
    ):
        commands.json("partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind, "--name", partner, "--live", *channels)  # fmt: skip
    with Redis() as redis:
        environment = {
            **commands.environment,
            "BROKER_URL": redis.fresh_url(),
            "EXPORTS_SMTP_URL": "smtp://127.0.0.1:9",
            "EXPORTS_MAIL_FROM": "desk@maple.example",
            "PYTHONPATH": str(installation),
        }
        port = free_port()
        roles = (("worker",), ("deliveries",), ("intake",), ("web", "--host", "127.0.0.1", "--port", str(port)))
        processes = [exports([*role, "--json"], environment, tmp_path) for role in roles]
        try:
            noted = {}
            for process in processes:
                assert process.stdout is not None
                assert "pid" in (line := process.stdout.readline()), line + process.stdout.read()
                noted[process.pid] = read_imports(installation, process.pid)
                assert "pipeline.core.runtime" in noted[process.pid]
            address = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
                poll(is_in(client, execute(client, "batch_imports"), "executed"), 60, "the export is not executed")
                poll(lambda: len(list_tried_channels(client)) == 4, 60, "a channel was not tried")
                client.post(f"/api/partners/{factories.BROKER}/test")
                client.get("/metrics")
                client.get("/readyz")
            found = {
                role[0]: read_imports(installation, process.pid) - noted[process.pid]
                for role, process in zip(roles, processes, strict=True)
            }
            assert found == {"worker": set(), "deliveries": set(), "intake": set(), "web": set()}
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)


def read_imports(folder: Path, pid: int) -> set[str]:
    """Return the modules of the product that the process has imported so far."""
    return {*(folder / f"{pid}.imports").read_text(encoding="utf-8").split()}


def list_tried_channels(client: httpx.Client) -> set[str]:
    found = client.get("/api/deliveries").json()["items"]
    return {each["channel"] for each in found if each["attempts"]}


def execute(client: httpx.Client, batch: str) -> str:
    """Execute a plan and return the id of the export."""
    plan = factories.plan(batch=batch)
    body = {"accountId": factories.ACCOUNT, "batchId": plan["batchId"], "plan": plan}
    answer = client.post("/api/exports/execute", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["exportId"])


def is_in(client: httpx.Client, export: str, state: str) -> Callable[[], bool]:
    return lambda: client.get(f"/api/exports/{export}").json()["state"] == state


def list_documents(client: httpx.Client, export: str) -> list[str]:
    return sorted(each["artifact_type"] for each in client.get(f"/api/exports/{export}").json()["artifacts"])
