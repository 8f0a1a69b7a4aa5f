"""Tests of outgoing addresses: hostile addresses are never connected to, and another library agrees."""

import ipaddress
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from httpcore import ConnectError
from hypothesis import given
from hypothesis import strategies as st
from ssrfguard import Policy
from ssrfguard._registry import Block

from pipeline.accounts import partners
from pipeline.accounts.channels import SftpEndpoint, WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.accounts.schemas import NewPartner
from pipeline.accounts.secrets import generate_secret
from pipeline.core import outbound
from pipeline.core.errors import ChannelUnavailable, ValidationFailed
from pipeline.core.outbound import ForbiddenDestination, is_public, resolve_allowed
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.sftp import SftpChannel
from pipeline.deliveries.channels.webhook import WebhookChannel
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories
from tests.support.tables import table

ORACLE = Policy()

#: Addresses of clouds' metadata services; some are link-local, and the others look private or public.
METADATA = """
169.254.169.254 169.254.170.2 169.254.42.42 100.100.100.200 1684301000 0144.0144.0144.0310 168.63.129.16 192.0.0.192
[::ffff:169.254.169.254] [::ffff:100.100.100.200] [::ffff:168.63.129.16] [::ffff:6464:64c8] [fe80::a9fe:a9fe]
[fd00:ec2::254] [fd00:ec2::23] [fd00:0ec2:0:0:0:0:0:254] [fd20:ce::254] [fd00:c1::a9fe:a9fe] [fd00:42::42] [fd00:a9fe:a9fe::1]
[fd00:100::100:200]
""".split()

#: All known spellings of addresses that partners must not have, as hosts of URLs.
HOSTILE = (
    """
127.0.0.1 127.1 127.0.1 0 0.0.0.0 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.0.0.1. 127.255.255.254
10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1.254 100.64.0.1 100.127.255.255
169.254.169.254 169.254.0.1 0xa9fea9fe 2852039166 0251.0376.0251.0376 169.254.43518
192.0.0.1 192.0.0.8 192.0.0.170 192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 198.19.255.255 192.88.99.1
224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
[::1] [::] [::ffff:127.0.0.1] [::ffff:10.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::ffff:0:127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b::a9fe:a9fe] [64:ff9b:1::1] [2002:7f00:1::1] [2002:a9fe:a9fe::1] [2001:0:7f00:1::1] [2001:db8::1] [3fff::1]
[100::1] [fc00::1] [fd12:3456:789a::1] [fe80::1] [fe80::1%25lo] [fec0::1] [ff02::1] [5f00::1]
localhost
""".split()
    + METADATA
)

#: URLs that are refused before a name is resolved.
MISSPELT = [
    "https://user:pass@hook.example/",
    "https://hook.example@127.0.0.1/",
    "https:///etc/passwd",
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/",
    "ftp://127.0.0.1/",
    "https://hook.example#@127.0.0.1/",
    "https://hook.example\\@127.0.0.1/",
    "https://hook.example /",
    "https://hook.example\n127.0.0.1/",
    "//127.0.0.1/",
    "https://?127.0.0.1",
]


