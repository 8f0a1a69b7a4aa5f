"""The queues of the contract: one topic exchange, persistent messages, confirmed where the message broker can."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from kombu import Connection, Producer
from kombu.exceptions import KombuError, OperationalError
from kombu.pools import producers

from config import queues
from config.settings import Settings
from pipeline.channels.channel import OutgoingMessage, Receipt, Target
from pipeline.errors import ChannelUnavailable

PERSISTENT = 2
CONTENT_TYPE = "application/cloudevents+json"

#: Once more at once and over a new connection: the one from the pool may have died since it was last used.
_ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class QueueChannel:
    """Publishes to the topic exchange through the process's one pool of producers."""

    def __init__(self, settings: Settings) -> None:
        self._amqp = settings.message_broker == "amqp"
        self._seconds = settings.delivery_timeout_seconds
        self._queues = queues.contract_queues(settings)
        self._declared: set[int] = set()
        self._lock = threading.Lock()
        self._connection = Connection(
            settings.broker_url.get_secret_value(),
            connect_timeout=2,
            transport_options=queues.transport_options(settings, producer_only=True),
        )

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[Receipt]:
        """Send the messages in order; see Channel. On RabbitMQ each is confirmed and must have reached a queue."""
        foreign = (*self._connection.connection_errors, *self._connection.channel_errors, KombuError, OSError)
        try:
            with producers[self._connection].acquire(block=True, timeout=self._seconds) as producer:
                yield from self._publish(producer, messages, foreign)
        except foreign as error:
            cause = error.__cause__ if isinstance(error, OperationalError) and error.__cause__ else error
            raise ChannelUnavailable(
                f"the message broker did not take it: {type(cause).__name__}", status=type(cause).__name__
            ) from error

    def _publish(
        self, producer: Producer, messages: Sequence[OutgoingMessage], foreign: tuple[type[BaseException], ...]
    ) -> Iterator[Receipt]:
        try:
            self._declare(producer)
            for message in messages:
                producer.publish(
                    message.body,
                    exchange=queues.exchange,
                    # On Redis that it is a topic exchange is known to a connection alone, and forgotten with it.
                    declare=[queues.exchange],
                    routing_key=message.routing_key,
                    delivery_mode=PERSISTENT,
                    content_type=CONTENT_TYPE,
                    content_encoding="utf-8",
                    message_id=message.id,
                    type=message.type,
                    mandatory=self._amqp,
                    retry=True,
                    retry_policy=_ONCE_MORE,
                    timeout=self._seconds,
                    confirm_timeout=self._seconds,
                )
                yield Receipt("confirmed" if self._amqp else "published")
        except foreign:
            # Its state is unknown: a confirm may still be under way on it. The next send opens another.
            connection: Any = producer.connection
            if connection is not None:
                connection.collapse()
            raise

    def _declare(self, producer: Producer) -> None:
        """Declare the queues: once a connection on RabbitMQ, elsewhere again whenever they were lost in a flush.

        Redis and the in-process transport drop a message without a word when no queue is bound.
        """
        channel: Any = producer.channel
        if self._amqp:
            lost = False
        else:
            with self._lock:
                bound = {row[2] for row in _bindings(channel)}
            lost = not {queue.name for queue in self._queues} <= bound
        if lost:
            producer.connection.declared_entities.clear()
        if lost or self._amqp:
            for queue in self._queues:
                producer.maybe_declare(queue)


def _bindings(channel: Any) -> list[tuple[str, str, str]]:
    try:
        return list(channel.get_table(queues.EXCHANGE_NAME))
    except KeyError:
        return []
