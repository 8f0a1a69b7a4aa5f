"""S1 to S3: whole exports against real peers in the same run, and against their documents alone."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Final

import psycopg

from tests.conftest import Stack
from tests.system.acceptance.programs import Program, read_procfile
from tests.system.benchmarks.builds import VARIABLE, WITHOUT_DOCUMENTS
from tests.system.benchmarks.environments import REDIS, BenchmarkServers
from tests.system.benchmarks.figures import Comparison, Round, compare
from tests.system.benchmarks.goals import Extent, Goal, at_least, at_most, unmeasured
from tests.system.benchmarks.interleave import PROCESSOR, RATE, Side
from tests.system.benchmarks.peers import celery_app, work

CELERY: Final = "Celery, a transaction a step"
PROCRASTINATE: Final = "Procrastinate"
SERVICE: Final = "the service"
DOCUMENTS: Final = "documents alone"
#: The processes of the service beside the publisher if the message broker is a server.
WORKERS: Final = ("worker", "worker", "deliveries")


def measure_without_documents(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """S1: exports without documents; the peers' steps do nothing but their bookkeeping."""
    title = "exports/s without documents against {}"
    count = extent.short_exports
    with ExitStack() as running:
        sides: dict[str, Round] = {
            CELERY: _peer(running, servers, "celery", count, {}),
            SERVICE: _service(running, servers, count, {VARIABLE: WITHOUT_DOCUMENTS}),
        }
        if find_spec("procrastinate"):
            sides[PROCRASTINATE] = _peer(running, servers, "procrastinate", count, {})
        found = compare(sides, extent.rounds)
    goals = [at_least("S1", title.format(CELERY), 1.0, *_against(found, CELERY))]
    if PROCRASTINATE in sides:
        return [*goals, at_least("S1", title.format(PROCRASTINATE), 1.2, *_against(found, PROCRASTINATE))]
    return [*goals, unmeasured("S1", title.format(PROCRASTINATE), "it is not installed; `make bench` installs it")]


def measure_whole(servers: BenchmarkServers, extent: Extent) -> tuple[list[Goal], Comparison]:
    """S2 and S3: whole exports with the same documents on every side; also return the measures of the sides."""
    count = extent.exports
    with ExitStack() as running:
        alone = Side("tests.system.benchmarks.documents", ("unit", count), servers.stack(REDIS), servers.make_folder())
        sides: dict[str, Round] = {
            DOCUMENTS: partial(running.enter_context(alone).measure, count),
            SERVICE: _service(running, servers, count, {}),
            CELERY: _peer(running, servers, "celery", count, {work.VARIABLE: "1"}),
        }
        found = compare(sides, extent.rounds)
    title = f"whole exports/s against {CELERY} that makes the same documents"
    whole = found.ratio(PROCESSOR, SERVICE, DOCUMENTS)
    times = f"{found.median(SERVICE, PROCESSOR):.0f} ms against {found.median(DOCUMENTS, PROCESSOR):.0f} ms"
    return [
        at_least("S2", title, 1.4, *_against(found, CELERY)),
        at_most("S3", "processor time of a whole export against its documents alone", 1.3, whole, times),
    ], found


def _against(found: Comparison, peer: str) -> tuple[float, str]:
    rates = f"{found.median(SERVICE, RATE):.1f} against {found.median(peer, RATE):.1f} exports/s"
    return found.ratio(RATE, SERVICE, peer), f"{rates}, processor time {found.ratio(PROCESSOR, SERVICE, peer):.2g} x"


def _service(running: ExitStack, servers: BenchmarkServers, count: int, more: Mapping[str, str]) -> Round:
    stack = servers.stack(REDIS)
    workers = make_workers(servers, stack, more)
    side = Side("tests.system.benchmarks.dispatch", (count,), stack, servers.make_folder(), workers, more)
    return partial(running.enter_context(side).measure, count)


def make_workers(servers: BenchmarkServers, stack: Stack, more: Mapping[str, str]) -> list[Program]:
    """Return the workers of the Procfile for the stack, not started, as the build that `more` names."""
    build = f"{sys.executable} -m tests.system.benchmarks.builds"
    commands = read_procfile()
    return [
        Program(name, commands[name].replace("exports", build, 1), {**stack.environment, **more}, servers.make_folder())
        for name in WORKERS
    ]


def _peer(running: ExitStack, servers: BenchmarkServers, peer: str, count: int, more: Mapping[str, str]) -> Round:
    stack = servers.stack(REDIS)
    with psycopg.connect(stack.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(work.SCHEMA)
    commands: Sequence[str] = celery_app.COMMANDS
    if peer == "procrastinate":
        from tests.system.benchmarks.peers import procrastinate_app  # noqa: PLC0415 - may not be installed

        commands = procrastinate_app.COMMANDS
        schema = Program("schema", procrastinate_app.SCHEMA_COMMAND, stack.environment, servers.make_folder())
        schema.start()
        if schema.wait(60):
            raise RuntimeError(schema.log())
    workers = [
        Program(f"{peer}-{number}", command, {**stack.environment, **more}, servers.make_folder())
        for number, command in enumerate(commands)
    ]
    side = Side("tests.system.benchmarks.peers.launcher", (peer, count), stack, servers.make_folder(), workers, more)
    return partial(running.enter_context(side).measure, count)
