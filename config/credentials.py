"""Credentials that everybody knows: what servers ship with, and what manuals write down."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", None, ""})

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


def asks_for_none(url: str) -> bool:
    """Tell whether a Redis that other machines reach takes whoever comes."""
    parts = urlsplit(url)
    return parts.scheme in ("redis", "rediss") and parts.hostname not in _LOOPBACK and not parts.password


def everybody_knows(url: str) -> str | None:
    """Return what is wrong with the credentials of `url`, in words; None where nothing is, or only this machine is asked.

    RabbitMQ's `guest` is what an AMQP address without a user means.
    """
    parts = urlsplit(url)
    if parts.hostname in _LOOPBACK:
        return None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme in ("amqp", "amqps") and user in ("", "guest"):
        return "signs in as guest, which every RabbitMQ has"
    if password and {password, password.lower()} & (_KNOWN_PASSWORDS | {user}):
        return f"signs in as {user or 'the default user'} with a password that everybody knows"
    return None
