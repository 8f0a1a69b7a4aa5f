"""Connections to the message broker: over AMQP to an address that was judged, and the certificate checked for its name."""

from __future__ import annotations

from typing import Any, Final

from amqp.transport import SSLTransport, TCPTransport
from httpcore import ConnectError, ConnectTimeout
from kombu import Connection
from kombu.transport import pyamqp

from config.queues import tls_options, transport_options
from config.settings import Settings
from pipeline.channels.destination import judged

_CONNECT_SECONDS: Final = 2.0


class ForbiddenMessageBroker(ConnectionError):
    """The message broker's name is not known, or leads where nobody is reached."""


class _Judged:
    """Looks the name up once, and connects to an address of it that may be; what comes after still knows the name."""

    def _connect(self, host: str, port: int, timeout: float | None) -> None:
        failure: OSError = ForbiddenMessageBroker(f"{host} has no address")
        try:
            # It is the installation's own setting, so that it may be a private address.
            addresses = judged(host, port, timeout or _CONNECT_SECONDS, private=True)
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


class _PlainTransport(_Judged, TCPTransport):  # type: ignore[misc]
    """AMQP as it is."""


class _SecuredTransport(_Judged, SSLTransport):  # type: ignore[misc]
    """AMQP over TLS."""


class _Amqp(pyamqp.Connection):
    """An AMQP connection that is made by these."""

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


class _JudgedTransport(pyamqp.Transport):
    """Kombu's way to RabbitMQ, over such a connection."""

    Connection = _Amqp


def connection(settings: Settings, *, producer_only: bool = False, **options: Any) -> Connection:
    """Return a connection to the message broker, not open yet; `options` are more transport options."""
    judged_transport = {"transport": _JudgedTransport} if settings.message_broker == "amqp" else {}
    return Connection(
        settings.broker_url.get_secret_value(),
        connect_timeout=_CONNECT_SECONDS,
        transport_options=transport_options(settings, producer_only=producer_only) | options,
        ssl=tls_options(settings),
        **judged_transport,
    )
