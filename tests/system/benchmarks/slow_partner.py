"""How long other partners wait while one never answers: the time from a task message to the record of delivery."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final

from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries import sender
from tests.deliveries.support import exports
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script
from tests.support.servers import poll
from tests.system.benchmarks.environments import BenchmarkServers
from tests.system.benchmarks.figures import Figure, compare
from tests.system.faults.bounds import share

#: The threads of a process for deliveries.
THREADS: Final = 16
#: Exports that wait for the silent partner.
WAITING: Final = 12
#: The pause between two task messages of the others, so that they do not queue behind each other.
PACE_SECONDS: Final = 0.1
FAST_PARTNER, SLOW_PARTNER = "wh_fast", "wh_slow"


def measure(servers: BenchmarkServers, name: str, *, rounds: int, exports: int) -> list[Figure]:
    """Compare the deliveries of that many exports to one partner, alone and beside a silent partner."""
    with ExitStack() as end:
        settings = servers.stack(name).settings.model_copy(
            update={"allow_private_destinations": True, "delivery_timeout_seconds": 120}
        )
        runtime = open_runtime(settings)
        end.callback(runtime.close)
        answers = threading.Event()
        well, slow_url = (end.enter_context(Endpoint([script])) for script in (Script(), Script(until=answers)))
        for partner, endpoint in ((FAST_PARTNER, well), (SLOW_PARTNER, slow_url)):
            _register(runtime, partner, endpoint.url)
        sides = {
            "no slow partner": partial(_measure_alone, runtime, exports),
            "one slow partner": partial(_measure_beside_slow, runtime, exports, slow_url, answers),
        }
        return compare(f"deliveries beside a slow partner, {name}", sides, rounds)


def _measure_alone(runtime: Runtime, count: int) -> Mapping[str, float]:
    made = _hand_off(runtime, FAST_PARTNER, count)
    with ThreadPoolExecutor(THREADS) as threads:
        return _send_all(runtime, threads, made)


def _measure_beside_slow(
    runtime: Runtime, count: int, slow_url: Endpoint, answers: threading.Event
) -> Mapping[str, float]:
    waiting, made = _hand_off(runtime, SLOW_PARTNER, WAITING), _hand_off(runtime, FAST_PARTNER, count)
    answers.clear()
    before = len(slow_url.requests)
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            held = [threads.submit(_seconds_to_send, runtime, each, SLOW_PARTNER, 0.0) for each in waiting]
            poll(lambda: len(slow_url.requests) - before == runtime.settings.delivery_senders, 30)
            found = _send_all(runtime, threads, made)
        finally:
            answers.set()
        for each in held:
            each.result()
    return found


def _send_all(runtime: Runtime, threads: ThreadPoolExecutor, made: list[exports.PreparedExport]) -> Mapping[str, float]:
    under_way = []
    for each in made:
        under_way.append(threads.submit(_seconds_to_send, runtime, each, FAST_PARTNER, time.perf_counter()))
        time.sleep(PACE_SECONDS)
    seconds = [each.result() for each in under_way]
    return {"p50 ms": share(seconds, 0.5) * 1000, "p95 ms": share(seconds, 0.95) * 1000}


def _seconds_to_send(runtime: Runtime, export: exports.PreparedExport, partner_id: str, published_at: float) -> float:
    sender.deliver_stream(runtime, export.export_id, partner_id, "webhook")
    return time.perf_counter() - published_at


def _register(runtime: Runtime, partner_id: str, url: str) -> None:
    exports.register(runtime, partner_id, "warehouse", channels=[{"channel": "webhook", "address": url}])


def _hand_off(runtime: Runtime, warehouse: str, count: int) -> list[exports.PreparedExport]:
    made = []
    for _ in range(count):
        batch = new_id("batch")
        made.append(exports.prepare_export(runtime, factories.plan(warehouse=warehouse, batch=batch, invoice=batch)))
        exports.hand_off(runtime, made[-1])
    return made
