"""A real API server on the test's own database, with keys, partners and a publisher that records its messages."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
import uvicorn
from sqlmodel import col, func, select

from config.settings import Settings
from pipeline.accounts import api_keys, service
from pipeline.accounts.api_keys import Mode
from pipeline.accounts.models import Partner
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries.streams import sender
from pipeline.exports import models
from pipeline.exports.event_models import Event
from pipeline.exports.models import Step
from pipeline.exports.states import StepState
from pipeline.interfaces.api import events, exports, limits
from pipeline.interfaces.api.dependencies import ApiKeyCache
from pipeline.interfaces.app import create_app
from pipeline.interfaces.server import BoundedHead
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.support.account_conditions import watch_statements
from tests.support.api_server import run_server
from tests.support.filled import fill
from tests.support.ports import LOOPBACK

OTHER = "acc_other"
#: httpx would read all certificates of the machine for each client.
_UNUSED_TLS = ssl.create_default_context()
ALL_ROLES = ("execute", "read", "operate", "admin")


@dataclass
class RecordingPublisher:
    """A publisher that sends nothing and records everything."""

    exports: list[tuple[str, int]] = field(default_factory=list)
    tasks: list[TaskMessage] = field(default_factory=list)
    running: bool = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def publish_export(self, export_id: str, queues: Sequence[str]) -> None:
        self.exports.append((export_id, len(queues)))

    def publish(self, tasks: Sequence[TaskMessage]) -> None:
        self.tasks.extend(tasks)


@dataclass(frozen=True)
class ApiHarness:
    """A running API and its callers."""

    url: str
    runtime: Runtime
    publisher: RecordingPublisher
    clients: ExitStack

    def key(
        self, *roles: str, account: str = factories.ACCOUNT, mode: Mode = "live", **facts: Any
    ) -> api_keys.CreatedKey:
        """Return a new key of the account."""
        return api_keys.create_key(self.runtime, account, "of a test", mode=mode, roles=roles, **facts)

    def client(self, *roles: str, account: str = factories.ACCOUNT, mode: Mode = "live") -> httpx.Client:
        """Return a client with a new key that has these roles; without roles, all of them."""
        return self.client_with_key(self.key(*(roles or ALL_ROLES), account=account, mode=mode).bearer)

    def client_with_key(self, bearer: str | None) -> httpx.Client:
        """Return a client with this key."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False, verify=_UNUSED_TLS)
        return self.clients.enter_context(client)

    def execute(self, plan: factories.Json, *, mode: Mode = "live") -> str:
        """Have `plan` accepted and return the export's id; no step has run yet."""
        response = self.client("execute", mode=mode).post("/api/exports/execute", json=execution(plan))
        assert response.status_code == 202, response.text
        return str(response.json()["exportId"])

    def run(self, export_id: str) -> None:
        """Do a worker's work: every ready step, and every delivery that becomes due."""
        while ready := self._ready_steps(export_id):
            for unit_no, name in ready:
                for task in run_step(self.runtime, export_id, unit_no, name).tasks:
                    if task.partner_id and task.channel:
                        sender.deliver_stream(self.runtime, export_id, task.partner_id, task.channel)

    def _ready_steps(self, export_id: str) -> Sequence[tuple[int, str]]:
        with self.runtime.db.read() as session:
            return session.exec(
                select(Step.unit_no, Step.name)
                .where(col(Step.export_id) == export_id, col(Step.state) == StepState.READY.value)
                .order_by(col(Step.position), col(Step.unit_no))
            ).all()

    def rows(self) -> dict[str, int]:
        """Return the number of rows of each table that a request may write."""
        written = (models.Export, models.PlanSnapshot, models.IdempotencyRecord, Event, models.Step)
        with self.runtime.db.read() as session:
            return {
                str(model.__tablename__): session.exec(select(func.count()).select_from(model)).one()
                for model in written
            }


Open = Callable[..., ApiHarness]


@contextmanager
def serve_api(runtime: Runtime, publisher: RecordingPublisher, keys: ApiKeyCache | None = None) -> Iterator[str]:
    """Serve the API on a loopback port, with the test's `keys` if given; give its URL."""
    app = create_app(runtime, publisher)
    app.state.keys = keys or app.state.keys
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        config = uvicorn.Config(
            app,
            http=BoundedHead,
            log_config=None,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
            lifespan="on",
        )
        with run_server(config, [listener]):
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def open_accounts(runtime: Runtime) -> None:
    """Create two accounts; the first has an operator, and a live and a test partner of each other kind."""
    for account in (factories.ACCOUNT, OTHER):
        service.create_account(runtime, account, "Maple Goods Ltd")
    with runtime.db.write() as session:
        for partner_id, kind, test in (
            (factories.BROKER, "customs_broker", False),
            (factories.WAREHOUSE, "warehouse", False),
            ("br_test", "customs_broker", True),
            ("wh_test", "warehouse", True),
            (factories.OPERATOR, "operator", False),
        ):
            session.add(
                Partner(
                    account_id=factories.ACCOUNT, id=partner_id, kind=kind, name="of a test", state="live", test=test
                )
            )


@pytest.fixture
def open_harness(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Start an API with the test's settings; its requests wait long enough for a slow machine.

    A statement of a request that could reach rows of another account fails the test.
    """
    for module in (limits, events, exports):
        monkeypatch.setattr(module, "REQUEST_WAIT_SECONDS", 60.0)
    with watch_statements(), ExitStack() as opened:

        def start(database_url: str = sqlite_url, **settings: Any) -> ApiHarness:
            urls = {"database_url": database_url, "artifacts_url": "memory:", "broker_url": "memory://"}
            # No worker runs: an execution of a registered plan would wait for nothing.
            runtime = open_runtime(Settings.model_validate({"execute_wait_seconds": 0} | urls | settings))
            # Plans are checked as of the builders' day; the database keeps its own clock.
            runtime = replace(runtime, clock=lambda: factories.NOW)
            opened.callback(runtime.close)
            fill(runtime, open_accounts)
            publisher = RecordingPublisher()
            clients = ExitStack()
            url = opened.enter_context(serve_api(runtime, publisher))
            opened.enter_context(clients)
            return ApiHarness(url, runtime, publisher, clients)

        yield start


@pytest.fixture
def harness(open_harness: Open) -> ApiHarness:
    """A running API with the settings as they ship."""
    return open_harness()


def execution(plan: factories.Json, **changes: Any) -> factories.Json:
    """Return the body that executes `plan`."""
    return {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan} | changes
