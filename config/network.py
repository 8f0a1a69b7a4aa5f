"""Loopback addresses, which only their own machine can reach."""

from ipaddress import ip_address
from typing import Final

LOOPBACK: Final = "127.0.0.1"


def is_loopback(host: str | None) -> bool:
    """Return whether only the machine itself can reach `host`, a name or an address."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
