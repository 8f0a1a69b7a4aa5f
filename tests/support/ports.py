"""Free ports of this machine, and which process listens on a port."""

import contextlib
import secrets
import socket

import psutil

LOOPBACK = "127.0.0.1"

#: Below Linux's range for outgoing connections: a killed server's port is still free when it starts again.
FIRST_PORT, PORTS = 20_000, 12_000

#: Ports that `free_port` returned: the caller may not listen yet, or not at the moment.
_given: set[int] = set()


def free_port() -> int:
    """Return a loopback port on which no process listens now; each call returns another one.

    It is random and independent of the tests' seed, so that two runs differ.
    """
    while True:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            if port not in _given:
                _given.add(port)
                return port


def accepts(port: int) -> bool:
    """Return whether a process accepts a connection on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def listens(pid: int, port: int) -> bool:
    """Return whether this process, and not another one, holds the listening socket of a port."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
