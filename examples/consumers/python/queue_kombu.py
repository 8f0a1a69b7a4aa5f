"""A warehouse's reader of a queue on RabbitMQ or Redis: does each message's work once, then acknowledges it.

python queue_kombu.py amqp://user:password@mq.example// --queue wh_123 --bind 'warehouse.wh_123.#'
"""

import argparse
import json
import signal
import sqlite3
import sys
from typing import Any

from kombu import Connection, Consumer, Exchange, Message, Queue
from kombu.mixins import ConsumerProducerMixin
from store import keep, opened

EXCHANGE = Exchange("exports", type="topic", durable=True)
#: For RabbitMQ: a queue on several machines, and a queue for rejected messages. Redis ignores them.
ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 10, "x-dead-letter-exchange": "exports.dead"}


class Warehouse(ConsumerProducerMixin):
    """Reads one queue; a broken connection is opened again."""

    def __init__(self, connection: Connection, queue: Queue, store: sqlite3.Connection) -> None:
        self.connection = connection
        self._queue = queue
        self._store = store

    def get_consumers(self, consumer: type[Consumer], channel: Any) -> list[Consumer]:
        """Read the queue and hold at most ten messages."""
        return [consumer([self._queue], on_message=self.take, prefetch_count=10)]

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        """Print that reading has begun."""
        print("ready", flush=True)

    def take(self, message: Message) -> None:
        """Do the work, then acknowledge: the broker delivers an unacknowledged message again."""
        try:
            line = keep(self._store, json.loads(message.body))
        except (ValueError, KeyError, TypeError):
            self.reject(message)
            return
        if line:
            print(line, flush=True)
        message.ack()

    def reject(self, message: Message) -> None:
        """Move an unreadable message to the dead letters, so that it is not delivered forever."""
        print("rejected a message that cannot be read", file=sys.stderr, flush=True)
        if self.connection.transport.driver_type == "amqp":
            message.reject()
            return
        self.producer.publish(
            message.body,
            exchange=EXCHANGE,
            declare=[EXCHANGE],
            routing_key="exports.dead",
            content_type=message.content_type,
            content_encoding="utf-8",
        )
        message.ack()


def main() -> None:
    """Read until SIGTERM."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url", help="the message broker: amqp://, amqps://, redis:// or rediss://")
    options.add_argument("--queue", default="exports.warehouse")
    options.add_argument("--bind", help="creates the queue if it is missing, and binds it with this key")
    options.add_argument("--store", default="warehouse.db")
    options.add_argument(
        "--hold-seconds",
        type=float,
        default=60,
        help="Redis: seconds until the messages of a dead reader are delivered again",
    )
    given = options.parse_args()
    queue = Queue(given.queue, no_declare=True)
    if given.bind:
        queue = Queue(given.queue, EXCHANGE, routing_key=given.bind, durable=True, queue_arguments=ARGUMENTS)
    held = {"visibility_timeout": given.hold_seconds, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    # Kombu keeps unacknowledged messages under the same keys for all queues. With keys of its own, readers of other queues
    # can neither release nor delete the messages of this one.
    held |= {f"{name}_key": f"{name}.{given.queue}" for name in ("unacked", "unacked_index", "unacked_mutex")}
    # Without this, the certificate of amqps:// would be checked, but not its host name.
    secured = {"ssl": {"server_hostname": None}} if given.url.startswith("amqps:") else {}
    with Connection(given.url, transport_options=held if "redis" in given.url[:6] else {}, **secured) as connection:
        warehouse = Warehouse(connection, queue, opened(given.store))
        signal.signal(signal.SIGTERM, lambda *_: setattr(warehouse, "should_stop", True))
        warehouse.run()


if __name__ == "__main__":
    main()
