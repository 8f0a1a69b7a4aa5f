"""Webhooks after Standard Webhooks, and how hostile endpoints are handled."""

import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from config.settings import Settings
from pipeline.accounts.channels import WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.accounts.secrets import generate_secret
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, InvalidApiKey
from pipeline.core.outbound import is_public
from pipeline.deliveries.channels.http_client import MAX_RESPONSE_BYTES
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.channels.webhook import WebhookChannel
from pipeline.deliveries.submissions.signature import build_signature_headers, check_signature
from tests.support.http_endpoint import Endpoint, Script
from tests.system.faults.matrix import mark_own_stack

Start = Callable[..., Endpoint]

MESSAGE = OutgoingMessage(
    "msg-1", "exports.package.recorded.v1", "warehouse.wh.package.recorded.v1", b'{"id": "msg-1"}'
)
SECRET = generate_secret()


def send(url: str, *messages: OutgoingMessage, **settings: Any) -> list[DeliveryReceipt]:
    given = {"allow_private_destinations": True, "delivery_timeout_seconds": 20} | settings
    channel = WebhookChannel(Settings.model_validate(given))
    target = Target("acc_demo", "wh_demo", test=False, endpoint=WebhookEndpoint(address=url), secrets=(SECRET,))
    return list(channel.send(messages or (MESSAGE,), target))


@pytest.mark.usefixtures("treat_as_internet")
def test_body_signature_verifies_with_the_receiving_library(endpoint: Start) -> None:
    hook = endpoint(Script(200, b"thanks"))
    (receipt,) = send(f"{hook.url}/in?from=exports")
    (request,) = hook.requests
    assert (receipt.status, receipt.answer) == ("200", "thanks")
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == {"id": "msg-1"}
    assert request.path == "/in?from=exports"
    assert request.headers["webhook-id"] == "msg-1"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.headers["host"] == hook.url.removeprefix("http://")
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert request.body == MESSAGE.body


def test_other_secret_or_changed_byte_does_not_verify() -> None:
    headers = build_signature_headers("msg-1", b"body", SECRET)
    check_signature(b"body", headers, [SECRET])
    for body, secret, given in (
        (b"bodY", SECRET, headers),
        (b"body", generate_secret(), headers),
        (b"body", SECRET, headers | {"webhook-id": "msg-2"}),
        (b"body", SECRET, headers | {"webhook-signature": "nonsense"}),
        (b"\xff", SECRET, headers),
        (b"body", SECRET, {}),
        (b"body", SECRET, build_signature_headers("msg-1", b"body", SECRET, at=datetime(2020, 1, 1, tzinfo=UTC))),
    ):
        with pytest.raises(InvalidApiKey):
            check_signature(body, given, [secret])


def test_any_changed_signed_byte_does_not_verify() -> None:
    body = b'{"id": "ntf_1", "data": {"exportId": "exp_1"}}'
    headers = build_signature_headers("ntf_1", body, SECRET)
    check_signature(body, headers, [SECRET])
    for place in range(len(body)):
        for changed in (body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :], body[:place] + body[place + 1 :]):
            with pytest.raises(InvalidApiKey):
                check_signature(changed, headers, [SECRET])
    for name, value in headers.items():
        for place in range(len(value)):
            flipped = value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
            if name == "webhook-signature" and place == len(value) - 2:
                continue  # two bits of the last character before the padding are not read
            with pytest.raises(InvalidApiKey):
                check_signature(body, headers | {name: flipped}, [SECRET])


@mark_own_stack("F19")
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503])
@pytest.mark.usefixtures("treat_as_internet")
def test_status_other_than_2xx_fails_and_keeps_the_answer(endpoint: Start, status: int) -> None:
    with pytest.raises(ChannelUnavailable) as caught:
        send(endpoint(Script(status, b"no\x00\r\nthanks")).url)
    assert (caught.value.status, caught.value.answer) == (str(status), "no   thanks")


@pytest.mark.parametrize(
    ("status", "wish", "seconds"), [(503, "7", 7.0), (429, "7", 7.0), (500, "7", None), (503, "soon", None)]
)
def test_retry_after_counts_only_with_429_and_503(
    endpoint: Start, status: int, wish: str, seconds: float | None
) -> None:
    with pytest.raises(ChannelUnavailable) as caught:
        send(endpoint(Script(status, headers={"Retry-After": wish})).url)
    assert caught.value.retry_after_seconds == seconds


