"""The server: its options, and the bounds of a connection on heads that it sends and answers that it does not take."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from config.settings import Settings
from pipeline.core.runtime import open_runtime
from pipeline.interfaces import server
from pipeline.interfaces.pages.assets import VIEWER
from pipeline.interfaces.server import MAX_HEAD_BYTES, WEB_OPTIONS, BoundedHead, NotServing, Service
from pipeline.workflow.publisher import EmbeddedWorker
from tests.architecture.test_wiring import procfile
from tests.interfaces.api.conftest import ApiHarness

KILOBYTE: Final = 1024
#: What the system buffers on both sides, and what is read before the bound is noticed.
UNNOTICED: Final = 8 * 1024 * KILOBYTE
SENT: Final = 4 * UNNOTICED

BEGUN: Final = (
    b"POST /api/exports/preflight HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n"
)

ENDLESS: Final = {
    "a header": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a"),
    "a name of a header": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"a"),
    "headers": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X-Short: a\r\n"),
    "a request line": (b"GET /livez?", b"a"),
    "a header of a second request": (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nX-Long: ", b"a"),
    "a trailer": (BEGUN + b"1\r\n{\r\n0\r\nX-Long: ", b"a"),
    "trailers": (BEGUN + b"1\r\n{\r\n0\r\n", b"X-Short: a\r\n"),
    "an extension of a chunk": (BEGUN + b"1;x=", b"a"),
}


@contextmanager
def open_connection(harness: ApiHarness, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    address = urlsplit(harness.url)
    with socket.socket() as connection:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(60)
        connection.connect((address.hostname, address.port))
        yield connection


@pytest.mark.parametrize("what", ENDLESS)
def test_connection_with_unfinished_headers_is_closed(harness: ApiHarness, what: str) -> None:
    begin, each = ENDLESS[what]
    piece = each * (64 * KILOBYTE // len(each))
    key = harness.key("read").bearer.encode()
    sent = 0
    with open_connection(harness) as connection, suppress(OSError):
        connection.sendall(begin.replace(b"%s", key))
        while sent < SENT:
            connection.sendall(piece)
            sent += len(piece)
    assert sent < UNNOTICED
    assert harness.client_with_key(None).get("/livez").status_code == 200


def test_large_headers_are_rejected_with_a_problem(harness: ApiHarness) -> None:
    with open_connection(harness) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * MAX_HEAD_BYTES)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nconnection: close" in head
    problem = json.loads(body)
    assert (problem["errorCode"], problem["status"]) == ("HEADERS_TOO_LARGE", 431)
    assert problem["message"] == "the request line and headers have more than 65536 bytes; send fewer"


def test_many_requests_and_chunked_bodies_do_not_count_as_headers(harness: ApiHarness) -> None:
    client = harness.client("read")
    for _ in range(3):
        assert client.get("/livez", headers={"X-Long": "a" * 50_000}).status_code == 200
    pieces = (b" " for _ in range(30_000))
    answer = client.post("/api/exports/preflight", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.json()["errorCode"] == "INVALID_REQUEST"


# Answers that nobody takes


class Caller:
    """The loop and the transport of a connection: the caller takes what the test says."""

    def __init__(self) -> None:
        self.left, self.limit, self.aborted = 0, 0, False
        self.waits: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, wait_ends: Callable[[int], None], before: int) -> asyncio.TimerHandle:
        def end() -> None:
            self.waits.remove(timer)
            wait_ends(before)

        timer = (seconds, end)
        self.waits.append(timer)
        return cast("asyncio.TimerHandle", SimpleNamespace(cancel=self.waits.clear))

    def set_write_buffer_limits(self, high: int) -> None:
        self.limit = high

    def get_write_buffer_size(self) -> int:
        return self.left

    def get_extra_info(self, _: str) -> None:
        return None

    def abort(self) -> None:
        self.aborted = True

    def let_time_pass(self) -> None:
        (seconds, end), *others = self.waits
        assert (seconds, others) == (30.0, [])
        end()


@pytest.fixture
def connected(harness: ApiHarness) -> tuple[Caller, BoundedHead]:
    caller = Caller()
    config = uvicorn.Config(lambda *_: None, http=BoundedHead, lifespan="off", log_config=None)
    config.load()
    connection = BoundedHead(config, ServerState(), {}, cast("asyncio.AbstractEventLoop", caller))
    connection.connection_made(cast("asyncio.Transport", caller))
    return caller, connection


def test_connection_that_takes_nothing_for_30_seconds_is_ended(connected: tuple[Caller, BoundedHead]) -> None:
    caller, connection = connected
    caller.left = 1000
    connection.pause_writing()
    for caller.left in (600, 599):  # slow, but it reads
        caller.let_time_pass()
        assert not caller.aborted
    caller.let_time_pass()
    assert (caller.aborted, caller.limit) == (True, 4096)


def test_wait_ends_with_the_answer_or_the_connection(connected: tuple[Caller, BoundedHead]) -> None:
    caller, connection = connected
    for end in (connection.resume_writing, lambda: connection.connection_lost(OSError())):
        connection.pause_writing()
        assert len(caller.waits) == 1
        end()
        assert caller.waits == []


def test_unread_answer_ends_its_connection(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.2)
    ended = threading.Event()
    lose = BoundedHead.connection_lost

    def lose_and_say_so(connection: BoundedHead, error: Exception | None) -> None:
        lose(connection, error)
        ended.set()

    monkeypatch.setattr(BoundedHead, "connection_lost", lose_and_say_so)
    with open_connection(harness, receive_buffer=4 * KILOBYTE) as connection:
        connection.sendall(f"GET /console/assets/{VIEWER} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert ended.wait(60)
        with suppress(ConnectionResetError):
            assert len(b"".join(iter(lambda: connection.recv(65536), b""))) < 4_800_000


def test_web_process_uses_the_header_bound() -> None:
    assert procfile()["web"] == ["exports", "web"]
    web = WEB_OPTIONS
    assert web[web.index("--http") + 1] == "pipeline.interfaces.server:BoundedHead"


def test_worker_that_does_not_start_in_time_is_reported_and_everything_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    def never(_: EmbeddedWorker, seconds: float) -> None:
        raise TimeoutError(f"the embedded worker did not start in {seconds:g} s")

    monkeypatch.setattr(EmbeddedWorker, "start", never)
    monkeypatch.setattr(EmbeddedWorker, "stop", lambda *_: stopped.append("worker"))
    runtime = open_runtime(
        Settings(database_url=f"sqlite:///{tmp_path / 'exports.db'}", artifacts_url=f"file:{tmp_path}")
    )
    listener = server.listen("127.0.0.1", 0)
    with pytest.raises(NotServing, match="the embedded worker did not start in 60 s; its log says why"):
        Service(runtime, listener, worker=True).start()
    assert (stopped, listener.fileno()) == (["worker"], -1)
    runtime.close()
