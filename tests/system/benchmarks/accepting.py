"""S5: the cost of acceptance, and its speed over HTTP against a route of the same process that only parses and answers."""

import asyncio
import json
import shlex
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from itertools import count
from typing import Final

from pipeline.accounts.api_keys import EXECUTE as EXECUTE_ROLE
from pipeline.accounts.api_keys import Caller
from pipeline.core.json_input import parse_json
from pipeline.core.runtime import open_runtime
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.server import WEB_OPTIONS
from pipeline.workflow import preflight
from pipeline.workflow.acceptance import accept_plan
from tests.support import factories
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import poll
from tests.system.acceptance.programs import Program
from tests.system.benchmarks.environments import EMBEDDED, REDIS, BenchmarkServers, create_key
from tests.system.benchmarks.exports import make_plan
from tests.system.benchmarks.figures import Comparison, Round, compare
from tests.system.benchmarks.floor import PATH
from tests.system.benchmarks.goals import Extent, Goal, at_least, at_most
from tests.system.benchmarks.interleave import PROCESSOR

CALLER: Final = Caller(factories.ACCOUNT, "bench", "live", frozenset({EXECUTE_ROLE}))
CONNECTIONS: Final = 8
ACCEPT, CHECKED, VALIDATE = "accept", "accept after a preflight", "validate only"
RATE, P99 = "requests/s", "p99 ms"
EXECUTE: Final = "/api/exports/execute"
#: About 12 KB of JSON.
LINES, PACKAGES = 7, 7
_BATCH: Final = "batch-{:012d}"
_ACCEPTED, _BUSY = b"HTTP/1.1 202", b"HTTP/1.1 503"
#: Seconds that a connection goes on sending the request that a busy service refused before the end of the round.
_PATIENCE: Final = 30


