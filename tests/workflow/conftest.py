"""The workflow harness: one process with its own database and a clock that moves only on request."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Executable, func, select
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlmodel import SQLModel, col

from config.settings import Settings
from pipeline.accounts import partners, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.schemas import NewPartner
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import Database
from pipeline.core.errors import RendererCrashed, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export, Step
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.engine import run_step
from pipeline.workflow.idempotency import Acceptance
from pipeline.workflow.steps import TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.support import factories, stored
from tests.support.filled import fill
from tests.support.task_by_task import task_by_task

T = TypeVar("T")


@dataclass
class FakeClock:
    """A clock that stands still between calls of `pass_seconds`."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 24, 15, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class UnsteadyStore(ArtifactStore):
    """A store that refuses the next `refusals` puts, or raises `error_on_put` at each put."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.refusals = 0
        self.error_on_put: Exception | None = None

    def put_all(self, bodies: Sequence[bytes]) -> list[str]:
        """Store the documents, unless they are refused or an error is set."""
        if self.error_on_put is not None:
            raise self.error_on_put
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("the artifact store did not accept a document: a test refuses it")
        return super().put_all(bodies)


@dataclass
class WorkflowHarness:
    """The runtime of a test, and actions on it."""

    runtime: Runtime
    clock: FakeClock
    store: UnsteadyStore
    caller: Caller

    def accept(self, plan: dict[str, Any] | None = None, *, key: str | None = None, **more: Any) -> Acceptance:
        """Accept a plan as the API would; `more` are further members of the request."""
        plan = plan if plan is not None else factories.plan()
        request = ExecuteRequest.model_validate(
            {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan, **more}
        )
        return accept_plan(self.runtime, self.caller, request, raw_plan=plan, idempotency_key=key)

    def step(self, export_id: str, unit_no: int, name: str, *, redelivered: bool = False) -> tuple[str, ...]:
        """Run the step of one task message and return the steps that it completed; the documents wait for their own."""
        with task_by_task():
            return run_step(self.runtime, export_id, unit_no, name, redelivered=redelivered).completed

    def read_step(self, export_id: str, name: str, unit_no: int = 1) -> Step:
        """Return the row of a step."""
        return self.get(Step, (export_id, unit_no, name))

    def run(self, tasks: list[TaskMessage]) -> None:
        """Run steps of task messages, and of those that follow, until none is left; delivery messages are dropped."""
        while tasks:
            task = tasks.pop()
            if task.step is not None:
                tasks.extend(run_step(self.runtime, task.export_id, task.unit_no, task.step).tasks)

    def sweep(self) -> list[TaskMessage]:
        """Let enough time pass for everything to be due, and return the due steps."""
        self.clock.pass_seconds(3600)
        return [task for task in find_due(self.runtime) if task.step is not None]

    def fail_rendering(self, export_id: str) -> None:
        """Record the packages of unit 1, then let its documents fail until the step's attempts are used up."""
        self.step(export_id, 1, "record_packages")
        self.store.error_on_put = RendererCrashed("the PDF engine died")
        for _ in range(self.runtime.settings.step_max_attempts):
            self.clock.pass_seconds(3600)
            self.step(export_id, 1, "render_documents")
        self.store.error_on_put = None

    def finish(self, export_id: str) -> None:
        """Sweep until no step of the export is due."""
        for _ in range(100):
            tasks = self.sweep()
            if not tasks:
                return
            self.run(tasks)
        raise AssertionError(f"{export_id} still has due steps: {self.state(export_id)}")

    def state(self, export_id: str) -> str:
        """Return the export's state."""
        return self.get(Export, export_id).state

    def step_states(self, export_id: str) -> dict[tuple[int, str], str]:
        """Return the state of every step."""
        rows = self.rows(select(Step).where(col(Step.export_id) == export_id))
        return {(row.unit_no, row.name): row.state for row in rows}

    def events(self, export_id: str) -> list[str]:
        """Return the types of the events in order, after checking that their numbers have no gap."""
        rows = self.rows(select(Event).where(col(Event.export_id) == export_id).order_by(col(Event.seq)))
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        return [row.type for row in rows]

    def rows(self, query: TypedReturnsRows[T]) -> Sequence[T]:
        return stored.rows(self.runtime, query)

    def one(self, query: TypedReturnsRows[T]) -> T:
        return stored.one(self.runtime, query)

    def get(self, model: type[T], key: Any) -> T:
        return stored.get(self.runtime, model, key)

    def change(self, *statements: Executable) -> None:
        stored.change(self.runtime, *statements)

    def count(self, table: type[SQLModel]) -> int:
        """Return the number of rows in a table."""
        with self.runtime.db.read() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0


def open_account(runtime: Runtime) -> None:
    """Create the account of the plans, and a partner of each kind."""
    service.create_account(runtime, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for kind, partner_id, name, more in (
        ("customs_broker", factories.BROKER, "Sandbox broker", {"path": "byob"}),
        ("warehouse", factories.WAREHOUSE, "Demo warehouse", {}),
        ("operator", factories.OPERATOR, "Export desk", {}),
    ):
        new = NewPartner.model_validate({"id": partner_id, "kind": kind, "name": name, "live": True, **more})
        partners.create_partner(runtime, factories.ACCOUNT, new)


@pytest.fixture
def make_workflow(tmp_path: Path) -> Iterator[Callable[[str], WorkflowHarness]]:
    """Return a function that builds a workflow harness on a migrated database."""
    opened: list[Runtime] = []

    def make(database_url: str) -> WorkflowHarness:
        clock = FakeClock()
        settings = Settings.model_validate(
            {"database_url": database_url, "artifacts_url": f"file:{tmp_path / 'artifacts'}", "lease_seconds": 30}
        )
        store = UnsteadyStore(settings.artifacts_url)
        runtime = Runtime(settings, Database(database_url, clock=clock), store, clock)
        opened.append(runtime)
        fill(runtime, open_account)
        caller = Caller(factories.ACCOUNT, "key_test", "live", frozenset({"execute", "read", "operate"}))
        return WorkflowHarness(runtime, clock, store, caller)

    yield make
    for runtime in opened:
        runtime.close()


@pytest.fixture
def workflow(request: pytest.FixtureRequest, make_workflow: Callable[[str], WorkflowHarness]) -> WorkflowHarness:
    """A workflow harness on SQLite, or on each of the databases for a test that takes `database_url`."""
    url = "database_url" if "database_url" in request.fixturenames else "sqlite_url"
    return make_workflow(request.getfixturevalue(url))


@pytest.fixture
def workflow_on_both(make_workflow: Callable[[str], WorkflowHarness], database_url: str) -> WorkflowHarness:
    """A workflow harness on each of the databases."""
    return make_workflow(database_url)


Answers = Callable[[Exception], AbstractContextManager[None]]


@pytest.fixture
def failing_queues(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Return a context manager that makes every queue raise the given error."""

    @contextmanager
    def fail_queues(failure: Exception) -> Iterator[None]:
        def send(*_: object) -> None:
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr("pipeline.deliveries.channels.queue.QueueChannel.send", send)
            yield

    return fail_queues
