"""Who listens on which port of this machine."""

from __future__ import annotations

import socket

import psutil


def accepts(port: int) -> bool:
    """Whether anybody accepts a connection on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listens(pid: int, port: int) -> bool:
    """Whether the process itself, not another one, holds the listening socket of a port."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
