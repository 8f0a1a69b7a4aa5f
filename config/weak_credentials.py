"""Credentials that everybody knows: what servers ship with, what manuals write down, and none at all."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from config.network import is_loopback

_KNOWN_PASSWORDS: Final = frozenset(
    {
        "admin",
        "changeme",
        "default",
        "example",
        "exports",
        "guest",
        "password",
        "postgres",
        "rabbitmq",
        "redis",
        "root",
        "secret",
        "test",
    }
)


def find_weakness(url: str) -> str | None:
    """Return what is wrong with the credentials of `url`, in words; None where nothing is, or only this machine is asked.

    RabbitMQ's `guest` is what an AMQP address without a user means. A message broker must ask for a password, or for a
    certificate of the service's own (`?ssl_certfile=`); PostgreSQL may have other ways, which its address does not show.
    """
    # Of a message broker there may be several addresses, and each may be the one that is signed in to.
    each = [url] if url.startswith("postgres") else url.split(";")
    return next((wrong for wrong in map(_weakness, each) if wrong), None)


def _weakness(url: str) -> str | None:
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    host, user, password = parts.hostname, unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme.startswith("postgres"):
        # What the query says wins, as libpq has it; a host that is a path is a socket of this machine.
        host = ",".join(asked.get("host", []) + asked.get("hostaddr", [])) or host
        host = "" if host is not None and host.startswith("/") else host
        user, password = asked.get("user", [user])[-1], asked.get("password", [password])[-1]
    if not host or is_loopback(host):
        return None
    if password and {password, password.lower()} & (_KNOWN_PASSWORDS | {user}):
        return f"signs in as {user or 'the default user'} with a password that everybody knows"
    if parts.scheme in ("amqps", "rediss") and "ssl_certfile" in asked:
        return None
    if parts.scheme in ("amqp", "amqps") and user in ("", "guest"):
        return "signs in as guest, which every RabbitMQ has"
    if parts.scheme in ("amqp", "amqps", "redis", "rediss") and not password:
        return "signs in without a password, so that whoever reaches it can have anything executed"
    return None
