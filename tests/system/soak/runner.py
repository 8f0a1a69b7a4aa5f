"""The course of a soak: start everything, apply load and faults for a time, repair, and judge."""

import dataclasses
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx

from pipeline.core import tenancy
from pipeline.core.db import Database
from pipeline.core.errors import DatabaseBusy
from pipeline.ops.migrations.runner import upgrade_database
from pipeline.simulation.judge import Violation
from tests.conftest import Stack
from tests.interfaces.contracts.sent import check_notifications
from tests.support.fork_server import start_fork_server
from tests.support.on_day import write_shift
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import PostgreSQL, RabbitMQ, Redis
from tests.system.acceptance.programs import read_procfile
from tests.system.faults.case import PERSONAL
from tests.system.faults.client import Client
from tests.system.faults.fork_server import ENGINE
from tests.system.faults.history import violations
from tests.system.faults.records import History
from tests.system.faults.site import START_SECONDS, Program, Site, answers
from tests.system.faults.snapshots import list_unfinished, snapshot
from tests.system.faults.test_holders import fork_with_wrong_clock
from tests.system.soak.chaos import API, DELIVERIES, PAUSE_SECONDS, POOL, SPARED, WORKER, Chaos
from tests.system.soak.figures import LEASE_SECONDS, Figure, Targets, extras, figures
from tests.system.soak.gauges import Gauges
from tests.system.soak.history import Record
from tests.system.soak.load import Load
from tests.system.soak.partner_responses import RandomResponses

FORK_SERVER_MODULE: Final = "tests.system.soak.task_messages"
#: Longer than in the tests of single faults: task messages that are sent again before workers can take them are
#: additional load.
LONG_LEASE: Final = {
    "lease_seconds": f"{LEASE_SECONDS:g}",
    "stalled_seconds": "4",
    "sweep_seconds": "1",
    "log_level": "WARNING",
}
#: The longest time without faults at the start of a soak; it is a fifth of a short soak. Its speed is the yardstick.
CALM_SECONDS: Final = 120.0
#: The longest wait after the last repair; the judge reports exports that have not ended by then.
REST_SECONDS: Final = 600.0
#: The number of exports whose documents are rendered again, to compare.
MAX_RENDERED_AGAIN: Final = 10
_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True)
class SoakResult:
    """The result of a soak."""

    record: Record
    stack: str
    figures: Sequence[Figure]
    violations: Sequence[Violation]
    extras: dict[str, Any]
    logs: str

    @property
    def missed_figures(self) -> list[Figure]:
        """Return the figures that miss their targets."""
        return [figure for figure in self.figures if figure.reached is False]


def run_soak(
    folder: Path,
    seconds: float,
    seed: int,
    targets: Targets,
    report: Callable[[Record], None],
    pause: tuple[float, float] = PAUSE_SECONDS,
) -> SoakResult:
    """Run a soak and return the result; it calls `report` now and then, and writes its history into the folder.

    The pause between two faults is between the two numbers of `pause`, in seconds.

    Raises MissingServer if a server is not installed. An even seed uses Redis, an odd one RabbitMQ.
    """
    record = Record(seed)
    with ExitStack() as end:
        end.enter_context(tenancy.account_scope(tenancy.ALL_ACCOUNTS))
        shift = folder / "shift"
        write_shift(shift, 0)
        site = _site(end, folder, seed, shift)
        client, kept = end.enter_context(site.account())
        kept.respond = RandomResponses(seed)
        second = httpx.Client(
            base_url=f"http://{LOOPBACK}:{site.programs[SPARED[1]].command.rsplit(' --port ', 1)[1].split()[0]}",
            headers=client.http.headers,
            timeout=30,
            trust_env=False,
        )
        end.enter_context(second)
        both = [client, replace(client, http=second)]
        load = Load(both, record)
        chaos, gauges = Chaos(site, record, shift, load.exports, pause), Gauges(site, record)
        record.began, record.began_at = time.monotonic(), time.time()
        load.start()
        try:
            calm_seconds = min(CALM_SECONDS, seconds / 5)
            for _ in _ticks(calm_seconds):
                gauges.tick()
                report(record)
            record.faults_at = record.now()
            for _ in _ticks(seconds - calm_seconds):
                chaos.tick()
                gauges.tick()
                report(record)
            record.repaired_at = chaos.repair_all()
            load.finish_submitting()
            for _ in _ticks(REST_SECONDS):
                chaos.repair_all()
                load.raise_errors()
                if not load.is_running and not _list_unfinished(site, client):
                    break
            rest = record.now() - record.repaired_at
        finally:
            load.stop()
        for export_id in load.exports:
            client.inspect(export_id)
        chosen = random.Random(seed).sample(load.exports, min(MAX_RENDERED_AGAIN, len(load.exports)))
        found = snapshot(site.runtime, client.account, site.store, again=chosen)
        # The service's own connections are still open. What ends by itself must end; other connections are left open.
        history = History(
            replace(found, processes_left=site.processes_left()),
            client.calls,
            [*kept.receipts],
            site.logs(),
            [*site.canaries, *PERSONAL],
            tries=site.tries,
        )
        broken = violations(history)
        check_notifications(site.runtime)
        _write(folder / "history.jsonl", record, history)
        exports = found.tables["exports"]
        measured = figures(record, exports, broken, rest, targets)
        return SoakResult(
            record, site.stack.name, measured, broken, extras(record, exports, len(kept.receipts)), site.logs_end()
        )


