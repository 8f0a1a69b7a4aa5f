"""Tests of EXPORTS_CELERY_INSPECT: Celery's tools see the workers, and cannot end them."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery

from tests.conftest import SERVERS, OwnServer
from tests.support.ports import free_port
from tests.support.servers import RabbitMQ, Redis, poll

pytestmark = [
    pytest.mark.system,
    SERVERS,
    # Celery's client leaves its connection to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def run_worker(url: str, folder: Path, *, inspect: bool) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "BROKER_URL": url,
        "DATABASE_URL": f"sqlite:///{folder}/exports.db",
        "ARTIFACTS_URL": f"file://{folder}/artifacts",
        "EXPORTS_SECRET_KEY": secrets.token_urlsafe(32),
        "EXPORTS_CELERY_INSPECT": str(inspect).lower(),
    }
    with subprocess.Popen([Path(sys.executable).with_name("exports"), "worker"], cwd=folder, env=environment) as worker:
        try:
            yield worker
        finally:
            worker.terminate()
            worker.wait(60)


@contextmanager
def celery_client(url: str) -> Iterator[Celery]:
    app = Celery("watcher", broker=url, set_as_current=False)
    yield app
    app.close()


def find_workers(app: Celery) -> dict[str, Any]:
    found: dict[str, Any] = app.control.inspect(timeout=1).stats() or {}
    return found


@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_celery_inspect_sees_the_worker_and_shutdown_is_refused(
    kind: type[Redis | RabbitMQ], own_server: OwnServer, tmp_path: Path
) -> None:
    url = own_server(kind).fresh_url()
    with run_worker(url, tmp_path, inspect=True) as worker, celery_client(url) as app:
        poll(lambda: bool(find_workers(app)), 60, "the worker does not answer")
        ((name, stats),) = find_workers(app).items()
        assert name.startswith("worker-")
        assert stats["pid"] == worker.pid
        shown = app.control.inspect(timeout=5).conf()[name]
        assert shown["broker_url"] != url or "@" not in url  # the password is masked
        for command in ("shutdown", "cancel_consumer", "rate_limit", "revoke"):
            (answer,) = app.control.broadcast(command, arguments={"queue": "exports.steps"}, reply=True, timeout=5)
            assert "only answers commands that change nothing" in answer[name]["error"], command
        assert list(find_workers(app)) == [name]


def test_worker_does_not_answer_by_default(own_server: OwnServer, tmp_path: Path) -> None:
    url = own_server(Redis).fresh_url()
    with run_worker(url, tmp_path, inspect=False), celery_client(url) as app:
        with app.connection() as connection:
            client = connection.default_channel.client
            # It waits for messages, so it would answer.
            poll(lambda: any(each["cmd"] == "brpop" for each in client.client_list()), 60, "the worker does not wait")
        assert find_workers(app) == {}


def test_flower_shows_the_worker(own_server: OwnServer, tmp_path: Path) -> None:
    url = own_server(Redis).fresh_url()
    port = free_port()
    flower = [sys.executable, "-m", "celery", f"--broker={url}", "flower", "--address=127.0.0.1", f"--port={port}"]
    with run_worker(url, tmp_path, inspect=True) as worker, subprocess.Popen(flower, cwd=tmp_path, env={}) as shown:
        try:

            def online() -> bool:
                try:
                    page = httpx.get(f"http://127.0.0.1:{port}/workers?json=1", timeout=5)
                except httpx.HTTPError:
                    return False
                return page.is_success and any(
                    each["status"] and each["hostname"].startswith(f"worker-{worker.pid}")
                    for each in page.json()["data"]
                )

            poll(online, 60, "Flower does not show the worker")
        finally:
            shown.terminate()
            shown.wait(30)