@contextmanager
def forbid_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def connected(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", connected)
    yield


def resolve_to(*addresses: str) -> Any:
    """Return a resolver that gives these addresses for every name."""

    def ask(_: str, port: int, **__: object) -> list[Any]:
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (family[ipaddress.ip_address(each).version], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses
        ]

    return ask


@table("host", HOSTILE)
def test_webhook_to_hostile_host_does_not_connect(
    make_runtime: OpenRuntime, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_runtime(allow_private_destinations=False).settings
    message = OutgoingMessage("msg-1", "exports.package.recorded.v1", "warehouse.wh", b"{}")
    endpoint = WebhookEndpoint(address=f"https://{host}/hook")
    target = Target("acc_demo", "wh_demo", test=False, endpoint=endpoint, secrets=(generate_secret(),))
    with forbid_connections(monkeypatch), pytest.raises(ChannelUnavailable):
        list(WebhookChannel(settings).send([message], target))


@pytest.mark.parametrize("host", METADATA)
def test_cloud_metadata_is_not_reached_if_private_addresses_are_allowed(
    make_runtime: OpenRuntime, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_runtime(allow_private_destinations=True).settings
    message = OutgoingMessage("msg-1", "exports.package.recorded.v1", "warehouse.wh", b"{}")
    target = Target(
        "acc_demo",
        "wh_demo",
        test=False,
        endpoint=WebhookEndpoint(address=f"http://{host}/"),
        secrets=(generate_secret(),),
    )
    with forbid_connections(monkeypatch), pytest.raises(ChannelUnavailable, match="a cloud's metadata service"):
        list(WebhookChannel(settings).send([message], target))
    # A host of the settings may be private, but not a metadata service either.
    with forbid_connections(monkeypatch), pytest.raises(ForbiddenDestination):
        resolve_allowed(host.strip("[]"), 25, 2, private=True)


@pytest.mark.parametrize("address", ["100.100.100.199", "100.100.100.201", "fd00:ec1::254", "fd20:ce::253"])
def test_neighbours_of_cloud_metadata_addresses_are_private(address: str) -> None:
    assert resolve_allowed(address, 25, 2, private=True) == [address]


@table("host", [host for host in HOSTILE if "%" not in host and host != "0"])
def test_sftp_to_hostile_host_does_not_connect(
    make_runtime: OpenRuntime, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_runtime(allow_private_destinations=False).settings
    message = OutgoingMessage("msg-1", "exports.package.recorded.v1", "warehouse.wh", b"{}")
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBCEHQJmvPUDMWr4yMRJ2n5zjd5gdMMUFYs7vb/B1Ssu"
    endpoint = SftpEndpoint.model_validate({"address": f"sftp://user@{host}/", "hostKeys": [key]})
    target = Target("acc_demo", "wh_demo", test=False, endpoint=endpoint, credential="a password")
    with forbid_connections(monkeypatch), pytest.raises(ChannelUnavailable):
        list(SftpChannel(settings).send([message], target))


@pytest.mark.parametrize("address", MISSPELT)
def test_malformed_url_is_refused_at_registration(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        WebhookEndpoint(address=address)


@pytest.mark.parametrize(
    ("address", "expected_text"),
    [
        ("http://hook.example/", "https://"),
        ("https://hook.example:25/", "port 25"),
        ("https://hook.example:6379/", "port 6379"),
        ("https://hook.example:0/", "port 0"),
        ("https://hook.example:99999/", "the port must be a number"),
        ("https://10.0.0.1/", "private network"),
        ("https://[::1]/", "private network"),
    ],
)
def test_forbidden_address_is_refused_at_registration(
    make_runtime: OpenRuntime, address: str, expected_text: str
) -> None:
    runtime = make_runtime(allow_private_destinations=False)
    exports.register(runtime, factories.BROKER, "customs_broker")
    new = {"id": "wh_x", "kind": "warehouse", "name": "A", "channels": [{"channel": "webhook", "address": address}]}
    with pytest.raises(ValidationFailed, match=expected_text) as refused:
        partners.create_partner(runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    assert refused.value.field == "/channels/0/address"
    assert [each.id for each in partners.list_partners(runtime, factories.ACCOUNT)] == [factories.BROKER]


@pytest.mark.parametrize(
    "resolved",
    [("10.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("2606:4700::1111", "::1"), ("::ffff:169.254.169.254",), ("fe80::1",)],
)
def test_name_with_one_forbidden_address_is_refused(resolved: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to(*resolved))
    with pytest.raises(ForbiddenDestination):
        resolve_allowed("hook.example", 443, 2, private=False)


def test_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    expected_text = iter([resolve_to("8.8.8.8"), resolve_to("127.0.0.1")])

    def rebinding(host: str, port: int, **facts: object) -> Any:
        asked.append(host)
        return next(expected_text)(host, port, **facts)

    connected: list[str] = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> None:
        connected.append(address[0])
        raise OSError("no server is at this address")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)
    network = outbound.GuardedNetwork(private=False)
    network.start_deadline(2)
    with pytest.raises(ConnectError):
        network.connect_tcp("rebinding.example", 443)
    assert (asked, connected) == (["rebinding.example"], ["8.8.8.8"])


@pytest.mark.parametrize("port", [1, 25, 53, 80, 111, 2375, 3306, 5432, 5672, 6379, 9200, 11211, 27017, 65535])
def test_forbidden_port_is_refused_unless_private(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to("8.8.8.8"))
    ports = (22, 443)
    with pytest.raises(ForbiddenDestination, match=f"port {port} is not allowed for partners; use one of 22, 443"):
        resolve_allowed("hook.example", port, 2, private=False, ports=ports)
    assert resolve_allowed("hook.example", port, 2, private=True, ports=ports) == ["8.8.8.8"]


def list_block_borders() -> list[str]:
    """Return the first, middle and last addresses of every special block of the oracle, and their neighbours."""
    import ssrfguard._registry as registry  # noqa: PLC0415 - its table has no public name

    found: set[str] = set()
    for value in vars(registry).values():
        for block in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(block, Block):
                continue
            low, high = int(block.network.network_address), int(block.network.broadcast_address)
            kind = type(block.network.network_address)
            for number in (low - 1, low, low + 1, (low + high) // 2, high - 1, high, high + 1):
                if 0 <= number < 1 << kind(0).max_prefixlen:
                    found.add(str(kind(number)))
    assert len(found) > 200
    return sorted(found)


def test_borders_of_special_blocks_are_allowed_only_if_the_oracle_allows_them() -> None:
    assert [each for each in list_block_borders() if is_public(each) and not ORACLE.permits_address(each)] == []


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.ip_addresses(network="2000::/3")))
def test_address_is_public_only_if_the_oracle_allows_it(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert ORACLE.permits_address(address) or not is_public(str(address))


def test_ordinary_addresses_are_public_for_both() -> None:
    chance = random.Random(2026)  # noqa: S311 - a sample, not a secret
    sample = [str(ipaddress.IPv4Address(chance.getrandbits(32))) for _ in range(2000)]
    sample += [str(ipaddress.IPv6Address((0x26 << 120) | chance.getrandbits(120))) for _ in range(2000)]
    permitted = [each for each in sample if ORACLE.permits_address(each)]
    assert len(permitted) > 3000
    assert [each for each in permitted if not is_public(each)] == []
