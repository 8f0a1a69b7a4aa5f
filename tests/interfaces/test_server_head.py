"""The bound of a request's line and headers: one connection cannot take the time of all others."""

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
#: What the system takes into its buffers on both sides, and what of it is read before the bound is noticed.
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
    "what stands beside the length of a piece": (BEGUN + b"1;x=", b"a"),
}


@contextmanager
def open_connection(harness: ApiHarness) -> Iterator[socket.socket]:
    address = urlsplit(harness.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        yield connection


@pytest.mark.parametrize("what", ENDLESS)
def test_a_connection_that_does_not_end_its_headers_is_ended(harness: ApiHarness, what: str) -> None:
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


def test_headers_that_are_too_large_are_refused_in_words(harness: ApiHarness) -> None:
    with open_connection(harness) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * MAX_HEAD_BYTES)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nconnection: close" in head
    problem = json.loads(body)
    assert (problem["errorCode"], problem["status"]) == ("HEADERS_TOO_LARGE", 431)
    assert problem["message"] == "the request line and headers have more than 65536 bytes; send fewer"


def test_many_requests_of_one_connection_and_a_body_in_many_pieces_are_no_long_header(harness: ApiHarness) -> None:
    client = harness.client("read")
    for _ in range(3):
        assert client.get("/livez", headers={"X-Long": "a" * 50_000}).status_code == 200
    pieces = (b" " for _ in range(30_000))
    answer = client.post("/api/exports/preflight", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.json()["errorCode"] == "INVALID_REQUEST"


def test_the_web_process_starts_with_that_bound() -> None:
    assert procfile()["web"] == ["exports", "web"]
    web = WEB_OPTIONS
    assert web[web.index("--http") + 1] == "pipeline.interfaces.server:BoundedHead"
