"""The addresses at which partners may be reached. The check is on the connected address, not on the name."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterable
from functools import cache

import httpcore
from httpcore import SOCKET_OPTION, ConnectError, ConnectTimeout, NetworkBackend, NetworkStream, ReadTimeout

_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
#: The IPv6 block of all internet addresses; the rest is local, reserved or obsolete.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
#: Blocks that Python's tables may call global: those that carry an IPv4 address (6to4 and its relays, Teredo), protocol
#: assignments, documentation.
_FORBIDDEN = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/32",
        "2002::/16",
        "3fff::/20",
        # Metadata services of clouds outside of link-local; they give a machine its credentials. In order: Alibaba, Azure,
        # Amazon, Google, Oracle, Scaleway, Akamai, Alibaba again. Azure's address looks public, the others look private.
        "100.100.100.200/32",
        "168.63.129.16/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "fd00:c1::a9fe:a9fe/128",
        "fd00:42::42/128",
        "fd00:a9fe:a9fe::1/128",
        "fd00:100::100:200/128",
    )
)

#: Addresses of private networks. Link-local is left out: there a cloud's machines get their credentials.
_PRIVATE = tuple(
    ipaddress.ip_network(block)
    for block in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)


class ForbiddenDestination(ConnectError):
    """The name resolves to a private or reserved address, or the port is not allowed for partners."""


def describe_address(host: str, address: str) -> str:
    """Return a sentence for a person: the allowed address of the host, and who can reach it."""
    kind = "a public address" if is_public(address) else "a private address, which the settings allow"
    return f"{address} is {kind}" if address == host else f"{host} is {address}, {kind}"


def is_public(address: str) -> bool:
    """Return whether `address` can be reached by anyone on the internet."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _MAPPED and ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip not in _GLOBAL_UNICAST:
            return False
    if any(ip in block for block in _FORBIDDEN):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_private(address: str) -> bool:
    """Return whether `address` is a loopback address or one of a private network."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip in _MAPPED and ip.ipv4_mapped is not None:
        return is_private(str(ip.ipv4_mapped))
    return any(ip in block for block in _PRIVATE) and not any(ip in block for block in _FORBIDDEN)


@cache
def trusted_certificates() -> ssl.SSLContext:
    """Return the TLS settings of every outgoing connection. They are loaded once: loading costs more than a request."""
    return ssl.create_default_context()


class GuardedNetwork(NetworkBackend):
    """The network for one delivery: only public addresses and `ports`, and one deadline for all operations.

    `private` also allows private addresses and every port. A name is resolved once and every address is checked. The
    connection uses a checked address, so that a second lookup cannot give another one. TLS still checks the name. Do not
    use an instance in two threads at once.
    """

    def __init__(self, *, private: bool, ports: Collection[int] = ()) -> None:
        self._private = private
        self._ports = ports
        self._inner = httpcore.SyncBackend()
        self._deadline = 0.0
        self._reached: str | None = None

    @property
    def is_internal(self) -> bool:
        """Whether the last connected address is not a public one."""
        return self._reached is not None and not is_public(self._reached)

    def start_deadline(self, seconds: float) -> None:
        """Set the deadline of all following operations together to `seconds` from now."""
        self._deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left.

        Raises ReadTimeout if none are left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ReadTimeout("the delivery took longer than its timeout")
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Connect to a checked address of `host`. Raises ForbiddenDestination, ConnectError, ConnectTimeout."""
        addresses = resolve_allowed(host, port, self.remaining(), private=self._private, ports=self._ports)
        stream = self._inner.connect_tcp(addresses[0], port, self.remaining(), local_address, socket_options)
        self._reached = addresses[0]
        return _DeadlineStream(stream, self)


class _DeadlineStream(NetworkStream):
    """A stream that gives every operation only the time left until the deadline."""

    def __init__(self, inner: NetworkStream, network: GuardedNetwork) -> None:
        self._inner = inner
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._network.remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._network.remaining())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, self._network.remaining())
        return _DeadlineStream(secured, self._network)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def resolve_allowed(host: str, port: int, seconds: float, *, private: bool, ports: Collection[int] = ()) -> list[str]:
    """Resolve `host` once, within `seconds`, and return its addresses; all of them are allowed.

    `private` also allows private addresses and every port; otherwise only `ports` are allowed, if it is not empty.
    Link-local, multicast and reserved addresses are never allowed, nor those of a cloud's metadata service.
    Raises ForbiddenDestination, ConnectError if the name has no address, ConnectTimeout.
    """
    addresses = _look_up(host, port, seconds)
    if not private and not all(is_public(address) for address in addresses):
        raise ForbiddenDestination("the address is in a private network")
    if not all(is_public(address) or is_private(address) for address in addresses):
        raise ForbiddenDestination(
            "the address is not allowed: it is link-local, multicast, reserved or a cloud's metadata service"
        )
    if ports and not private and port not in ports:
        raise ForbiddenDestination(f"port {port} is not allowed for partners; use one of {format_ports(ports)}")
    return addresses


def format_ports(ports: Collection[int]) -> str:
    """Return the ports as a sorted list for a sentence."""
    return ", ".join(str(port) for port in sorted(ports))


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    # The resolver has no timeout, so it runs in a thread that is abandoned if it takes too long.
    found: list[str] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            failed.append(error)
        else:
            found.extend(dict.fromkeys(str(answer[4][0]) for answer in answers))

    thread = threading.Thread(target=ask, name="look-up", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise ConnectError("the name cannot be resolved") from failed[0]
    if not found:
        raise ConnectTimeout("the name was not resolved in time")
    return found