class Load:
    """Posts plans over eight connections that stay open; each plan is a new batch with a new key."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._numbers = count()
        name = _BATCH.format(0)
        plan = factories.plan(1, LINES, PACKAGES, batch=name)
        plan["units"][0]["entry"]["shipmentControlNumber"] = name
        body = {"accountId": plan["accountId"], "batchId": name, "plan": plan}
        self._body = json.dumps(body).encode().split(name.encode())
        self.bytes = len(name.encode().join(self._body))
        self._head = (
            f"Host: {LOOPBACK}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {self.bytes}\r\nIdempotency-Key: "
        )

    def run_round(self, path: str, seconds: float) -> Mapping[str, float]:
        """Post for that many seconds, each request as soon as the answer before it arrives."""
        took = asyncio.run(self._post(path, seconds))
        took.sort()
        return {RATE: len(took) / seconds, P99: took[int(len(took) * 0.99)] * 1000}

    async def _post(self, path: str, seconds: float) -> list[float]:
        ends = time.perf_counter() + seconds
        took: list[float] = []
        await asyncio.gather(*(self._connection(path, ends, took) for _ in range(CONNECTIONS)))
        return took

    async def _connection(self, path: str, ends: float, took: list[float]) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        while (began := time.perf_counter()) < ends:
            request = self._request(path)
            # A busy service asks for the same request again; its time counts from the first attempt.
            while (head := await _exchange(reader, writer, request)).startswith(_BUSY):
                if time.perf_counter() > ends + _PATIENCE:
                    raise RuntimeError(f"{path} still answered {head!r} {_PATIENCE} s after the end of the round")
                await asyncio.sleep(_read_number(head, b"retry-after"))
            if not head.startswith(_ACCEPTED):
                raise RuntimeError(f"{path} answered {head!r}")
            took.append(time.perf_counter() - began)
        writer.close()

    def _request(self, path: str) -> bytes:
        name = _BATCH.format(next(self._numbers)).encode()
        return f"POST {path} HTTP/1.1\r\n{self._head}".encode() + name + b"\r\n\r\n" + name.join(self._body)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send the request; return the head of the answer and at most 400 bytes of its body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    return head + (await reader.readexactly(_read_number(head, b"content-length")))[:400]


def _read_number(head: bytes, name: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for found, _, value in lines if found == name)


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """S5: acceptance on each database, by one client in this process and over HTTP."""
    goals = []
    for name in (EMBEDDED, REDIS):
        database = "SQLite" if name == EMBEDDED else "PostgreSQL"
        limit = 4 if name == EMBEDDED else 6
        client = _measure_client(servers, name, extent)
        goals += [
            at_most("S5", f"accept, client's processor ms, {database}", limit, client.median(ACCEPT, PROCESSOR)),
            at_most("S5", f"the same after a preflight, {database}", limit, client.median(CHECKED, PROCESSOR)),
        ]
        found = _measure_http(servers, name, extent)
        rates = f"{found.median(ACCEPT, RATE):.0f} against {found.median(VALIDATE, RATE):.0f} requests/s"
        ratio = found.ratio(RATE, ACCEPT, VALIDATE)
        goals.append(at_least("S5", f"accept against validate-only, {database}", 0.30, ratio, rates))
        slowest = found.median(ACCEPT, P99)
        goals.append(at_most("S5", f"accept, p99 ms at {CONNECTIONS} connections, {database}", 60, slowest))
    return goals


def _measure_client(servers: BenchmarkServers, name: str, extent: Extent) -> Comparison:
    """Measure this process's processor time to read and accept a plan, new or checked before; nothing is launched."""
    with closing(open_runtime(servers.stack(name).settings)) as runtime:

        def run_round(*, checked: bool) -> Mapping[str, float]:
            plans = [make_plan(LINES, PACKAGES) for _ in range(extent.accepted)]
            if checked:
                for plan in plans:
                    parsed_plan = parse_json(json.dumps(plan).encode(), Plan, max_depth=runtime.settings.max_json_depth)
                    preflight.preflight(runtime, CALLER, hash_plan(parsed_plan.model, parsed_plan.raw))
            bodies = [
                json.dumps({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}).encode()
                for plan in plans
            ]
            began = time.process_time()
            for body in bodies:
                parsed = parse_json(body, ExecuteRequest, max_depth=runtime.settings.max_json_depth)
                accept_plan(
                    runtime, CALLER, parsed.model, raw_plan=parsed.raw["plan"], idempotency_key=parsed.model.batch_id
                )
            return {PROCESSOR: (time.process_time() - began) / len(bodies) * 1000}

        sides: dict[str, Round] = {ACCEPT: partial(run_round, checked=False), CHECKED: partial(run_round, checked=True)}
        return compare(sides, extent.rounds)


def _measure_http(servers: BenchmarkServers, name: str, extent: Extent) -> Comparison:
    """Compare acceptance with the floor, on the API as the Procfile starts it; accepted plans are not executed."""
    stack = servers.stack(name)
    port = free_port()
    environment = {
        **stack.environment,
        "EXPORTS_RATE_LIMIT_PER_MINUTE": "100000000",
        "EXPORTS_MAX_OPEN_EXPORTS": "100000000",
        "HOST": LOOPBACK,
        "PORT": str(port),
    }
    factory = "tests.system.benchmarks.floor:app"
    command = shlex.join(["uvicorn", "--factory", factory, "--host", LOOPBACK, "--port", str(port), *WEB_OPTIONS])
    api = Program("api", command, environment, servers.make_folder())
    api.start()
    try:
        poll(lambda: accepts(port), 30, f"the API did not start\n{api.log()}")
        load = Load(port, create_key(stack.settings))
        sides: dict[str, Round] = {
            VALIDATE: partial(load.run_round, PATH, extent.accept_seconds),
            ACCEPT: partial(load.run_round, EXECUTE, extent.accept_seconds),
        }
        try:
            return compare(sides, extent.rounds)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{api.log()[-3000:]}") from error
    finally:
        api.stop()
