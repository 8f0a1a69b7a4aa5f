"""Addresses that are reached from their own machine alone."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

LOOPBACK: Final = "127.0.0.1"


def is_loopback(host: str | None) -> bool:
    """Whether a host, by name or address, is reached from its own machine alone."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
