"""S11: how long one account's exports take beside another account that has many exports waiting."""

import json
import sys
import time
from contextlib import ExitStack
from typing import Final

from pipeline.core.runtime import Runtime
from pipeline.workflow.dispatch import publish_export
from tests.support import factories
from tests.system.benchmarks.dispatch import start_runtime
from tests.system.benchmarks.environments import REDIS, BenchmarkServers, create_account
from tests.system.benchmarks.exports import accept_new, make_plan, read_latencies, wait_until_delivered
from tests.system.benchmarks.goals import Extent, Goal, at_most
from tests.system.benchmarks.interleave import run_module
from tests.system.benchmarks.throughput import make_workers
from tests.system.faults.bounds import share

#: The other account, whose time is measured. It sends one export every so often.
OTHER: Final = "acc_other"
PACE_SECONDS: Final = 0.5


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """Measure account B alone, then while exports of account A wait."""
    stack = servers.stack(REDIS)
    with ExitStack() as running:
        for worker in make_workers(servers, stack, {}):
            worker.start()
            running.callback(worker.stop)
        found = run_module(__name__, (extent.waiting, extent.waiting_for), stack)
    alone, beside = (share(seconds, 0.95) for seconds in found)
    goal = f"p95 of account B beside {extent.waiting:,} waiting exports of account A against B alone"
    return [at_most("S11", goal, 3, beside / alone, f"{beside:.2f} s against {alone:.2f} s")]


def main(waiting: int, measured: int) -> None:
    """Print the seconds of the other account's exports, alone and beside `waiting` exports."""
    runtime = start_runtime()
    create_account(runtime, OTHER)
    _run_other(runtime, 2)
    alone = _run_other(runtime, measured)
    for _ in range(waiting):
        _start(runtime, factories.ACCOUNT)
    sys.stdout.write(json.dumps([alone, _run_other(runtime, measured)]))


def _start(runtime: Runtime, account: str) -> str:
    accepted = accept_new(runtime, make_plan(account=account))
    publish_export(accepted.export_id, accepted.queues)
    return accepted.export_id


def _run_other(runtime: Runtime, count: int) -> list[float]:
    exports = []
    for _ in range(count):
        exports.append(_start(runtime, OTHER))
        time.sleep(PACE_SECONDS)
    wait_until_delivered(runtime, exports)
    return read_latencies(runtime, exports)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
