"""Failpoints: one before, in and after every important action. Each acts as set; none is active in production."""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
import timeit
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from config.settings import Settings, get_settings
from pipeline.core import failpoints
from pipeline.core.errors import DatabaseBusy, UnsafeSettings
from pipeline.core.failpoints import FailpointError, arm, failpoint
from pipeline.core.runtime import open_runtime
from pipeline.interfaces.app import create_app
from pipeline.interfaces.cli.main import app
from pipeline.interfaces.cli.output import ExitCode
from pipeline.workflow.publisher import Publisher
from pipeline.workflow.steps import STEPS
from tests.system.faults.points import MOMENTS, POINTS, ROOT, SOURCE_FOLDERS, find_points

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - no server listens there


@pytest.fixture(autouse=True)
def restore_failpoints() -> Iterator[None]:
    """Restore the failpoints of this process."""
    yield
    arm(Settings.model_validate({}))


def set_failpoints(text: str, marks: Path) -> None:
    arm(Settings.model_validate({"failpoints": text, "failpoints_folder": str(marks)}))


# Every important action has one


def test_every_step_has_a_point_before_in_and_after() -> None:
    called = {point for point, _ in find_points()}
    assert {f"{spec.name}.{moment}" for spec in STEPS for moment in MOMENTS} <= called


def test_every_failpoint_has_a_crash_test() -> None:
    assert Counter(point for point, _ in find_points()) == Counter(POINTS)


def test_product_uses_only_the_failpoint_call() -> None:
    """Only the caller that arms them uses their state, and the product imports no test."""
    arming, odd = [], []
    for path in sorted(path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("failpoints"):
                odd += [name for each in node.names if each.name != "failpoint"]
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"tests", "pytest"}:
                odd.append(name)
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("failpoints."):
                arming.append((name, node.attr))
    assert (arming, odd) == ([("pipeline/core/runtime.py", "arm")], [])


# Each acts as set


def test_raise_action_raises_an_unexpected_error(tmp_path: Path) -> None:
    set_failpoints("hand_off.mid=raise", tmp_path)
    failpoint("hand_off.before")
    with pytest.raises(FailpointError, match="hand_off"):
        failpoint("hand_off.mid")


def test_raise_db_action_raises_database_busy(tmp_path: Path) -> None:
    set_failpoints("hand_off.mid=raise_db", tmp_path)
    with pytest.raises(DatabaseBusy):
        failpoint("hand_off.mid")


def test_enospc_action_raises_a_full_disk_error(tmp_path: Path) -> None:
    set_failpoints("hand_off.mid=enospc", tmp_path)
    with pytest.raises(OSError, match="No space left") as full:
        failpoint("hand_off.mid")
    assert full.value.errno == errno.ENOSPC


def test_point_acts_as_often_as_set_across_processes(tmp_path: Path) -> None:
    for _ in range(2):  # like a restarted process
        set_failpoints("accept.mid=raise*2 accept.after=raise", tmp_path)
        with pytest.raises(FailpointError):
            failpoint("accept.mid")
    failpoint("accept.mid")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accept.mid.1", "accept.mid.2"]


def test_sleep_action_delays(tmp_path: Path) -> None:
    set_failpoints("sweep.mid=sleep:50", tmp_path)
    began = time.monotonic()
    failpoint("sweep.mid")
    assert time.monotonic() - began >= 0.05


def test_barrier_waits_for_its_file(tmp_path: Path) -> None:
    set_failpoints(f"sweep.mid=barrier:{tmp_path / 'open'}", tmp_path / "marks")
    waiting = threading.Thread(target=failpoint, args=("sweep.mid",))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    (tmp_path / "open").touch()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize(("action", "status"), [("kill", -9), ("exit", 70)])
def test_kill_and_exit_actions_end_the_process(action: str, status: int, tmp_path: Path) -> None:
    code = (
        "from config.settings import Settings; from pipeline.core.failpoints import arm, failpoint\n"
        "arm(Settings()); failpoint('sweep.after'); failpoint('delivery.between'); print('alive')"
    )
    environment = {
        **os.environ,
        "EXPORTS_FAILPOINTS": f"delivery.between={action}",
        "EXPORTS_FAILPOINTS_FOLDER": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False, capture_output=True
    )
    assert (ended.returncode, b"lives" in ended.stdout) == (status, False)
    assert (tmp_path / "delivery.between.1").exists()


# None is active in production


@pytest.mark.parametrize(
    "text", ["hand_off.mid", "hand_off.mid=explode", "sweep.mid=sleep", "sweep.mid=kill:1", "x=kill"]
)
def test_unknown_failpoints_stop_the_start(text: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeSettings, match="must hold POINT=ACTION"):
        set_failpoints(text, tmp_path)


@pytest.mark.parametrize(
    "elsewhere",
    [
        *({"public_url": f"http://{name}"} for name in ("exports.maple.example", "10.0.0.7:8000", "127.0.0.1.example")),
        *({"host": host} for host in (EVERYWHERE, "::", "", "10.0.0.7", "exports.maple.example")),
    ],
)
def test_failpoints_are_rejected_on_a_reachable_address(elsewhere: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="breaks the service on purpose"):
        Settings.model_validate({"failpoints": "hand_off.mid=kill", **elsewhere})
    assert Settings.model_validate(elsewhere).failpoints == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "::1"])
def test_failpoints_are_allowed_on_loopback(host: str) -> None:
    public_url = f"http://{f'[{host}]' if ':' in host else host}:8000"
    Settings.model_validate({"failpoints": "hand_off.mid=kill", "host": host, "public_url": public_url})


@pytest.mark.parametrize("given", [{}, {"EXPORTS_PUBLIC_URL": "http://127.0.0.1:8000"}])
def test_serve_rejects_failpoints_at_a_reachable_host_option(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    alike = {
        "EXPORTS_FAILPOINTS": "hand_off.mid=kill",
        "EXPORTS_LOG_LEVEL": "ERROR",
        "EXPORTS_SECRET_KEY": "k" * 32,  # a server that others reach needs its own key
    }
    for name, value in (given | alike).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    try:
        refused = CliRunner().invoke(app, ["serve", "--host", EVERYWHERE, "--port", "0"])
    finally:
        get_settings.cache_clear()
    assert refused.exit_code == ExitCode.USAGE
    assert "other machines can reach EXPORTS_HOST" in refused.stderr
    assert failpoints._armed == {}


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("[::1]", 200), ("10.0.0.7", 503), ("[::]", 503)])
def test_api_with_failpoints_answers_only_loopback_requests(address: str, status: int, tmp_path: Path) -> None:
    """No setting says where uvicorn listens; its own command line does."""
    database_url = f"sqlite:///{tmp_path / 'exports.db'}"
    runtime = open_runtime(Settings.model_validate({"failpoints": "hand_off.mid=kill", "database_url": database_url}))
    transport = httpx.ASGITransport(create_app(runtime, Publisher(1)))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{address}:8000") as http:
            return await http.get("/livez")

    answer = asyncio.run(ask())
    runtime.close()
    assert (answer.status_code, "only this machine may call" in answer.text) == (status, status == 503)


def test_unset_point_costs_little() -> None:
    assert failpoints._armed == {}
    rounds = 20_000
    assert min(timeit.repeat(lambda: failpoint("hand_off.mid"), number=rounds, repeat=5)) / rounds < 2e-6
