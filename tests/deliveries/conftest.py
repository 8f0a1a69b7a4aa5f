"""A runtime on a database of the test's own, its queues emptied, and endpoints that answer as they are told."""

from __future__ import annotations

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
from tests.deliveries.support.http_endpoint import Endpoint, Script
from tests.deliveries.support.scenario import ApiHarness, serve_api
from tests.support import factories
from tests.support.ports import LOOPBACK, free_port
from tests.workflow.conftest import make_workflow  # noqa: F401 - fixtures of others


@dataclass
class Clock:
    """The database's clock: it stands still until it is told to move."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 24, 15, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """The clock of every runtime that the test opens."""
    return Clock()


class OpenRuntime(Protocol):
    """Opens a runtime with settings of the test's choosing."""

    def __call__(self, **settings: Any) -> Runtime:
        """Return it; it is closed with the test."""


@pytest.fixture
def make_runtime(sqlite_url: str, tmp_path: Path, clock: Clock) -> Iterator[OpenRuntime]:
    """Runtimes on the test's SQLite database and the message broker in this process."""
    # The rows of documents are written here without their bytes, after which no folder would be made.
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
    """The runtime, with the partners of the builders' plans and an operator at their queues."""
    runtime = make_runtime()
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, factories.OPERATOR, "operator")
    return runtime


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts HTTP endpoints on loopback that follow a script."""
    with ExitStack() as running:
        yield lambda *script: running.enter_context(Endpoint(script or (Script(),)))


@pytest.fixture
def harness(make_runtime: OpenRuntime) -> Iterator[ApiHarness]:
    """An API at an address that it knows itself, with two accounts and a warehouse."""
    port = free_port()
    # A busy machine is not to be taken for an endpoint that does not answer.
    with serve_api(make_runtime(public_url=f"http://{LOOPBACK}:{port}", delivery_timeout_seconds=20), port) as running:
        yield running


def empty_queues() -> None:
    """The broker in this process outlives a test: take out what the one before left."""
    with Connection("memory://") as connection:
        channel = connection.default_channel
        for name in queues.BINDINGS:
            channel.queue_purge(name)


@pytest.fixture(autouse=True)
def full_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the chance out of the jitter: every pause is as long as it may be."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
