"""Endpoints with broken HTTP: a 2xx status line takes the message, everything else is a failure, nothing hangs."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from config.settings import Settings
from pipeline.accounts.channels import WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.accounts.secrets import generate_secret
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.deliveries.channels.http_client import open_http_session
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.channels.webhook import WebhookChannel
from tests.support.http_endpoint import Endpoint, Script
from tests.system.faults.matrix import mark_own_stack

MESSAGE = OutgoingMessage("msg-1", "exports.package.recorded.v1", "warehouse.wh.package.recorded.v1", b'{"id": "m"}')

#: A pause that a timeout for each read would tolerate; all pauses together are far longer than any test.
STEP_SECONDS, STEPS = 0.05, 1200
#: How long the client can read the sent bytes before a reset discards them.
READ_SECONDS = 0.3

Speak = Callable[[socket.socket], None]
Serve = Callable[..., str]
Start = Callable[..., Endpoint]


@pytest.fixture
def start_raw_server() -> Iterator[Serve]:
    """Starts servers that send scripted bytes, after a whole request or, with `early`, at once."""
    ended = threading.Event()
    listeners = []

    def serve(speak: Speak, *, early: bool = False) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        if not early:
                            connection.recv(65_536)
                        speak(connection)

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield serve
    ended.set()
    for each in listeners:
        each.close()


def speak_parts(*parts: bytes) -> Speak:
    def speak(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return speak


def drip(text: bytes) -> Speak:
    def speak(connection: socket.socket) -> None:
        for _ in range(STEPS):
            connection.sendall(text)
            time.sleep(STEP_SECONDS)

    return speak


def reset_after(head: bytes) -> Speak:
    def speak(connection: socket.socket) -> None:
        connection.sendall(head)
        time.sleep(READ_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return speak


def hang(connection: socket.socket) -> None:
    connection.recv(65_536)
    time.sleep(STEPS * STEP_SECONDS)


def send(url: str, seconds: float) -> list[DeliveryReceipt]:
    settings = Settings.model_validate({"allow_private_destinations": True, "delivery_timeout_seconds": seconds})
    target = Target(
        "acc_demo", "wh_demo", test=False, endpoint=WebhookEndpoint(address=url), secrets=(generate_secret(),)
    )
    return list(WebhookChannel(settings).send([MESSAGE], target))


@mark_own_stack("F22")
@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(reset_after(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"), id="reset after the headers"),
        pytest.param(
            speak_parts(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\ngarbage\r\n"),
            id="garbage for a chunk",
        ),
        pytest.param(speak_parts(b"HTTP/1.1 204 No Content\r\n\r\n"), id="204"),
        pytest.param(speak_parts(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n\xff\xfe\x00"), id="broken body"),
        pytest.param(
            speak_parts(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            id="50 times 100 Continue first",
        ),
    ],
)
def test_2xx_status_line_delivers_whatever_follows(start_raw_server: Serve, speak: Speak) -> None:
    (receipt,) = send(start_raw_server(speak), 20)
    assert receipt.status in ("200", "204")


@mark_own_stack("F22")
@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(speak_parts(b"<html>HTTP/0.9 has no status</html>"), id="HTTP/0.9"),
        pytest.param(speak_parts(b"HTTP/1.1 two hundred\r\n\r\n"), id="an invalid status"),
        pytest.param(speak_parts(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"), id="an invalid header"),
        pytest.param(reset_after(b"HTTP/1.1 20"), id="reset in the status line"),
        pytest.param(speak_parts(b"SSH-2.0-OpenSSH_9.9\r\n"), id="another protocol"),
        pytest.param(speak_parts(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000), id="a header without an end"),
        pytest.param(speak_parts(), id="nothing"),
    ],
)
def test_invalid_status_line_fails(start_raw_server: Serve, speak: Speak) -> None:
    with pytest.raises(ChannelUnavailable):
        send(start_raw_server(speak), 20)


@mark_own_stack("F20")
@pytest.mark.parametrize(
    ("speak", "scheme"),
    [
        pytest.param(hang, "http", id="never answers"),
        pytest.param(hang, "https", id="hangs in TLS"),
        pytest.param(drip(b"HTTP/1.1 100 Continue\r\n\r\n"), "http", id="100 Continue without an end"),
        pytest.param(lambda connection: [speak_parts(b"HTTP/1.1 200 OK\r\n")(connection), drip(b"x: y\r\n")(connection)], "http",
                     id="headers that drip"),
        pytest.param(drip(b"H"), "http", id="a status line that drips"),
    ],
)  # fmt: skip
def test_time_limit_is_total_and_not_per_read(start_raw_server: Serve, speak: Speak, scheme: str) -> None:
    began = time.monotonic()
    with pytest.raises(ChannelUnavailable):
        send(start_raw_server(speak, early=scheme == "https").replace("http:", f"{scheme}:"), 0.2)
    assert time.monotonic() - began < STEPS * STEP_SECONDS / 2


@pytest.mark.parametrize("status", [200, 410, 500])
def test_answer_from_private_network_is_not_stored(endpoint: Start, status: int) -> None:
    """A partner could register an address there to read private pages."""
    hook = endpoint(Script(status, b"the admin page"))
    if status == 200:
        (receipt,) = send(hook.url, 5)
        assert (receipt.status, receipt.answer) == ("200", None)
        return
    with pytest.raises((ChannelUnavailable, ChannelRefused)) as caught:
        send(hook.url, 5)
    assert isinstance(caught.value, ChannelUnavailable | ChannelRefused)
    assert (caught.value.status, caught.value.answer) == (str(status), None)
    assert "admin" not in str(caught.value)


def test_non_http_answer_from_private_network_is_not_quoted(start_raw_server: Serve) -> None:
    with pytest.raises(ChannelUnavailable) as caught:
        send(start_raw_server(speak_parts(b"-ERR the admin page\r\n\r\n")), 5)
    assert (str(caught.value), caught.value.status) == ("RemoteProtocolError", "RemoteProtocolError")


@pytest.mark.usefixtures("treat_as_internet")
def test_non_http_answer_from_public_endpoint_is_quoted(start_raw_server: Serve) -> None:
    with pytest.raises(ChannelUnavailable) as caught:
        send(start_raw_server(speak_parts(b"-ERR the front page\r\n\r\n")), 5)
    assert "the front page" in str(caught.value)


def test_answer_of_own_endpoint_is_stored_even_if_private(endpoint: Start) -> None:
    with open_http_session(private=True, seconds=5, own=True) as poster:
        assert poster.post(endpoint(Script(200, b"thanks")).url, b"", {}).excerpt == "thanks"
