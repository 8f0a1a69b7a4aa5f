"""Tests of addresses with private ones allowed: each channel connects only to checked addresses, and TLS checks the name."""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from config.queues import celery_options
from config.settings import Settings
from pipeline.accounts.channels import EmailEndpoint, SftpEndpoint, WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.accounts.secrets import generate_secret
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.outbound import is_private, is_public
from pipeline.deliveries.channels.email import EmailChannel
from pipeline.deliveries.channels.protocol import EmailBody, OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.channels.sftp import SftpChannel
from pipeline.deliveries.channels.webhook import WebhookChannel
from tests.core.test_outbound import HOSTILE, ORACLE
from tests.support.certificates import Authority
from tests.support.tables import table

#: More spellings of reserved addresses: metadata services through IPv6, multicast, old anycast blocks.
MORE = """
169.254.170.2 169.254.169.253 [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::ffff:0.0.0.0] [::ffff:224.0.0.1]
[fe80::a9fe:a9fe] [ff05::2] [ff0e::1] [2001:10::1] [fec0::a:1] 225.1.2.3 [64:ff9b::c0a8:101]
""".split()


def _is_private_host(host: str) -> bool:
    """Return whether the host is an address, in any spelling, that is not private."""
    if "%" in host:
        return False  # a setting cannot hold it
    try:
        answers = socket.getaddrinfo(host.strip("[]"), 443, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    return not is_private(str(answers[0][4][0]))


#: The hostile hosts that stay forbidden if private addresses are allowed.
PRIVATE_HOSTS = [host for host in [*HOSTILE, *MORE] if _is_private_host(host)]
assert len(PRIVATE_HOSTS) >= 40

MESSAGE = OutgoingMessage(
    "msg-1", "exports.handoff.ready.v1", "broker.br.handoff.ready.v1", b"{}", email_body=EmailBody("A", "A", "<p>A</p>")
)
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBCEHQJmvPUDMWr4yMRJ2n5zjd5gdMMUFYs7vb/B1Ssu"

Send = Callable[[str], list[Any]]


def send_by_email(host: str) -> list[Any]:
    settings = _settings(smtp_url=f"smtp+starttls://{host}:587", mail_from="exports@maple.example")
    endpoint = EmailEndpoint(addresses=["entries@broker.example"])
    return list(EmailChannel(settings).send([MESSAGE], Target("acc_demo", "br", test=False, endpoint=endpoint)))


def send_by_queue(host: str) -> list[Any]:
    settings = _settings(broker_url=f"amqp://{host}:5672//")
    return list(QueueChannel(settings).send([MESSAGE], Target("acc_demo", "br", test=False)))


def send_by_webhook(host: str) -> list[Any]:
    endpoint = WebhookEndpoint(address=f"https://{host}/hook")
    target = Target("acc_demo", "br", test=False, endpoint=endpoint, secrets=(generate_secret(),))
    return list(WebhookChannel(_settings()).send([MESSAGE], target))


def send_by_sftp(host: str) -> list[Any]:
    endpoint = SftpEndpoint.model_validate({"address": f"sftp://user@{host}/", "hostKeys": [HOST_KEY]})
    target = Target("acc_demo", "br", test=False, endpoint=endpoint, credential="a password")
    return list(SftpChannel(_settings()).send([MESSAGE], target))


def _settings(**changes: Any) -> Settings:
    return Settings.model_validate(
        {"allow_private_destinations": True, "delivery_timeout_seconds": 5, "broker_url": "memory://"} | changes
    )


CHANNELS = {"mail": send_by_email, "queue": send_by_queue, "webhook": send_by_webhook, "file": send_by_sftp}


@pytest.fixture
def connection_attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of all attempts to connect; each attempt fails."""
    tried: list[str] = []

    def connect(_: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError("no server is at this address")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


@table(("channel", "host"), product(CHANNELS, PRIVATE_HOSTS))
@pytest.mark.system
def test_reserved_address_is_not_reached_if_private_addresses_are_allowed(
    channel: str, host: str, connection_attempts: list[str]
) -> None:
    connection_attempts.clear()
    if channel == "file" and host == "0":
        host = "0.0.0.0"  # noqa: S104 - the schema of such addresses refuses the short form
    with pytest.raises(ChannelUnavailable):
        CHANNELS[channel](host)
    assert connection_attempts == []


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "172.20.0.9", "192.168.7.7", "100.64.1.1", "[fd00::7]"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_private_network_is_reached_if_settings_allow_it(
    channel: str, host: str, connection_attempts: list[str]
) -> None:
    with pytest.raises(ChannelUnavailable):
        CHANNELS[channel](host)
    assert set(connection_attempts) == {host.strip("[]")}


@pytest.mark.parametrize("channel", CHANNELS)
def test_connection_goes_to_the_checked_address(
    channel: str, connection_attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, asked = socket.getaddrinfo, []

    def rebinding(host: str, *port: Any, **facts: Any) -> Any:
        if host != "rebinding.example":
            return look_up(host, *port, **facts)
        asked.append(host)
        return look_up("10.9.8.7" if len(asked) % 2 else "169.254.169.254", *port, **facts)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with pytest.raises(ChannelUnavailable):
        CHANNELS[channel]("rebinding.example")
    assert set(connection_attempts) == {"10.9.8.7"}
    assert len(connection_attempts) == (len(asked) + 1) // 2


@pytest.mark.parametrize("channel", CHANNELS)
def test_name_with_one_bad_address_is_not_connected_to(
    channel: str, connection_attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def both(host: str, *port: Any, **facts: Any) -> Any:
        return look_up("10.9.8.7", *port, **facts) + look_up("169.254.169.254", *port, **facts)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(ChannelUnavailable):
        CHANNELS[channel]("both.example")
    assert connection_attempts == []


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.ip_addresses(network="fc00::/6")))
def test_private_address_is_never_public_or_allowed_by_the_oracle(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert not (is_private(str(address)) and (is_public(str(address)) or ORACLE.permits_address(address)))


# TLS to the message broker


class Listener:
    """A TLS server on loopback that records the first bytes that it receives."""

    def __init__(self, authority: Authority, name: str) -> None:
        self._context = authority.server_context(name)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Accept connections while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            with plain:
                plain.settimeout(10)
                try:
                    with self._context.wrap_socket(plain, server_side=True) as secured:
                        self.received.append(secured.recv(4))
                except OSError:
                    continue


def connect_celery(url: str) -> None:
    with Celery(set_as_current=False) as app:
        app.config_from_object(celery_options(_settings(broker_url=url)))
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            connection.default_channel.client.ping()


def connect_channel(url: str) -> None:
    list(QueueChannel(_settings(broker_url=url)).send([MESSAGE], Target("acc_demo", "br", test=False)))


@pytest.mark.parametrize("through", [connect_celery, connect_channel])
@pytest.mark.parametrize(("scheme", "greeting"), [("amqps", b"AMQP"), ("rediss", b"*")])
def test_message_broker_without_certificate_for_its_name_is_refused(
    scheme: str, greeting: bytes, through: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))
    own, other = Listener(authority, "127.0.0.1"), Listener(authority, "127.0.0.2")
    for listener in (own, other):
        with listener.listening(), pytest.raises(Exception):  # noqa: B017, PT011 - the server closes the connection in either case
            through(f"{scheme}://user:password@127.0.0.1:{listener.port}/")
    assert own.received
    assert all(each.startswith(greeting) for each in own.received)
    assert other.received == []
