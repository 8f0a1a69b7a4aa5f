"""Reading the queues of the contract, as a partner does: for the demo and the doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kombu import Consumer
from kombu.exceptions import KombuError, OperationalError
from kombu.message import Message

from config.queues import contract_queues
from config.settings import Settings
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.message_broker import connection


@dataclass(frozen=True)
class Received:
    """A message as it was read: the queue, the routing key and the CloudEvent."""

    queue: str
    routing_key: str
    event: dict[str, Any]


def read(settings: Settings, names: Sequence[str], *, quiet_seconds: float = 0.2) -> Iterator[Received]:
    """Take every message off the queues `names` and acknowledge it; end once none has come for `quiet_seconds`."""
    received: list[Received] = []

    def take(name: str, body: Any, message: Message) -> None:
        event = json.loads(body) if isinstance(body, str | bytes) else body
        received.append(Received(name, str((message.delivery_info or {}).get("routing_key", "")), event))
        message.ack()

    def consumer(channel: Any, queue: Any) -> Consumer:
        return Consumer(
            channel,
            queues=[queue],
            callbacks=[lambda body, message: take(queue.name, body, message)],
            accept=["application/cloudevents+json", "json"],
        )

    with connection(settings) as opened:
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


def ping(settings: Settings) -> None:
    """Connect to the message broker and away again; raises MessageBrokerDown where it does not answer."""
    try:
        with connection(settings) as opened:
            opened.ensure_connection(max_retries=1, interval_start=0, timeout=2)
    except (KombuError, OperationalError, OSError) as error:
        cause = error.__cause__ or error
        raise MessageBrokerDown(
            f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no answer'}"
        ) from error
