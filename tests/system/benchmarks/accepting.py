"""The speed of acceptance over HTTP, compared with a route of the same process that only parses and answers."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Final

from pipeline.interfaces.server import WEB_OPTIONS
from tests.support import factories
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import poll
from tests.system.acceptance.programs import Program
from tests.system.benchmarks.environments import EMBEDDED, BenchmarkServers, create_key
from tests.system.benchmarks.figures import Figure, compare
from tests.system.benchmarks.floor import PATH
from tests.system.benchmarks.processor import read_processor_seconds

CONNECTIONS: Final = 8
EXECUTE: Final = "/api/exports/execute"
#: About 12 KB of JSON.
LINES, PACKAGES = 7, 7
_BATCH: Final = "batch-{:012d}"


class Load:
    """Posts plans over eight connections that stay open; each plan is a new batch with a new key."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._numbers = count()
        name = _BATCH.format(0)
        plan = factories.plan(1, LINES, PACKAGES, batch=name)
        body = {"accountId": plan["accountId"], "batchId": name, "plan": plan}
        self._body = json.dumps(body).encode().split(name.encode())
        self.bytes = len(name.encode().join(self._body))
        self._head = (
            f"Host: {LOOPBACK}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {self.bytes}\r\nIdempotency-Key: "
        )

    def run_round(self, path: str, seconds: float) -> Mapping[str, float]:
        """Post for that many seconds, each request as soon as the answer before it arrives."""
        before = read_processor_seconds()
        took = asyncio.run(self._post(path, seconds))
        took.sort()
        return {
            "requests/s": len(took) / seconds,
            "p99 ms": took[int(len(took) * 0.99)] * 1000,
            "processor ms": (read_processor_seconds() - before) / len(took) * 1000,
        }

    async def _post(self, path: str, seconds: float) -> list[float]:
        ends = time.perf_counter() + seconds
        took: list[float] = []
        await asyncio.gather(*(self._connection(path, ends, took) for _ in range(CONNECTIONS)))
        return took

    async def _connection(self, path: str, ends: float, took: list[float]) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        while (began := time.perf_counter()) < ends:
            writer.write(self._request(path))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            answer = await reader.readexactly(int(length.split(b":")[1]))
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(f"{path} answered {head[:40]!r} {answer[:400]!r}")
            took.append(time.perf_counter() - began)
        writer.close()

    def _request(self, path: str) -> bytes:
        name = _BATCH.format(next(self._numbers)).encode()
        return f"POST {path} HTTP/1.1\r\n{self._head}".encode() + name + b"\r\n\r\n" + name.join(self._body)


def measure(servers: BenchmarkServers, name: str, *, rounds: int, seconds: float) -> list[Figure]:
    """Compare acceptance with the floor, on the API as the Procfile starts it; accepted plans are not executed."""
    stack = servers.stack(name)
    port = free_port()
    environment = {
        **stack.environment,
        "EXPORTS_RATE_LIMIT_PER_MINUTE": "100000000",
        "HOST": LOOPBACK,
        "PORT": str(port),
    }
    command = shlex.join(
        [
            "uvicorn",
            "--factory",
            "tests.system.benchmarks.floor:app",
            "--host",
            LOOPBACK,
            "--port",
            str(port),
            *WEB_OPTIONS,
        ]
    )
    api = Program("api", command, environment, servers.make_folder())
    api.start()
    try:
        poll(lambda: accepts(port), 30, f"the API did not start\n{api.log()}")
        load = Load(port, create_key(stack.settings))
        part = f"accept, {'SQLite' if name == EMBEDDED else 'PostgreSQL'}, {load.bytes / 1000:.1f} kB"
        sides = {
            "validate only": partial(load.run_round, PATH, seconds),
            "execute": partial(load.run_round, EXECUTE, seconds),
        }
        try:
            return compare(part, sides, rounds)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{api.log()[-3000:]}") from error
    finally:
        api.stop()
