"""Reads a queue for a person: shows messages one by one, and removes them after that or leaves them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from kombu import Connection, Consumer, Queue
from kombu.exceptions import KombuError, OperationalError
from kombu.message import Message

from config.queues import BINDINGS, EXCHANGE_NAME, contract_queues, exchange
from config.settings import Settings
from pipeline.core import message_broker
from pipeline.core.errors import MessageBrokerDown, NotFound
from pipeline.core.message_broker import make_connection

POLL_SECONDS: Final = 0.2
_BATCH: Final = 100


@dataclass(frozen=True)
class QueueEntry:
    """A message in a queue, with its exact body. It stays there until `remove` is called."""

    routing_key: str
    body: bytes
    remove: Callable[[], None]


class QueueReader(Protocol):
    """A queue of one kind of message broker."""

    def take(self) -> QueueEntry | None:
        """Return the oldest message that no consumer holds, or None. The caller removes it."""


@contextmanager
def open_queue(settings: Settings, name: str) -> Iterator[QueueReader]:
    """Open the queue `name` for reading. Messages that were taken but not removed are back in it at the end.

    Raises NotFound if the queue does not exist. Raises MessageBrokerDown, also inside the block.
    """
    with _open_connection(settings) as connection:
        if settings.message_broker == "redis":
            yield _RedisReader(connection.channel(), name)
        else:
            _ensure_queue(settings, connection, name)
            yield _RabbitReader(connection.channel(), name)


@contextmanager
def browse_queue(settings: Settings, name: str) -> Iterator[Callable[[], Iterator[QueueEntry]]]:
    """Open the queue `name` on Redis for reading without removing. Each call yields its messages, the oldest first.

    RabbitMQ does not support this. There, returned messages change their order, and each return counts as a failed
    delivery: after ten, the message is dead-lettered.
    """
    with _open_connection(settings) as connection:
        yield _RedisReader(connection.channel(), name).browse


@contextmanager
def open_copy_queue(settings: Settings, binding: str) -> Iterator[QueueReader]:
    """Open a RabbitMQ queue that gets a copy of each message published under `binding` until the block ends."""
    with _open_connection(settings) as connection:
        channel: Any = connection.channel()
        own = Queue("", exchange, routing_key=binding, exclusive=True, auto_delete=True, durable=False)(channel)
        own.declare()
        yield _RabbitReader(channel, own.name)


def take_messages(reader: QueueReader, quiet_seconds: float | None) -> Iterator[QueueEntry]:
    """Yield the messages as they come. If `quiet_seconds` is given, end when none came for that time."""
    since = time.monotonic()
    while True:
        entry = reader.take()
        if entry is not None:
            yield entry
            since = time.monotonic()
        elif quiet_seconds is not None and time.monotonic() - since >= quiet_seconds:
            return
        else:
            time.sleep(POLL_SECONDS)


def watch_messages(look: Callable[[], Iterator[QueueEntry]]) -> Iterator[QueueEntry]:
    """Yield the messages of a queue repeatedly. The caller skips those that it has seen."""
    while True:
        yield from look()
        time.sleep(POLL_SECONDS)


class _RedisReader:
    """A Redis list of kombu's envelopes, oldest at its right end. Messages are not held; they are removed by value."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel, self._client, self._name = channel, channel.client, name
        if name not in BINDINGS and not self._client.exists(name) and not self._is_bound():
            raise NotFound(f"there is no queue {name}")

    def take(self) -> QueueEntry | None:
        """Return the oldest message."""
        raw = self._client.lindex(self._name, -1)
        return None if raw is None else self._to_entry(raw)

    def browse(self) -> Iterator[QueueEntry]:
        """Yield the messages of the list. If a consumer takes some meanwhile, others may be skipped."""
        seen = 0
        while raws := self._client.lrange(self._name, -seen - _BATCH, -seen - 1):
            yield from (self._to_entry(raw) for raw in reversed(raws))
            seen += _BATCH

    def _to_entry(self, raw: bytes) -> QueueEntry:
        def done() -> None:
            self._client.lrem(self._name, -1, raw)

        try:
            message = self._channel.Message(json.loads(raw), channel=self._channel)
            body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
            return QueueEntry(str((message.delivery_info or {}).get("routing_key", "")), body, done)
        except (ValueError, KeyError, TypeError, AttributeError):
            return QueueEntry("", raw, done)

    def _is_bound(self) -> bool:
        try:
            return any(row[2] == self._name for row in self._channel.get_table(EXCHANGE_NAME))
        except KeyError:
            return False


