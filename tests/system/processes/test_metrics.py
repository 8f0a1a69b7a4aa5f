"""The metrics of real processes: of a pool of workers from which one is killed, of two API processes, and of the others."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client import Metric

from tests.support import factories
from tests.support.command_line import Commands, exports
from tests.support.metrics_text import check_by_promtool, scrape, value
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import Redis, poll

pytestmark = pytest.mark.servers

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(commands: Commands, redis_server: Redis, tmp_path: Path) -> Iterator[Start]:
    """Starts processes of one service, on Redis; each is stopped after the test."""
    commands.environment |= {
        "BROKER_URL": redis_server.fresh_url(),
        "EXPORTS_SECRET_KEY": "k" * 40,
        "EXPORTS_LOG_LEVEL": "WARNING",
        "EXPORTS_LEASE_SECONDS": "1",
        "EXPORTS_SWEEP_SECONDS": "0.5",
        "EXPORTS_STALLED_SECONDS": "1",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    (tmp_path / "tmp").mkdir()
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
            process = exports(arguments, commands.environment | environment, tmp_path)
            stack.callback(stop, process)
            return process

        yield start


def stop(process: subprocess.Popen[str]) -> str:
    """End the process and return what it wrote to standard error."""
    process.terminate()
    return process.communicate(timeout=60)[1]


def scrape_when_up(process: subprocess.Popen[str], port: int) -> dict[str, Metric]:
    def is_up() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return accepts(port)

    poll(is_up, 120, "no metrics are served")
    return scrape(port)


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [each for each in psutil.Process(process.pid).children(recursive=True) if each.name().startswith("exports")]


def create_account(commands: Commands) -> str:
    """Create an account with its partners, and return a key."""
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    for partner, kind in ((factories.BROKER, "customs_broker"), (factories.WAREHOUSE, "warehouse")):
        commands.json(
            "partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind, "--name", partner, "--live"
        )
    return str(commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"])


def execute(api: httpx.Client, *batches: str) -> None:
    for batch in batches:
        plan = factories.plan(batch=batch, invoice=batch)
        body: dict[str, Any] = {"accountId": factories.ACCOUNT, "batchId": batch, "plan": plan}
        answer = api.post("/api/exports/execute", json=body, headers={"Idempotency-Key": batch})
        assert answer.status_code == 202, answer.text


def test_every_process_serves_its_metrics(start: Start, commands: Commands, tmp_path: Path) -> None:
    key = create_account(commands)
    port, worker_port, deliveries_port, intake_port = (free_port() for _ in range(4))
    web = start("web", "--workers", "2", HOST=LOOPBACK, PORT=str(port))
    worker = start("worker", "--concurrency", "2", EXPORTS_METRICS_PORT=str(worker_port))
    deliveries = start("deliveries", "--metrics-port", str(deliveries_port))
    intake = start("intake", "--metrics-port", str(intake_port))
    for process, at in ((web, port), (worker, worker_port), (deliveries, deliveries_port), (intake, intake_port)):
        assert value(scrape_when_up(process, at), "exports_build_info") == 1
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", headers=headers, trust_env=False, timeout=60) as api:

        def done(step: str) -> float:
            return value(scrape(worker_port), "exports_step_seconds_count", step=step, result="done")

        execute(api, *(f"first-{number}" for number in range(4)))
        poll(lambda: done("notify_broker") == 4, 60, "the worker did not execute the exports")
        assert done("render_documents") == 4
        # The parent sweeps, and its children work: both are on the page.
        poll(lambda: value(scrape(worker_port), "exports_sweep_seconds_count") > 0, 60, "nothing was swept")
        # A killed child stays in the sums, and another one takes its place.
        killed = children_of(worker)[0]
        os.kill(killed.pid, signal.SIGKILL)
        poll(lambda: len(children_of(worker)) == 2 and killed not in children_of(worker), 60, "no new child")
        assert done("notify_broker") == 4
        execute(api, *(f"second-{number}" for number in range(4)))
        poll(lambda: done("notify_broker") == 8, 60, "the new children's work is not on the page")
        names = [path.name for path in (tmp_path / "tmp").glob("*/*.db")]
        assert not [name for name in names if f"_{killed.pid}." in name]
        # Each of the two API processes shows the requests of both.
        for _ in range(4):
            pages = scrape(port)
            assert value(pages, "exports_http_requests_total", route="/api/exports/execute", status="202") == 8
            assert value(pages, "exports_database_up") == 1
            assert value(pages, "exports_task_messages_total", task="record_packages", result="sent") >= 8
    for at in (port, worker_port, deliveries_port, intake_port):
        text = httpx.get(f"http://{LOOPBACK}:{at}/metrics", trust_env=False).text
        assert check_by_promtool(text) == ""
    for process in (web, worker, deliveries, intake):
        stop(process)
    assert list((tmp_path / "tmp").glob("exports-metrics-*")) == []


def test_taken_port_stops_the_start(start: Start) -> None:
    port = free_port()
    first = start("intake", "--metrics-port", str(port))
    scrape_when_up(first, port)
    for command in ("worker", "deliveries", "intake"):
        second = start(command, EXPORTS_METRICS_PORT=str(port))
        text = " ".join(second.communicate(timeout=120)[1].split())
        assert second.returncode != 0
        assert f"cannot serve the metrics at 127.0.0.1:{port}: Address already in use" in text
        assert "--metrics-port" in text


@pytest.mark.usefixtures("start")
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux sets the limit")
def test_full_disk_stops_the_start(commands: Commands, tmp_path: Path) -> None:
    options = ["worker", "--metrics-port", str(free_port())]
    worker = exports(options, commands.environment, tmp_path, limit="--fsize=1000")
    text = " ".join(worker.communicate(timeout=120)[1].split())
    assert worker.returncode != 0
    assert "cannot make a folder for the metrics: File too large; set TMPDIR to a folder that this process" in text
