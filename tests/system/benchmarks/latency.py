"""S8: how long one export takes on an idle service, beyond the time that its documents take alone."""

import json
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import Final

from config.queues import STEPS
from pipeline.workflow.dispatch import publish_export
from tests.system.benchmarks.dispatch import start_runtime
from tests.system.benchmarks.documents import build_invoices, store_unit
from tests.system.benchmarks.environments import EMBEDDED, REDIS, BenchmarkServers
from tests.system.benchmarks.exports import LINES, accept_exports, read_latencies, wait_until_delivered
from tests.system.benchmarks.goals import Extent, Goal, at_most
from tests.system.benchmarks.interleave import run_module
from tests.system.benchmarks.throughput import make_workers
from tests.system.faults.bounds import share

_PAUSE_SECONDS: Final = 0.1


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """Measure exports one after another, in turns with their documents alone."""
    goals = []
    for name in (EMBEDDED, REDIS):
        stack = servers.stack(name)
        with ExitStack() as running:
            for worker in [] if name == EMBEDDED else make_workers(servers, stack, {}):
                worker.start()
                running.callback(worker.stop)
            whole, alone = run_module(__name__, (extent.latencies, extent.warm_up), stack)
        for percentile, most in ((50, 40), (99, 80)):
            beyond = (share(whole, percentile / 100) - median(alone)) * 1000
            times = f"{share(whole, percentile / 100) * 1000:.0f} ms, documents {median(alone) * 1000:.0f} ms"
            goal = f"idle ms from acceptance to the last message beyond the documents' time, p{percentile}, {name}"
            goals.append(at_most("S8", goal, most, beyond, times))
    return goals


def main(count: int, warm_up: int) -> None:
    """Print the seconds of `count` exports, and of as many units of documents."""
    runtime = start_runtime()
    whole: list[float] = []
    alone: list[float] = []
    for _ in range(count + warm_up):
        exports = accept_exports(runtime, 1)
        publish_export(exports[0], [STEPS])
        wait_until_delivered(runtime, exports)
        whole += read_latencies(runtime, exports)
        (invoice,) = build_invoices(1, LINES)
        time.sleep(_PAUSE_SECONDS)
        began = time.perf_counter()
        store_unit(invoice)
        alone.append(time.perf_counter() - began)
    sys.stdout.write(json.dumps([whole[warm_up:], alone[warm_up:]]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