class _RabbitReader:
    """A RabbitMQ queue, read one by one. Messages that are not acknowledged return to it when the channel closes."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel, self._name = channel, name

    def take(self) -> QueueEntry | None:
        """Return the oldest message that no consumer holds, or None."""
        message = self._channel.basic_get(self._name, no_ack=False)
        return None if message is None else self._to_entry(message)

    def _to_entry(self, message: Any) -> QueueEntry:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        done = partial(self._channel.basic_ack, message.delivery_tag)
        return QueueEntry(str(message.delivery_info.get("routing_key", "")), body, done)


def _ensure_queue(settings: Settings, connection: Connection, name: str) -> None:
    """Raise NotFound if the queue does not exist. Queues of the contract are declared, as the service would do."""
    channel: Any = connection.channel()
    try:
        channel.queue_declare(name, passive=True)
    except connection.channel_errors as error:
        if name not in BINDINGS:
            raise NotFound(f"there is no queue {name}") from error
        for queue in contract_queues(settings):
            queue(connection.default_channel).declare()
    else:
        channel.close()


@contextmanager
def _open_connection(settings: Settings) -> Iterator[Connection]:
    connection = message_broker.make_connection(settings)
    foreign = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            try:
                yield connection
            except KeyboardInterrupt:
                if settings.message_broker == "amqp":
                    # The interrupt may have come in the middle of an answer: close without another request.
                    open_one: Any = connection.connection
                    open_one.collect()
                raise
    except BrokenPipeError:
        # The reader of the output is gone. That is not an error of the message broker.
        raise
    except foreign as error:
        cause = error.__cause__ or error
        reason = str(cause).splitlines()[0] if str(cause) else "no answer"
        raise MessageBrokerDown(f"the message broker does not answer: {type(cause).__name__}: {reason}") from error


@dataclass(frozen=True)
class ReceivedMessage:
    """A received message: the queue, the routing key and the CloudEvent."""

    queue: str
    routing_key: str
    event: dict[str, Any]


def drain_queues(settings: Settings, names: Sequence[str], *, quiet_seconds: float = 0.2) -> Iterator[ReceivedMessage]:
    """Take and acknowledge each message of the queues `names`. End when none came for `quiet_seconds`."""
    received: list[ReceivedMessage] = []

    def take(name: str, body: Any, message: Message) -> None:
        event = json.loads(body) if isinstance(body, str | bytes) else body
        received.append(ReceivedMessage(name, str((message.delivery_info or {}).get("routing_key", "")), event))
        message.ack()

    def consumer(channel: Any, queue: Any) -> Consumer:
        return Consumer(
            channel,
            queues=[queue],
            callbacks=[lambda body, message: take(queue.name, body, message)],
            accept=["application/cloudevents+json", "json"],
        )

    with make_connection(settings) as opened:
        channel = opened.channel()
        consumers = [consumer(channel, queue) for queue in contract_queues(settings) if queue.name in names]
        for each in consumers:
            each.consume()
        with suppress(TimeoutError):
            while True:
                opened.drain_events(timeout=quiet_seconds)
                yield from received
                received.clear()
        yield from received
        for each in consumers:
            each.cancel()


def check_connection(settings: Settings) -> None:
    """Connect to the message broker and close again. Raises MessageBrokerDown if it does not answer."""
    try:
        with make_connection(settings) as opened:
            opened.ensure_connection(max_retries=1, interval_start=0, timeout=2)
    except (KombuError, OperationalError, OSError) as error:
        cause = error.__cause__ or error
        raise MessageBrokerDown(
            f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no answer'}"
        ) from error
