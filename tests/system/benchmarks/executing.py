"""The speed of execution by real workers, compared with a bare loop and with a build of one task per step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from tests.conftest import Stack
from tests.system.acceptance.programs import Program, read_procfile
from tests.system.benchmarks.builds import HOPS, VARIABLE, WITHOUT_DOCUMENTS
from tests.system.benchmarks.environments import EMBEDDED, BenchmarkServers
from tests.system.benchmarks.figures import Figure, Round, compare
from tests.system.benchmarks.interleave import Side
from tests.system.benchmarks.statements import count_statements

#: The processes beside the publisher if the message broker is a server: two workers and one for deliveries.
WORKERS = ("worker", "worker", "deliveries")


def measure(servers: BenchmarkServers, name: str, *, rounds: int, exports: int) -> list[Figure]:
    """Compare whole exports with documents: a bare loop, the normal chain, and one task per step."""
    commits = count_statements(servers.make_folder(), lines=5, packages=5).after_acceptance
    with ExitStack() as running:
        sides = {
            "bare loop": _bare(running, servers, name, exports, commits),
            "as built": _chain(running, servers, name, exports, ""),
            "a task per step": _chain(running, servers, name, exports, HOPS),
        }
        return compare(f"whole exports, {name}", sides, rounds)


def measure_steps(servers: BenchmarkServers, name: str, *, rounds: int, exports: int) -> list[Figure]:
    """Compare only the steps, in exports without documents: one task per step, and the normal chain."""
    with ExitStack() as running:
        sides = {
            "a task per step": _chain(running, servers, name, exports, f"{HOPS} {WITHOUT_DOCUMENTS}"),
            "as built": _chain(running, servers, name, exports, WITHOUT_DOCUMENTS),
        }
        return compare(f"steps without documents, {name}", sides, rounds)


def _bare(running: ExitStack, servers: BenchmarkServers, name: str, exports: int, commits: int) -> Round:
    # As many processes as workers; on SQLite only one, because SQLite has one writer.
    processes = 1 if name == EMBEDDED else 2
    share = max(1, exports // processes)
    side = running.enter_context(
        Side(
            "tests.system.benchmarks.baseline",
            (share, commits),
            servers.stack(name),
            servers.make_folder(),
            processes=processes,
        )
    )
    return _rate(side.run_round, share * processes)


def _chain(running: ExitStack, servers: BenchmarkServers, name: str, exports: int, build: str) -> Round:
    stack = servers.stack(name)
    if name != EMBEDDED:
        _start_workers(running, servers, stack, build)
    side = running.enter_context(
        Side("tests.system.benchmarks.dispatch", (exports,), stack, servers.make_folder(), more={VARIABLE: build})
    )
    return _rate(side.run_round, exports)


def _start_workers(running: ExitStack, servers: BenchmarkServers, stack: Stack, build: str) -> None:
    commands = read_procfile()
    for worker in WORKERS:
        command = commands[worker].replace("exports", f"{sys.executable} -m tests.system.benchmarks.builds", 1)
        program = Program(worker, command, {**stack.environment, VARIABLE: build}, servers.make_folder())
        program.start()
        running.callback(program.stop)


def _rate(run_round: Callable[[], tuple[float, float]], exports: int) -> Round:
    def rate() -> Mapping[str, float]:
        seconds, processor_seconds = run_round()
        return {"exports/s": exports / seconds, "processor ms": processor_seconds / exports * 1000}

    return rate
