"""Weak credentials: defaults of servers, passwords of manuals, and none at all."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

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


def find_weak_key(public: SecretStr, named: Iterable[tuple[str, SecretStr]], characters: int) -> str | None:
    """Return the first setting whose secret key is public or has fewer characters, and why; None if there is none."""
    for name, key in named:
        if key == public:
            return f"{name} is the public key for development"
        if len(key) < characters:
            return f"{name} has only {len(key)} characters, which can be guessed"
    return None


def find_weakness(url: str) -> str | None:
    """Return the weakness of the credentials in `url`; None if there is none, or if the server is on this machine.

    An AMQP address without a user means RabbitMQ's `guest`. A message broker needs a password, or a certificate of the
    service (`?ssl_certfile=`). PostgreSQL may need neither: its address does not show how it authenticates.
    """
    # A message broker may have several addresses; the service may sign in to each of them.
    each = [url] if url.startswith("postgres") else url.split(";")
    return next((wrong for wrong in map(_weakness, each) if wrong), None)


def _weakness(url: str) -> str | None:
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    host, user, password = parts.hostname, unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme.startswith("postgres"):
        # The query overrides the rest, as in libpq; a host that is a path is a socket of this machine.
        host = ",".join(asked.get("host", []) + asked.get("hostaddr", [])) or host
        host = "" if host is not None and host.startswith("/") else host
        user, password = asked.get("user", [user])[-1], asked.get("password", [password])[-1]
    if not host or is_loopback(host):
        return None
    if password and {password, password.lower()} & (_KNOWN_PASSWORDS | {user}):
        return f"signs in as {user or 'the default user'} with a well-known password"
    if parts.scheme in ("amqps", "rediss") and "ssl_certfile" in asked:
        return None
    if parts.scheme in ("amqp", "amqps") and user in ("", "guest"):
        return "signs in as guest, a user that every RabbitMQ has"
    if parts.scheme in ("amqp", "amqps", "redis", "rediss") and not password:
        return "signs in without a password, so any program that reaches it can execute exports"
    return None
