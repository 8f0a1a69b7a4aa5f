"""The queue channel: one topic exchange, persistent messages, confirmed if the message broker supports it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from amqp.exceptions import MessageNacked
from kombu import Producer
from kombu.exceptions import KombuError, OperationalError
from kombu.pools import producers

from config import queues
from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.message_broker import make_connection
from pipeline.deliveries.channels import queue_durability
from pipeline.deliveries.channels.protocol import (
    ChannelFactory,
    DeliveryReceipt,
    OutgoingMessage,
    Stage,
    StageFailed,
    run_stages,
)

PERSISTENT = 2
CONTENT_TYPE = "application/cloudevents+json"

#: Connect once. The retry schedule decides on retries; kombu would retry for ever by default.
_CONNECT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}

#: A dead pooled connection fails sooner than this, so one retry is useful. A hanging one would hang again.
_AT_ONCE_SECONDS = 0.4


class QueueChannel:
    """Publishes to the topic exchange through the process's pool of producers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded = settings.embedded
        self._amqp = settings.message_broker == "amqp"
        self._seconds = settings.delivery_timeout_seconds
        self._queues = queues.contract_queues(settings)
        self._connection = make_connection(settings, producer_only=True, **_CONNECT_ONCE)
        self._foreign = (
            *self._connection.connection_errors,
            *self._connection.channel_errors,
            KombuError,
            MessageNacked,  # has no common base class; a full queue raises it
            OSError,
        )

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order. See Channel. RabbitMQ must confirm each one and route it to a queue."""
        began = time.monotonic()
        sent = 0
        while True:
            try:
                for receipt in self._publish(messages[sent:], target.check_lease):
                    sent += 1
                    yield receipt
            except self._foreign as error:
                if sent or time.monotonic() - began > _AT_ONCE_SECONDS:
                    raise _to_unavailable(error) from error
                began = -math.inf
            else:
                return

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Run the stages of a connection test. See Channel. The last proves that a queue gets the target's messages."""

        def connect() -> str:
            with self._connection.clone() as opened:
                opened.ensure_connection(**_CONNECT_ONCE, timeout=self._seconds)
            return "it is in this process" if self._embedded else "it answers"

        def declare() -> str:
            self._declare_within(self._seconds)
            return f"the exchange {queues.EXCHANGE_NAME} and its queues exist"

        def event() -> str:
            (receipt,) = self.send([message], target)
            return f"{receipt.status} with the routing key {message.routing_key}; it is in {self._find_queues(message)}"

        stages = [
            ("connect", self._with_remedy(connect)),
            ("declare", self._with_remedy(declare)),
            ("test event", event),
        ]
        if self._settings.message_broker == "redis":
            stages.insert(2, ("keep", self._check_durability))
        yield from run_stages(stages)

    def _check_durability(self) -> str:
        kept = queue_durability.check_durability(self._settings)
        if kept.danger is not None:
            raise StageFailed(kept.danger, queue_durability.REMEDY)
        return kept.found

    def declare(self, *, timeout_seconds: float) -> None:
        """Declare the queues of the contract if they do not exist. Raises ChannelUnavailable.

        `timeout_seconds` limits the wait for a free connection.
        """
        try:
            self._declare_within(timeout_seconds)
        except self._foreign as error:
            raise _to_unavailable(error) from error

    def _declare_within(self, timeout_seconds: float) -> None:
        with producers[self._connection].acquire(block=True, timeout=timeout_seconds) as producer:
            try:
                self._declare(producer)
            except self._foreign:
                _discard_connection(producer)
                raise

    def _with_remedy(self, stage: Callable[[], str]) -> Callable[[], str]:
        def checked() -> str:
            try:
                return stage()
            except self._foreign as error:
                raise StageFailed(
                    str(_to_unavailable(error)), "start the message broker, or correct BROKER_URL"
                ) from error

        return checked

    def _find_queues(self, message: OutgoingMessage) -> str:
        names = [
            name
            for name, keys in queues.BINDINGS.items()
            if any(_binding_matches(key, message.routing_key) for key in keys)
        ]
        if not names:
            raise StageFailed(
                f"no queue is bound to {message.routing_key}",
                f"bind one with it to the exchange {queues.EXCHANGE_NAME}",
            )
        return ", ".join(names)

    def _publish(
        self, messages: Sequence[OutgoingMessage], check_lease: Callable[[], None]
    ) -> Iterator[DeliveryReceipt]:
        with producers[self._connection].acquire(block=True, timeout=self._seconds) as producer:
            try:
                self._declare(producer)
                for message in messages:
                    check_lease()
                    producer.publish(
                        message.body,
                        exchange=queues.exchange,
                        # On Redis only the connection knows that this is a topic exchange: each one declares it.
                        declare=[queues.exchange],
                        routing_key=message.routing_key,
                        delivery_mode=PERSISTENT,
                        content_type=CONTENT_TYPE,
                        content_encoding="utf-8",
                        message_id=message.id,
                        type=message.type,
                        mandatory=self._amqp,
                        retry=False,
                        timeout=self._seconds,
                        confirm_timeout=self._seconds,
                    )
                    yield DeliveryReceipt("confirmed" if self._amqp else "published")
            except self._foreign:
                _discard_connection(producer)
                raise

    def _declare(self, producer: Producer) -> None:
        """Declare the queues: once per connection on RabbitMQ; elsewhere whenever they are missing, e.g. after a flush.

        Redis and the in-process transport silently drop a message if no queue is bound.
        """
        channel: Any = producer.channel
        if self._amqp:
            for queue in self._queues:
                producer.maybe_declare(queue)
            return
        bound = {row[2] for row in _list_bindings(channel)}
        if not {queue.name for queue in self._queues} <= bound:
            for queue in self._queues:
                queue.bind(channel).declare()


CHANNEL: Final[ChannelFactory] = QueueChannel


def _discard_connection(producer: Producer) -> None:
    # Its state is unknown: a confirm may be outstanding. Close it without the protocol's goodbye, because a hanging
    # message broker would never answer. The next send opens another connection.
    connection: Any = producer.__connection__
    connection.collect(socket_timeout=0.1)


def _binding_matches(binding: str, routing_key: str) -> bool:
    # The bindings of the contract are whole keys, or a prefix and `#`.
    return routing_key.startswith(binding[:-1]) if binding.endswith(".#") else routing_key == binding


def _list_bindings(channel: Any) -> list[tuple[str, str, str]]:
    try:
        return list(channel.get_table(queues.EXCHANGE_NAME))
    except KeyError:
        return []


def _to_unavailable(error: BaseException) -> ChannelUnavailable:
    cause = error.__cause__ if isinstance(error, OperationalError) and error.__cause__ else error
    name = type(cause).__name__
    return ChannelUnavailable(f"the message broker did not take the message: {name}", status=name)
