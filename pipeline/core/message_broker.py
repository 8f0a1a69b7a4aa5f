"""Connections to the message broker: AMQP to checked addresses, others by `memory_transport` and `redis_transport`.

These three files have all uses of the private parts of kombu and amqp. `config.celery_internals` is the same for Celery, which
`core` must not know.

Each part names the upstream bug. A test in `tests/core/test_message_broker.py` fails when the library has fixed it.
"""

from typing import Any, Final

from amqp.transport import SSLTransport, TCPTransport
from httpcore import ConnectError, ConnectTimeout
from kombu import Connection
from kombu.transport import pyamqp
from kombu.transport.base import Transport

from config.queues import tls_options, transport_options
from config.settings import Settings
from pipeline.core.memory_transport import MemoryTransport
from pipeline.core.outbound import resolve_allowed

_CONNECT_SECONDS: Final = 2.0


class ForbiddenMessageBroker(ConnectionError):
    """The message broker's name cannot be resolved, or resolves to a forbidden address."""


class _GuardedConnect:
    """Resolves the name once and connects to one of its allowed addresses; TLS still checks the name.

    Bug: amqp resolves and connects in one private method. It has no hook for a check of the address, and a check before
    would not help: the second look-up may return another address. No issue of py-amqp asks for one.
    """

    def _connect(self, host: str, port: int, timeout: float | None) -> None:
        failure: OSError = ForbiddenMessageBroker(f"{host} has no address")
        try:
            # The operator configures this host, so a private address is allowed.
            addresses = resolve_allowed(host, port, timeout or _CONNECT_SECONDS, private=True)
        except (ConnectError, ConnectTimeout, UnicodeError) as error:
            raise ForbiddenMessageBroker(f"{host}: {error}") from error
        for address in addresses:
            try:
                super()._connect(address, port, timeout)  # type: ignore[misc]
            except OSError as error:
                failure = error
            else:
                return
        raise failure


class _PlainTransport(_GuardedConnect, TCPTransport):  # type: ignore[misc]
    """AMQP without TLS."""


class _SecuredTransport(_GuardedConnect, SSLTransport):  # type: ignore[misc]
    """AMQP over TLS."""


class _Amqp(pyamqp.Connection):
    """An AMQP connection over the guarded transports."""

    def Transport(  # noqa: N802 - the library's name
        self,
        host: str,
        connect_timeout: float | None,
        ssl: Any = False,  # noqa: FBT002 - the library's signature
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        **options: Any,
    ) -> TCPTransport | SSLTransport:
        kind = _SecuredTransport if ssl else _PlainTransport
        return kind(
            host,
            connect_timeout=connect_timeout,
            ssl=ssl,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            **options,
        )


class _GuardedTransport(pyamqp.Transport):
    """Kombu's transport to RabbitMQ, over a guarded connection."""

    Connection = _Amqp


def make_connection(settings: Settings, *, producer_only: bool = False, **options: Any) -> Connection:
    """Return a connection to the message broker, not yet open. `options` are additional transport options."""
    return Connection(
        settings.broker_url.get_secret_value(),
        connect_timeout=_CONNECT_SECONDS,
        transport_options=transport_options(settings, producer_only=producer_only) | options,
        ssl=tls_options(settings),
        transport=find_transport(settings.message_broker),
    )


def find_transport(message_broker: str) -> type[Transport]:
    """Return the replacement of kombu's transport to that kind of message broker, imported at the first call."""
    if message_broker == "redis":
        from pipeline.core.redis_transport import RedisTransport  # noqa: PLC0415 - redis takes long to import

        return RedisTransport
    return {"amqp": _GuardedTransport, "memory": MemoryTransport}[message_broker]