def _site(end: ExitStack, folder: Path, seed: int, shift: Path) -> Site:
    """Yield the service: three workers (one a pool, one with its own clock), one process for deliveries, and two APIs.

    The pool runs only steps. The other workers also deliver, but the process for deliveries delivers most.
    """
    parent = end.enter_context(
        start_fork_server(_make_folder(folder / "fork-server"), module=FORK_SERVER_MODULE, SOAK_SEED=str(seed))
    )
    wrong_clock_server = end.enter_context(
        fork_with_wrong_clock(_make_folder(folder / "elsewhen"), shift, FORK_SERVER_MODULE)
    )
    database = end.enter_context(PostgreSQL())
    message_broker: Redis | RabbitMQ = RabbitMQ() if seed % 2 else Redis()
    end.enter_context(message_broker)
    stack = Stack(
        f"postgres-{message_broker.name}",
        database.fresh_url(),
        message_broker.fresh_url(),
        f"file:{folder / 'artifacts'}",
    )
    migrated = Database(stack.database_url)
    upgrade_database(migrated)
    migrated.dispose()
    site = Site(stack, folder, parent, message_broker=message_broker, database=database, **LONG_LEASE)
    end.callback(site.close)
    del site.environment[ENGINE]  # as in production
    port = free_port()
    command = f"{read_procfile()['web']} --port {port}"
    site.programs[SPARED[1]] = Program(site, SPARED[1], command)
    site.programs[WORKER].fork_server = wrong_clock_server
    site.programs[POOL].command = site.programs["steps"].command + " --concurrency 2"
    site.start(API, SPARED[1], WORKER, SPARED[0], POOL, DELIVERIES)
    # The start of six programs on two cores is not part of the measurement.
    second, others = (
        f"http://{LOOPBACK}:{port}",
        [site.programs[each] for each in (WORKER, SPARED[0], POOL, DELIVERIES)],
    )
    site.wait_until(
        lambda: answers(second) and all(each.handles_signals for each in others),
        START_SECONDS,
        "a program did not start",
    )
    return site


def _make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _ticks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(_LOOK_SECONDS)  # sets the pace of everything in this thread


def _list_unfinished(site: Site, client: Client) -> bool:
    try:
        return bool(list_unfinished(site.runtime, client.account))
    except DatabaseBusy:
        return True


def _write(path: Path, record: Record, history: History) -> None:
    """Write the record, a line each: faults, requests, messages, samples, and the remaining rows."""
    with path.open("w", encoding="utf-8") as file:

        def write(kind: str, row: Any) -> None:
            file.write(json.dumps({"kind": kind, **row}, default=str) + "\n")

        write("soak", {"seed": record.seed, "began_at": record.began_at})
        for name in ("faults", "acceptances", "samples"):
            for each in getattr(record, name):
                write(name.removesuffix("s"), dataclasses.asdict(each))
        for call in history.calls:
            write("call", dataclasses.asdict(call))
        for receipt in history.receipts:
            write("receipt", dataclasses.asdict(receipt))
        for table in ("exports", "steps", "deliveries", "attempts"):
            for row in history.snapshot.tables[table]:
                write(table, row)