def test_retry_after_may_be_a_date(endpoint: Start) -> None:
    with pytest.raises(ChannelUnavailable) as caught:
        send(endpoint(Script(503, headers={"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"})).url)
    assert caught.value.retry_after_seconds == 0.0


def test_status_410_is_refused_permanently(endpoint: Start) -> None:
    with pytest.raises(ChannelRefused) as caught:
        send(endpoint(Script(410)).url)
    assert caught.value.gone


@mark_own_stack("F21")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_fails_and_is_not_followed(endpoint: Start, status: int) -> None:
    elsewhere = endpoint()
    hook = endpoint(Script(status, headers={"Location": elsewhere.url}))
    with pytest.raises(ChannelUnavailable):
        send(hook.url)
    assert len(hook.requests) == 1
    assert elsewhere.requests == []


@mark_own_stack("F20")
def test_silent_endpoint_is_bounded_by_total_time(endpoint: Start) -> None:
    began = time.monotonic()
    with pytest.raises(ChannelUnavailable):
        send(endpoint(Script(silent=True)).url, delivery_timeout_seconds=0.3)
    assert time.monotonic() - began < 15


@mark_own_stack("F20")
def test_slow_body_is_cut_at_total_time_and_the_status_counts(endpoint: Start) -> None:
    hook = endpoint(Script(200, b"x" * 1000, drip_seconds=0.05))
    began = time.monotonic()
    (receipt,) = send(hook.url, delivery_timeout_seconds=1)
    assert time.monotonic() - began < 15, "a timeout for each read would have waited for all of it"
    assert receipt.status == "200"


@mark_own_stack("F20")
@pytest.mark.usefixtures("treat_as_internet")
def test_huge_body_is_read_only_at_its_beginning(endpoint: Start) -> None:
    (receipt,) = send(endpoint(Script(200, b"a" * 20 * MAX_RESPONSE_BYTES)).url)
    assert receipt.answer == "a" * 500


def test_broken_off_body_after_2xx_is_delivered(endpoint: Start) -> None:
    (receipt,) = send(endpoint(Script(200, b"half", torn=True)).url)
    assert receipt.status == "200"


def test_messages_share_a_connection_with_full_time_each(endpoint: Start) -> None:
    hook = endpoint()
    receipts = send(hook.url, MESSAGE, OutgoingMessage("msg-2", "t", "k", b"{}"))
    assert [receipt.status for receipt in receipts] == ["204", "204"]
    assert [request.headers["webhook-id"] for request in hook.requests] == ["msg-1", "msg-2"]


def test_endpoint_without_listener_fails() -> None:
    with pytest.raises(ChannelUnavailable, match="ConnectError"):
        send("http://127.0.0.1:9/")


def test_proxy_of_the_environment_is_not_used(endpoint: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, hook = endpoint(), endpoint()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    send(hook.url)
    assert (len(hook.requests), len(proxy.requests)) == (1, 0)


HOSTILE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0.0.0.0",  # noqa: S104 - a destination, not bound
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", HOSTILE)
def test_private_destination_is_not_contacted(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", connected)
    with pytest.raises(ChannelUnavailable):
        send(f"http://{host}:8080/hook", allow_private_destinations=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_address_is_allowed(address: str) -> None:
    assert is_public(address)


def test_name_is_resolved_once_and_each_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answers(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(ChannelUnavailable, match="private network"):
        send("http://rebinding.example/", allow_private_destinations=False)
    assert asked == ["rebinding.example"]


def test_hanging_resolver_is_bounded_by_total_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        ended.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(ChannelUnavailable):
        send("http://slow.example/", delivery_timeout_seconds=0.2)
    assert time.monotonic() - began < 15
    ended.set()


def test_webhook_without_address_or_secret_is_refused() -> None:
    channel = WebhookChannel(Settings.model_validate({}))
    with pytest.raises(ChannelRefused):
        list(channel.send([MESSAGE], Target("acc_demo", "wh_demo", test=False)))
