"""Poison plans with real workers that are killed, hang and restart, while other plans are executed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from config import queues
from pipeline.accounts import partners, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.schemas import NewPartner
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.exports import queries
from pipeline.exports.schemas.export import ExecuteRequest, ExportView
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import ACTIVE_STATES
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow import read_model
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.interventions import retry_export
from tests.conftest import SERVERS, Stack
from tests.interfaces.contracts.sent import check_notifications
from tests.support import factories
from tests.support.fork_server import ForkServer
from tests.support.servers import poll
from tests.system.acceptance.programs import Program
from tests.system.faults import poison, poisoned_engine
from tests.system.faults.bounds import MARGIN, NEXT_TARGET, measure_load
from tests.system.faults.matrix import mark_own_stack

TRIES: Final = 5
SECONDS: Final = 400.0

#: Crashes are noticed sooner than in production, and the pauses between attempts are short.
FAST_SETTINGS: Final = {
    "EXPORTS_LEASE_SECONDS": "6",
    "EXPORTS_STALLED_SECONDS": "2",
    "EXPORTS_SWEEP_SECONDS": "0.5",
    "EXPORTS_STEP_RETRY_SECONDS": "0.5",
}

DIED: Final = (
    "render_documents was started {} times, and its worker died each time without recording a reason: it was killed,"
    " crashed, or ran out of memory or time; see the workers' logs of that time"
)
#: The poison, and the reason in the quarantine.
REASONS: Final = {
    poisoned_engine.CRASHES: "the PDF engine died of SIGSEGV at commercial_customs_invoice.typ",
    poisoned_engine.LOOPS: "the PDF engine used more than 2 s of processor time and was stopped at commercial_customs_invoice.typ",
    poisoned_engine.EATS_MEMORY: "the PDF engine died with code 1 at commercial_customs_invoice.typ",
    poison.RAISES: "UnforeseenError in render_documents",
    poison.DIES: DIED.format(TRIES),
}

CALLER: Final = Caller(factories.ACCOUNT, "key_test", "test", frozenset({"execute", "read", "operate"}))


@pytest.fixture
def runtime(stack: Stack) -> Iterator[Runtime]:
    """The service's runtime, with an account and its partners."""
    runtime = open_runtime(stack.settings)
    service.create_account(runtime, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for partner_id, kind in ((factories.BROKER, "customs_broker"), (factories.WAREHOUSE, "warehouse")):
        facts = {"id": partner_id, "kind": kind, "name": "of a test", "path": "byob", "test": True, "live": True}
        if kind == "warehouse":
            del facts["path"]
        partners.create_partner(runtime, factories.ACCOUNT, NewPartner.model_validate(facts))
    yield runtime
    check_notifications(runtime)
    runtime.close()


def workers(stack: Stack, folder: Path, parent: ForkServer, *, takes_poison: bool, **settings: str) -> list[Program]:
    """Return the programs that run steps: two workers, or the embedded service."""
    environment = {**stack.environment, **FAST_SETTINGS, **settings}
    exports = f"python -m {poison.__name__}" if takes_poison else "exports"
    if stack.embedded:
        return [Program("serve", f"{exports} serve --port 0", environment, folder, parent)]
    command = f"{exports} worker -Q {','.join(queues.TASK_QUEUES)}"
    return [Program(f"worker-{number}", command, environment, folder, parent) for number in (1, 2)]


@contextmanager
def supervise(programs: Sequence[Program]) -> Iterator[list[int]]:
    """Run the programs and restart those that end; yield the list of their exit statuses."""
    ended: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for program in programs:
                if program.running().poll() is not None:
                    ended.append(program.wait(0))
                    program.start()

    for program in programs:
        program.start()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield ended
    finally:
        over.set()
        watcher.join()
        for program in programs:
            program.kill()


def submit_plan(runtime: Runtime, name: str) -> str:
    """Send a plan named by the prefix of its invoice number; return the export's id."""
    plan = factories.plan(batch=f"batch_{name}", invoice=name)
    body = {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
    return accept_plan(
        runtime, CALLER, ExecuteRequest.model_validate(body), raw_plan=plan, idempotency_key=None
    ).export_id


def publish_export(stack: Stack, export_id: str) -> None:
    """Publish a new export's tasks as the API does; other processes cannot reach the embedded message broker."""
    if not stack.embedded:
        sent = "import sys; from pipeline.workflow import dispatch; dispatch.publish_export(sys.argv[1], ['exports.steps'])"
        subprocess.run([sys.executable, "-c", sent, export_id], env={**os.environ, **stack.environment}, check=True)


def read_export(runtime: Runtime, export_id: str) -> ExportView:
    with runtime.db.read() as session:
        return read_model.read_export(session, factories.ACCOUNT, export_id)


def are_at_rest(runtime: Runtime, exports: Sequence[str]) -> bool:
    with runtime.db.read() as session:
        return not any(queries.read_state(session, each) in ACTIVE_STATES for each in exports)


@mark_own_stack("F28")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "stack",
    [pytest.param("sqlite-memory", marks=pytest.mark.long), pytest.param("postgres-redis", marks=SERVERS)],
    indirect=True,
)
def test_poison_is_quarantined_after_five_attempts_and_others_complete(
    stack: Stack, runtime: Runtime, parent: ForkServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    programs = workers(stack, tmp_path, parent, takes_poison=True)
    with supervise(programs) as ended:
        # The embedded service has one worker, and every death restarts all of it: two kinds are enough load.
        kinds = (poison.RAISES, poison.DIES) if stack.embedded else (*REASONS,)
        poisoned = {submit_plan(runtime, name): REASONS[name] for name in kinds}
        sound = [submit_plan(runtime, f"A{number}") for number in range(3)]
        (dies,) = [each for each, reason in poisoned.items() if reason == REASONS[poison.DIES]]
        poll(lambda: are_at_rest(runtime, [dies]), SECONDS, "the plan was not quarantined")
        following = submit_plan(runtime, "A9")
        publish_export(stack, following)
        poll(lambda: are_at_rest(runtime, [*poisoned, *sound, following]), SECONDS, "exports are still pending")

    views = {each: read_export(runtime, each) for each in [*poisoned, *sound, following]}
    for export_id, reason in poisoned.items():
        view = views[export_id]
        assert (view.state, view.quarantined, view.failure) == ("failed", True, f"render_documents: {reason}")
        assert [step.attempts for step in view.units[0].steps if step.state == "failed"] == [TRIES]
        assert [event.data["attempts"] for event in view.events if event.type == "EXPORT_FAILED"] == [TRIES]
        assert view.artifacts == []
    assert {views[each].state for each in [*sound, following]} == {"executed"}
    if not stack.embedded:  # a second worker executes the others meanwhile
        ends = {each: view.events[-1].at for each, view in views.items()}
        assert max(ends[each] for each in sound) < max(ends[each] for each in poisoned)
    set_aside = views[dies].events[-1].at
    began = views[following].units[0].steps[0].started_at
    assert began is not None
    record_property("F28: seconds to the next export", f"{(began - set_aside).total_seconds():.1f}")
    assert began - set_aside <= timedelta(seconds=MARGIN * NEXT_TARGET * measure_load())
    assert ended == [-signal.SIGKILL] * TRIES
    with runtime.db.read() as session:
        wanted = ExportFilter(quarantined=True)
        aside = workflow_queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=50).items
    assert {each.export_id for each in aside} == set(poisoned)

    with supervise(workers(stack, tmp_path, parent, takes_poison=False)):  # the cause is repaired
        for export_id in poisoned:
            retry_export(runtime, factories.ACCOUNT, export_id, CALLER.actor)
        poll(lambda: are_at_rest(runtime, [*poisoned]), SECONDS, "the retried exports did not complete")
    for export_id in poisoned:
        view = read_export(runtime, export_id)
        assert (view.state, view.quarantined, len(view.artifacts)) == (
            "executed",
            False,
            len(views[sound[0]].artifacts),
        )
        assert [event.seq for event in view.events] == list(range(1, len(view.events) + 1))


@mark_own_stack("F28")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stack", ["sqlite-memory"], indirect=True)
def test_hanging_worker_ends_itself_and_its_plan_is_quarantined(
    stack: Stack, runtime: Runtime, parent: ForkServer, tmp_path: Path
) -> None:
    haste = {"EXPORTS_STEP_TIMEOUT_SECONDS": "10", "EXPORTS_STEP_MAX_ATTEMPTS": "3", "EXPORTS_LEASE_SECONDS": "3"}
    programs = workers(stack, tmp_path, parent, takes_poison=True, **haste)
    with supervise(programs) as ended:
        export_id, sound = submit_plan(runtime, poison.HANGS), submit_plan(runtime, "A1")
        poll(lambda: are_at_rest(runtime, [export_id, sound]), SECONDS, "exports are still pending")
    view = read_export(runtime, export_id)
    assert (view.quarantined, view.failure) == (True, f"render_documents: {DIED.format(3)}")
    assert read_export(runtime, sound).state == "executed"
    assert ended == [-signal.SIGALRM] * 3
    assert "poisoned_engine.py" in programs[0].log(), "the log does not show where the worker hung"
