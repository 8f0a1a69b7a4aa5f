"""What a process takes on at a time: requests, live streams, and the bytes of all bodies together."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError

from config.settings import Settings
from tests import builders
from tests.api.conftest import Desk, Open
from tests.servers import poll

EXECUTE = "/api/exports/execute"
AS_JSON = {"Content-Type": "application/json"}


@contextmanager
def unfinished(desk: Desk, bearer: str, body: bytes) -> Iterator[None]:
    """Hold a request open whose body has begun with `body` and does not end."""
    address = urlsplit(desk.url)
    head = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {bearer}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n")
        yield


def busy(response: httpx.Response) -> bool:
    if response.status_code != 503:
        return False
    assert response.json()["errorCode"] == "NOT_READY"
    assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
    return True


def test_more_requests_at_a_time_than_are_taken_are_put_off_and_the_process_still_lives(open_desk: Open) -> None:
    desk = open_desk(max_requests=2)
    bearer = desk.key("execute", "read").bearer
    client = desk.bearing(bearer)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(unfinished(desk, bearer, b"{"))
        poll(lambda: busy(client.get("/api/exports")), 20, "a third request was answered")
        assert client.get("/api/exports").json()["message"] == (
            "this process has 2 requests under way; try again in 1 s"
        )
        assert client.get("/livez").status_code == 200
    poll(lambda: client.get("/api/exports").status_code == 200, 20, "what had ended was still counted")


def test_live_streams_are_counted_by_themselves(open_desk: Open) -> None:
    desk = open_desk(max_requests=1)
    export_id = desk.execute(builders.plan())
    client = desk.client("read")
    live = {"headers": {"Accept": "text/event-stream"}}
    with client.stream("GET", f"/api/exports/{export_id}/events", **live) as stream:  # type: ignore[arg-type]
        assert stream.status_code == 200
        assert busy(client.get(f"/api/exports/{export_id}/events", **live))  # type: ignore[arg-type]
        poll(lambda: client.get("/api/exports").status_code == 200, 20, "a stream took the place of a request")


def test_all_bodies_together_have_a_bound_and_what_ended_is_given_back(open_desk: Open) -> None:
    desk = open_desk(max_body_bytes=100_000, max_bodies_bytes=150_000)
    bearer = desk.key("execute").bearer
    client = desk.bearing(bearer)
    body = b" " * 90_000

    def one_more() -> httpx.Response:
        return client.post(EXECUTE, content=body, headers=AS_JSON)

    def streamed() -> httpx.Response:
        return client.post(EXECUTE, content=iter([body]), headers=AS_JSON)

    assert one_more().json()["errorCode"] == streamed().json()["errorCode"] == "INVALID_REQUEST"
    with ExitStack() as held:

        def filled() -> bool:
            # A request gives back its bytes a moment after its answer, so the first of these may itself be put off.
            held.enter_context(unfinished(desk, bearer, body))
            return busy(one_more())

        poll(filled, 20, "a body was taken beyond the bound")
        assert busy(streamed())
        # What is small still fits.
        assert client.post(EXECUTE, content=b"{", headers=AS_JSON).json()["errorCode"] == "INVALID_REQUEST"
    poll(lambda: one_more().status_code == 400, 20, "what had ended was still counted")


def test_who_has_no_key_has_no_body_held(open_desk: Open) -> None:
    desk = open_desk(max_body_bytes=100_000, max_bodies_bytes=100_000)
    good = desk.client("execute")
    for _ in range(5):
        answer = desk.bearing(None).post(EXECUTE, content=iter([b" " * 90_000]), headers=AS_JSON)
        assert answer.status_code == 401
    assert good.post(EXECUTE, content=b" " * 90_000, headers=AS_JSON).json()["errorCode"] == "INVALID_REQUEST"


def test_a_bound_that_has_no_room_for_one_body_is_refused() -> None:
    with pytest.raises(ValidationError, match="EXPORTS_MAX_BODIES_BYTES has no room for one body"):
        Settings(max_body_bytes=100, max_bodies_bytes=99)
