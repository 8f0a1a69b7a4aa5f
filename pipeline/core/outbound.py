"""Which addresses partners may be reached at: judged on the address that is connected to, not on the name."""

from __future__ import annotations

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
#: All that is handed out of IPv6 for addresses on the internet; the rest is local, reserved or obsolete.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
#: Blocks that this Python's own tables may call global: carriers of an IPv4 address to wherever it leads (6to4 and its
#: relays, Teredo), protocol assignments, documentation.
_FORBIDDEN = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/32",
        "2002::/16",
        "3fff::/20",
        # Where clouds answer their own machines, with credentials among the rest, outside of link-local: Alibaba's, Azure's,
        # Amazon's, Google's, Oracle's, Scaleway's, Akamai's, and Alibaba's once more. Azure's would pass for public, the
        # others for private addresses.
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

#: What one's own network is made of. Link-local is not: there a cloud's machines find their credentials.
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
    """The name leads to an address inside somebody's own network, or where no partner is, or to a port of another trade."""


def is_public(address: str) -> bool:
    """Tell whether `address` is one that any stranger on the internet could reach."""
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
    """Tell whether `address` is one of a machine's own or of its network, as they are used on purpose."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip in _MAPPED and ip.ipv4_mapped is not None:
        return is_private(str(ip.ipv4_mapped))
    return any(ip in block for block in _PRIVATE) and not any(ip in block for block in _FORBIDDEN)


@cache
def trusted_certificates() -> ssl.SSLContext:
    """Return the TLS settings of every outgoing connection, loaded once: loading costs more than a request."""
    return ssl.create_default_context()


class GuardedNetwork(NetworkBackend):
    """The network as one delivery sees it: public addresses and `ports` only, with `private` one's own too; and a deadline.

    A name is looked up once and every answer judged; the connection goes to a judged address, so that a second, different
    answer is never asked for. TLS still checks the name. Not for use by two threads at once.
    """

    def __init__(self, *, private: bool, ports: Collection[int] = ()) -> None:
        self._private = private
        self._ports = ports
        self._inner = httpcore.SyncBackend()
        self._deadline = 0.0
        self._reached: str | None = None

    @property
    def is_internal(self) -> bool:
        """Whether the address that was connected to last is none of the internet."""
        return self._reached is not None and not is_public(self._reached)

    def start_deadline(self, seconds: float) -> None:
        """Give everything from now on `seconds` in total, however many reads it takes."""
        self._deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left.

        Raises ReadTimeout where none is.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ReadTimeout("the time for the whole delivery is over")
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Connect to a judged address of `host`."""
        addresses = resolve_allowed(host, port, self.remaining(), private=self._private, ports=self._ports)
        stream = self._inner.connect_tcp(addresses[0], port, self.remaining(), local_address, socket_options)
        self._reached = addresses[0]
        return _DeadlineStream(stream, self)


class _DeadlineStream(NetworkStream):
    """A stream whose every operation gets only what is left of the deadline."""

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
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, self._network.remaining())
        return _DeadlineStream(secured, self._network)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def resolve_allowed(host: str, port: int, seconds: float, *, private: bool, ports: Collection[int] = ()) -> list[str]:
    """Look `host` up once, within `seconds`, and return its addresses, all of which may be connected to.

    `private` allows private addresses beside public ones, and any port; else only `ports` are, if there are any.
    Link-local, multicast and reserved addresses are never allowed, nor those of a cloud's metadata. Raises ForbiddenDestination, ConnectError where there
    is no address, ConnectTimeout.
    """
    addresses = _look_up(host, port, seconds)
    if not private and not all(is_public(address) for address in addresses):
        raise ForbiddenDestination("the address leads into a private network")
    if not all(is_public(address) or is_private(address) for address in addresses):
        raise ForbiddenDestination(
            "the address is one where nobody is reached: link-local, multicast, reserved or a cloud's own"
        )
    if ports and not private and port not in ports:
        raise ForbiddenDestination(f"partners are not reached at port {port}; allowed are {format_ports(ports)}")
    return addresses


def format_ports(ports: Collection[int]) -> str:
    """Return the ports as a sentence has them."""
    return ", ".join(str(port) for port in sorted(ports))


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    # The resolver knows no timeout of its own, so it is asked in a thread that may be left behind.
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
        raise ConnectError("the name is not known") from failed[0]
    if not found:
        raise ConnectTimeout("the name was not looked up in time")
    return found
