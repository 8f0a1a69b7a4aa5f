"""Limits of a process: requests, live streams, bytes of all bodies together, and how long a request waits."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import text
from starlette.types import Message, Receive, Scope, Send

from config.settings import Settings
from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core import deadline
from pipeline.core.db import Database
from pipeline.interfaces.api import limits, sandbox
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open, execution
from tests.support import factories
from tests.support.people import sign_in_client
from tests.support.servers import poll

EXECUTE = "/api/exports/execute"
AS_JSON = {"Content-Type": "application/json"}


@contextmanager
def hold_request(
    harness: ApiHarness, headers: Mapping[str, str], body: bytes, path: str = EXECUTE
) -> Iterator[socket.socket]:
    """Hold a request open whose body begins with `body` and does not end; an empty body has not begun."""
    address = urlsplit(harness.url)
    sent_headers = {
        "Host": address.netloc,
        "Content-Type": "application/json",
        "Transfer-Encoding": "chunked",
        **headers,
    }
    head = (
        f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent_headers.items()) + "\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head.encode() + (f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b""))
        yield connection


def is_busy(response: httpx.Response) -> bool:
    if response.status_code != 503:
        return False
    assert response.json()["errorCode"] == "BUSY"
    assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
    return True


def test_requests_above_the_limit_get_503_and_liveness_still_answers(open_harness: Open) -> None:
    harness = open_harness(max_requests=2)
    bearer = harness.key("execute", "read").bearer
    client = harness.client_with_key(bearer)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(hold_request(harness, {"Authorization": f"Bearer {bearer}"}, b"{"))
        poll(lambda: is_busy(client.get("/api/exports")), 20, "a third request was answered")
        assert client.get("/api/exports").json()["message"] == (
            "this process has 2 requests in progress; try again in 1 s"
        )
        assert client.get("/livez").status_code == 200
    poll(lambda: client.get("/api/exports").status_code == 200, 20, "an ended request was still counted")


def test_account_at_its_limit_leaves_room_for_others(open_harness: Open) -> None:
    harness = open_harness(max_requests=10, max_account_requests=2)
    key = harness.key("execute", "read")
    client, neighbour = harness.client_with_key(key.bearer), harness.client("read", account=OTHER)

    def refused() -> bool:
        answer = harness.client("read").get("/api/exports")
        if answer.status_code != 429:
            return False
        assert (answer.json()["errorCode"], answer.headers["retry-after"]) == ("RATE_LIMITED", "1")
        assert "has 2 requests in progress here" in answer.json()["message"]
        return True

    with ExitStack() as held:

        def filled() -> bool:
            # On a busy machine one may be rejected before it is counted.
            held.enter_context(hold_request(harness, {"Authorization": f"Bearer {key.bearer}"}, b"{"))
            return refused()

        poll(filled, 60, "a third request of the account was answered")
        assert neighbour.get("/api/exports").status_code == 200
    poll(lambda: client.get("/api/exports").status_code == 200, 20, "an ended request was still counted")


#: Requests that a stranger holds open: the body is read before the sender is known.
STRANGERS = [
    ("/api/broker-submissions/sub_0/acknowledgements", {"webhook-signature": "v1,none"}, "signed calls"),
    ("/console/sign-in", {"Authorization": "Bearer none", "Cookie": "exports_console=none"}, "sign-ins"),
    ("/portal/open", {"Cookie": "exports_portal=none"}, "uses of portal links"),
]


@pytest.mark.parametrize(("path", "headers", "kind"), STRANGERS)
def test_slow_stranger_stops_only_its_network_at_its_door(
    open_harness: Open, path: str, headers: dict[str, str], kind: str
) -> None:
    harness = open_harness(max_requests=5)
    stranger, reader = harness.client_with_key(None), harness.client_with_key(None)
    sign_in_client(reader, harness.runtime, "read")

    def refused() -> bool:
        answer = stranger.post(path, headers=headers)
        if answer.status_code != 429:
            return False
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["message"] == f"your network has 1 {kind} in progress here; try again in 1 s"
        return True

    with hold_request(harness, headers, b"", path):
        poll(refused, 20, "a second request of the network was answered")
        others = {each: stranger.post(each, headers=sent).status_code for each, sent, _ in STRANGERS if each != path}
        assert 429 not in others.values()
        assert stranger.get("/metrics").status_code == 200
        assert reader.post("/console/me/account").status_code == 403  # the form was read: it has no token
        cookie = {"Cookie": "exports_console=none"}
        assert stranger.post("/console/me/account", headers=cookie).headers["location"] == "/console/sign-in"
    poll(lambda: not refused(), 20, "an ended request was still counted")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (EXECUTE, 401),
        ("/api/broker-submissions/sub_0/acknowledgements", 401),
        ("/answers/none", 404),
        ("/console/links/none", 404),
    ],
)
def test_body_of_who_shows_nothing_is_not_read(open_harness: Open, path: str, status: int) -> None:
    harness = open_harness(max_body_bytes=100_000, max_bodies_bytes=100_000)
    good = harness.client("execute")
    for _ in range(5):
        answer = harness.client_with_key(None).post(path, content=iter([b" " * 90_000]), headers=AS_JSON)
        assert answer.status_code == status
    assert good.post(EXECUTE, content=b" " * 90_000, headers=AS_JSON).json()["errorCode"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("path", "roles"),
    [(EXECUTE, ["execute"]), ("/api/broker-submissions/sub_0/acknowledgements", []), ("/console/sign-in", [])],
)
def test_slow_body_is_rejected(open_harness: Open, path: str, roles: list[str]) -> None:
    harness = open_harness(max_body_seconds=0.2)
    headers = {"Authorization": f"Bearer {harness.key(*roles).bearer}"} if roles else {"webhook-signature": "v1,none"}
    before = harness.rows()
    with hold_request(harness, headers, b"{", path) as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close" in head.lower()
    assert json.loads(body)["errorCode"] == "REQUEST_TIMEOUT"
    assert json.loads(body)["message"] == "the body must arrive within 0.2 s; send it faster, or split the plan"
    assert harness.rows() == before


def test_processing_may_take_longer_than_the_body_timeout(open_harness: Open) -> None:
    harness = open_harness(max_body_seconds=0.5)
    answer = harness.client("execute").post(EXECUTE, json=execution(factories.plan()), headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


@pytest.mark.anyio
async def test_wait_for_the_caller_after_the_body_has_no_deadline() -> None:
    async def receive() -> Message:
        if message := next(messages):
            return message
        await anyio.sleep(0.05)
        return {"type": "http.disconnect"}

    messages: Iterator[Message | None] = iter([{"type": "http.request", "body": b"{}"}, None])
    receive_in_time = limits._receive_within(receive, 0.01)
    assert (await receive_in_time())["type"] == "http.request"
    assert (await receive_in_time())["type"] == "http.disconnect"


def test_live_streams_have_their_own_limit(open_harness: Open) -> None:
    harness = open_harness(max_requests=1)
    export_id = harness.execute(factories.plan())
    client = harness.client("read")
    live = {"headers": {"Accept": "text/event-stream"}}
    with client.stream("GET", f"/api/exports/{export_id}/events", **live) as stream:  # type: ignore[arg-type]
        assert stream.status_code == 200
        assert is_busy(client.get(f"/api/exports/{export_id}/events", **live))  # type: ignore[arg-type]
        poll(lambda: client.get("/api/exports").status_code == 200, 20, "a stream took the place of a request")


def test_total_bytes_of_bodies_are_limited_and_released(open_harness: Open) -> None:
    harness = open_harness(max_body_bytes=100_000, max_bodies_bytes=150_000)
    bearer = harness.key("execute").bearer
    client = harness.client_with_key(bearer)
    body = b" " * 90_000

    def one_more() -> httpx.Response:
        return client.post(EXECUTE, content=body, headers=AS_JSON)

    def streamed() -> httpx.Response:
        return client.post(EXECUTE, content=iter([body]), headers=AS_JSON)

    assert one_more().json()["errorCode"] == streamed().json()["errorCode"] == "INVALID_REQUEST"
    with ExitStack() as held:

        def filled() -> bool:
            # A request releases its bytes just after its answer, so the first of these may be rejected.
            held.enter_context(hold_request(harness, {"Authorization": f"Bearer {bearer}"}, body))
            return is_busy(one_more())

        poll(filled, 20, "a body was accepted beyond the limit")
        assert is_busy(streamed())
        # A small body still fits.
        assert client.post(EXECUTE, content=b"{", headers=AS_JSON).json()["errorCode"] == "INVALID_REQUEST"
    poll(lambda: one_more().status_code == 400, 20, "an ended request was still counted")


def test_unverified_bodies_leave_room_for_others(open_harness: Open) -> None:
    harness = open_harness(max_body_bytes=100_000, max_bodies_bytes=300_000)
    door = f"/sandbox/webhooks/{factories.ACCOUNT}/{factories.BROKER}"
    made = NewPartner(id="br_signing", kind="customs_broker", name="One with a secret")
    partners.create_partner(harness.runtime, factories.ACCOUNT, made)
    known = f"/sandbox/webhooks/{factories.ACCOUNT}/br_signing"
    stranger, body = harness.client_with_key(None), b" " * 90_000
    junk = {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,junk"}
    with ExitStack() as held:
        # A request without a signature, or for an unknown partner, is not read at all.
        for address, headers in ((door, junk), (known, {}), (known, {"webhook-signature": "v1,junk"})):
            assert stranger.post(address, content=iter([body]), headers=headers).status_code == 401
        held.enter_context(hold_request(harness, junk, body, known))
        poll(lambda: sandbox._UNVERIFIED_BODIES._held_bytes == len(body), 20, "the held body was not read")
        assert is_busy(stranger.post(known, content=iter([body]), headers=junk)), (
            "two bodies were read at the same time"
        )
        answer = harness.client("execute").post(EXECUTE, content=body, headers=AS_JSON)
        assert answer.json()["errorCode"] == "INVALID_REQUEST", "the body of a caller with a key did not fit"
    poll(lambda: stranger.post(known, content=b"{}", headers=junk).status_code == 401, 20, "the body was still counted")


def test_total_limit_below_one_body_is_rejected() -> None:
    with pytest.raises(ValidationError, match="EXPORTS_MAX_BODIES_BYTES must be EXPORTS_MAX_BODY_BYTES or more"):
        Settings(max_body_bytes=100, max_bodies_bytes=99)


def test_request_to_a_busy_database_fails_before_a_worker_would(
    open_harness: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = open_harness(database_url, database_timeout_seconds=60)
    monkeypatch.setattr(limits, "REQUEST_WAIT_SECONDS", 0.3)
    client = harness.client("execute")
    body = execution(factories.plan())
    other = Database(database_url)
    with other.write() as session:
        if not other.is_sqlite:
            session.execute(text("LOCK TABLE exports IN SHARE ROW EXCLUSIVE MODE"))
        response = client.post(EXECUTE, json=body)
    other.dispose()
    assert (response.status_code, response.headers.get("retry-after")) == (503, "2")
    assert response.json()["message"] == "the database does not respond; try again in 2 s"
    assert client.post(EXECUTE, json=body).status_code == 202


@pytest.mark.anyio
async def test_request_deadline_excludes_the_time_to_receive_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    now, left = [1000.0], []
    for module in (limits, deadline):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        for _each in range(2):
            now[0] += 0.25
            await receive()
            left.append(deadline.seconds_left(60))

    async def slow_body() -> Message:
        now[0] += 1
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def nowhere(_: Message) -> None:
        raise AssertionError("nothing is answered")

    await limits.RequestDeadline(app)({"type": "http"}, slow_body, nowhere)
    assert left == [limits.REQUEST_WAIT_SECONDS - 0.25, limits.REQUEST_WAIT_SECONDS - 0.5]
