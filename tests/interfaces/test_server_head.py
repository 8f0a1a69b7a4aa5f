"""The bound on a request's line and headers: one connection cannot use the time of all others."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import pytest

from pipeline.interfaces.server import MAX_HEAD_BYTES, WEB_OPTIONS
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
def open_connection(harness: ApiHarness) -> Iterator[socket.socket]:
    address = urlsplit(harness.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
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


def test_web_process_uses_the_header_bound() -> None:
    assert procfile()["web"] == ["exports", "web"]
    web = WEB_OPTIONS
    assert web[web.index("--http") + 1] == "pipeline.interfaces.server:BoundedHead"
