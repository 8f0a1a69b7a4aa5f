"""A runtime on the test's own database, emptied queues, and endpoints with scripted answers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from kombu import Connection

from config import queues
from config.settings import Settings
from pipeline.core.runtime import Runtime, open_runtime
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import ApiHarness, serve_api
from tests.support import factories
from tests.support.filled import fill
from tests.support.http_endpoint import Endpoint, Script
from tests.support.ports import LOOPBACK, free_port
from tests.support.sftp_server import SftpServer
from tests.workflow.conftest import make_workflow, workflow  # noqa: F401 - fixtures of other tests


@dataclass
class Clock:
    """The database's clock. Its time changes only when the test moves it."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 24, 15, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        """Move the time forward."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """The clock of each runtime that the test opens."""
    return Clock()


class OpenRuntime(Protocol):
    """Opens a runtime with the given settings."""

    def __call__(self, **settings: Any) -> Runtime:
        """Return the runtime. It is closed after the test."""


@pytest.fixture
def make_runtime(sqlite_url: str, tmp_path: Path, clock: Clock) -> Iterator[OpenRuntime]:
    """Opens runtimes on the test's SQLite database and the in-process message broker."""
    # Tests write rows of documents without their bytes, so the store would not create its folder.
    (tmp_path / "artifacts").mkdir()
    with ExitStack() as open_now:

        def open_one(**changes: Any) -> Runtime:
            given = {
                "database_url": sqlite_url,
                "broker_url": "memory://",
                "artifacts_url": f"file:{tmp_path / 'artifacts'}",
                "allow_private_destinations": True,
                "delivery_timeout_seconds": 20,
            }
            runtime = open_runtime(Settings.model_validate(given | changes), clock=clock)
            open_now.callback(runtime.close)
            return runtime

        empty_queues()
        yield open_one


@pytest.fixture
def runtime(make_runtime: OpenRuntime) -> Runtime:
    """A runtime with the partners of the example plans and an operator, all reached by queue."""
    runtime = make_runtime()
    fill(runtime, register_partners)
    return runtime


def register_partners(runtime: Runtime) -> None:
    """Register the partners of the example plans, and an operator."""
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, factories.OPERATOR, "operator")


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts HTTP endpoints on loopback with scripted answers."""
    with ExitStack() as running:
        yield lambda *script: running.enter_context(Endpoint(script or (Script(),)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpServer]:
    """A partner's SFTP server with an empty folder."""
    root = tmp_path / "partner"
    root.mkdir()
    with SftpServer(root) as running:
        yield running


@pytest.fixture
def harness(make_runtime: OpenRuntime) -> Iterator[ApiHarness]:
    """An API with its own public address, two accounts and a warehouse."""
    port = free_port()
    # On a busy machine an endpoint must not seem unreachable.
    with serve_api(make_runtime(public_url=f"http://{LOOPBACK}:{port}", delivery_timeout_seconds=20), port) as running:
        yield running


def empty_queues() -> None:
    """Empty the queues: the in-process message broker keeps messages of earlier tests."""
    with Connection("memory://") as connection:
        channel = connection.default_channel
        for name in queues.BINDINGS:
            channel.queue_purge(name)


@pytest.fixture(autouse=True)
def full_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the jitter: each pause is as long as allowed."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
