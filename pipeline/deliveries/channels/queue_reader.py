"""Reads a queue for a person: shows messages one by one, and removes them after that or leaves them."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

from kombu import Connection, Queue
from kombu.exceptions import KombuError

from config.queues import BINDINGS, EXCHANGE_NAME, contract_queues, exchange
from config.settings import Settings
from pipeline.core import message_broker
from pipeline.core.errors import MessageBrokerDown, NotFound

POLL_SECONDS: Final = 0.2
_BATCH: Final = 100


@dataclass(frozen=True)
class QueueEntry:
    """A message in a queue, with its exact body. It stays there until `remove` is called."""

    queue: str
    routing_key: str
    body: bytes
    remove: Callable[[], None]

    @cached_property
    def event(self) -> dict[str, Any]:
        """The body as a JSON object, empty if it is not one."""
        with suppress(ValueError):
            if isinstance(found := json.loads(self.body), dict):
                return found
        return {}


@contextmanager
def open_queue(settings: Settings, name: str) -> "Iterator[_RedisReader | _ChannelReader]":
    """Open the queue `name` for reading. Messages that were taken but not removed are back in it at the end.

    Raises NotFound if the queue does not exist. Raises MessageBrokerDown, also inside the block.
    """
    with _open_connection(settings) as connection:
        if settings.message_broker == "redis":
            yield _RedisReader(connection.channel(), name)
        else:
            _ensure_queue(settings, connection, name)
            yield _ChannelReader(connection.channel(), name)


@contextmanager
def browse_queue(settings: Settings, name: str) -> Iterator[Callable[[], Iterator[QueueEntry]]]:
    """Open the queue `name` on Redis for reading without removing. Each call yields its messages, the oldest first.

    RabbitMQ does not support this. There, returned messages change their order, and each return counts as a failed
    delivery: after ten, the message is dead-lettered.
    """
    with _open_connection(settings) as connection:
        yield _RedisReader(connection.channel(), name).browse


@contextmanager
def open_copy_queue(settings: Settings, binding: str) -> "Iterator[_ChannelReader]":
    """Open a RabbitMQ queue that gets a copy of each message published under `binding` until the block ends."""
    with _open_connection(settings) as connection:
        channel: Any = connection.channel()
        own = Queue("", exchange, routing_key=binding, exclusive=True, auto_delete=True, durable=False)(channel)
        own.declare()
        yield _ChannelReader(channel, own.name)


def take_messages(reader: "_RedisReader | _ChannelReader", quiet_seconds: float | None) -> Iterator[QueueEntry]:
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
            return _to_entry(self._name, self._channel.Message(json.loads(raw), channel=self._channel), done)
        except (ValueError, KeyError, TypeError, AttributeError):
            return QueueEntry(self._name, "", raw, done)

    def _is_bound(self) -> bool:
        try:
            return any(row[2] == self._name for row in self._channel.get_table(EXCHANGE_NAME))
        except KeyError:
            return False


class _ChannelReader:
    """A queue of RabbitMQ or of this process. Messages that are not acknowledged return to it when the channel closes."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel, self._name = channel, name

    def take(self) -> QueueEntry | None:
        """Return the oldest message that no consumer holds, or None."""
        message = self._channel.basic_get(self._name, no_ack=False)
        if message is None:
            return None
        return _to_entry(self._name, message, partial(self._channel.basic_ack, message.delivery_tag))


def _to_entry(name: str, message: Any, remove: Callable[[], None]) -> QueueEntry:
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    return QueueEntry(name, str((message.delivery_info or {}).get("routing_key", "")), body, remove)


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


def drain_queues(settings: Settings, names: Sequence[str]) -> Iterator[QueueEntry]:
    """Remove and yield each message of the queues `names`."""
    for name in names:
        with open_queue(settings, name) as reader:
            while entry := reader.take():
                entry.remove()
                yield entry


def count_messages(settings: Settings, names: Sequence[str]) -> Mapping[str, int]:
    """Return how many messages wait in each queue; a queue that does not exist has none. Raises MessageBrokerDown."""
    counts = dict.fromkeys(names, 0)
    with _open_connection(settings) as connection:
        channel: Any = connection.channel()
        for name in names:
            try:
                counts[name] = channel.queue_declare(name, passive=True).message_count
            except connection.channel_errors:
                channel = connection.channel()  # RabbitMQ has closed the other one
    return counts


def check_connection(settings: Settings) -> None:
    """Connect to the message broker and close again. Raises MessageBrokerDown if it does not answer."""
    with _open_connection(settings):
        pass
