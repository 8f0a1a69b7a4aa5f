"""A process under many large bodies: it answers each, limits its memory, and continues."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests.support import factories
from tests.support.command_line import Commands, run_service
from tests.system.faults.matrix import mark_own_stack

MEGABYTE = 1024 * 1024
LARGEST, TOGETHER, SENT, AT_ONCE = 8, 16, 32, 16  # the first three in megabytes
CHUNK = b" " * MEGABYTE

#: Megabytes that the bodies together may need: twice their size, for data that the server has read but not passed on, and
#: what Python keeps. A quiet machine needs a third of it.
GROWTH = 2 * TOGETHER + 2 * LARGEST
#: Megabytes that one may need; eight are held until they exceed the limit.
ONE = 20


def send_chunked(address: str, headers: str) -> int:
    """Send one endless body, piece by piece, until it is rejected; return the status."""
    there = urlsplit(address)
    head = f"POST /api/exports/execute HTTP/1.1\r\nHost: {there.netloc}\r\n{headers}\r\n\r\n"
    answer = b""
    with socket.create_connection((there.hostname, there.port), timeout=60) as connection:
        with suppress(OSError):  # the server has answered and does not read the rest
            connection.sendall(head.encode())
            for _ in range(SENT):
                connection.sendall(f"{len(CHUNK):x}\r\n".encode() + CHUNK + b"\r\n")
        with suppress(OSError):
            answer = connection.recv(4096)
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def flood(send: Callable[[], int]) -> Counter[int]:
    found: Counter[int] = Counter()

    def one() -> None:
        found[send()] += 1

    threads = [threading.Thread(target=one) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextmanager
def measure_growth(process: psutil.Process) -> Iterator[list[float]]:
    """Give the maximum growth of the process in megabytes during the block, known when it has ended."""
    before, found, done = process.memory_info().rss, [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found[0] = max(found[0], (process.memory_info().rss - before) / MEGABYTE)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


@mark_own_stack("F31")
def test_many_endless_bodies_need_bounded_memory(
    commands: Commands, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    commands.environment |= {
        "EXPORTS_MAX_BODY_BYTES": str(LARGEST * MEGABYTE),
        "EXPORTS_MAX_BODIES_BYTES": str(TOGETHER * MEGABYTE),
        "EXPORTS_LOG_LEVEL": "ERROR",
    }
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    key = commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
    with (
        run_service(commands.environment, tmp_path) as (process, address),
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30) as api,
    ):
        assert api.post("/api/exports/preflight", json=factories.plan()).status_code == 200
        typed = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
        signed = f"Authorization: Bearer {key}\r\n{typed}"
        measure_pages = psutil.Process(process.pid)
        with measure_growth(measure_pages) as by_one:
            assert send_chunked(address, signed) in {0, 413}
        with measure_growth(measure_pages) as by_many:
            with_key = flood(lambda: send_chunked(address, signed))
            without = flood(lambda: send_chunked(address, typed))
        record_property("F31: megabytes by one endless body, and by sixteen", f"{by_one[0]:.0f} {by_many[0]:.0f}")
        # A connection that is reset before its answer is read has no status; no body is ever accepted.
        assert set(with_key) <= {0, 413, 503}, with_key
        # Of many from one network, some do not even get the question for a key.
        assert set(without) <= {0, 401, 429}, without
        assert by_one[0] <= ONE
        assert by_many[0] < GROWTH
        assert api.post("/api/exports/preflight", json=factories.plan()).status_code == 200
