"""One large plan end to end on the embedded default: its duration, and each process's highest memory."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import httpx
import psutil

from pipeline.core.ids import new_id
from pipeline.core.runtime import open_runtime
from tests.support import factories
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import poll
from tests.system.acceptance.programs import Program
from tests.system.benchmarks.environments import EMBEDDED, BenchmarkServers, create_key
from tests.system.benchmarks.exports import LIMIT_SECONDS, are_all_delivered

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Large:
    """The result for one plan: `peaks` has the highest resident memory of each kind of process, in MB (10**6 bytes)."""

    lines: int
    packages: int
    body_bytes: int
    accept_seconds: float
    executed_seconds: float
    peaks: Mapping[str, float]
    processes: Mapping[str, int]


def measure(servers: BenchmarkServers, *, lines: int, packages: int) -> Large:
    """Execute a plan of one unit by `exports serve`, over HTTP, and sample the memory of its processes."""
    stack = servers.stack(EMBEDDED)
    port = free_port()
    service = Program("service", f"exports serve --port {port}", stack.environment, servers.make_folder())
    plan = factories.plan(1, lines, packages, batch=new_id("batch"))
    body = json.dumps({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}).encode()
    key = create_key(stack.settings)
    service.start()
    try:
        poll(lambda: accepts(port), 30, f"the service did not start\n{service.log()}")
        began = time.perf_counter()
        answer = httpx.post(
            f"http://{LOOPBACK}:{port}/api/exports/execute",
            content=body,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=LIMIT_SECONDS,
            trust_env=False,
        ).raise_for_status()
        accepted = time.perf_counter() - began
        peaks: dict[int, float] = defaultdict(float)
        kinds: dict[int, str] = {}
        with closing(open_runtime(stack.settings)) as runtime:
            export_id = answer.json()["exportId"]
            while not are_all_delivered(runtime, [export_id]):
                _sample(service, peaks, kinds)
                if time.perf_counter() - began > LIMIT_SECONDS:
                    raise TimeoutError(f"the large plan was not executed\n{service.log()[-2000:]}")
                time.sleep(0.02)
        executed = time.perf_counter() - began
    finally:
        service.stop()
    return Large(
        lines=lines,
        packages=packages,
        body_bytes=len(body),
        accept_seconds=accepted,
        executed_seconds=executed,
        peaks={kind: max(peaks[pid] for pid in kinds if kinds[pid] == kind) for kind in dict.fromkeys(kinds.values())},
        processes={kind: list(kinds.values()).count(kind) for kind in dict.fromkeys(kinds.values())},
    )


def _sample(service: Program, peaks: dict[int, float], kinds: dict[int, str]) -> None:
    for pid, resident in service.resident_bytes().items():
        peaks[pid] = max(peaks[pid], resident / MEGABYTE)
        if pid not in kinds:
            kinds[pid] = "service" if pid == service.running().pid else _kind(pid)


def _kind(pid: int) -> str:
    try:
        return "PDF engine" if "pipeline.documents.pdf.worker" in psutil.Process(pid).cmdline() else "child"
    except psutil.NoSuchProcess:
        return "child"
