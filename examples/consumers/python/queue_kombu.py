"""A warehouse at its queue on RabbitMQ or Redis: does the work of each message once, and acknowledges it after that.

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
#: What RabbitMQ needs to keep the queue on several machines, and to put aside what was rejected; Redis leaves it alone.
ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 10, "x-dead-letter-exchange": "exports.dead"}


class Warehouse(ConsumerProducerMixin):
    """Reads one queue; a connection that breaks is made again."""

    def __init__(self, connection: Connection, queue: Queue, store: sqlite3.Connection) -> None:
        self.connection = connection
        self._queue = queue
        self._store = store

    def get_consumers(self, consumer: type[Consumer], channel: Any) -> list[Consumer]:
        """Read the queue, holding ten messages at most."""
        return [consumer([self._queue], on_message=self.take, prefetch_count=10)]

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        """Say that messages are taken from now on."""
        print("ready", flush=True)

    def take(self, message: Message) -> None:
        """Do the work, then say that it is done: what is not acknowledged comes again."""
        try:
            line = keep(self._store, json.loads(message.body))
        except (ValueError, KeyError, TypeError):
            self.put_aside(message)
            return
        if line:
            print(line, flush=True)
        message.ack()

    def put_aside(self, message: Message) -> None:
        """Put what cannot be read among the dead letters, so that it does not come for ever."""
        print("put aside a message that cannot be read", file=sys.stderr, flush=True)
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
    """Read until told to end."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url", help="the message broker: amqp://, amqps://, redis:// or rediss://")
    options.add_argument("--queue", default="exports.warehouse")
    options.add_argument("--bind", help="makes the queue if need be, and binds it with this key")
    options.add_argument("--store", default="warehouse.db")
    options.add_argument(
        "--hold-seconds", type=float, default=60, help="Redis: when what a dead reader held comes back"
    )
    given = options.parse_args()
    queue = Queue(given.queue, no_declare=True)
    if given.bind:
        queue = Queue(given.queue, EXCHANGE, routing_key=given.bind, durable=True, queue_arguments=ARGUMENTS)
    held = {"visibility_timeout": given.hold_seconds, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    # Kombu keeps what readers hold in one place for all queues: with places of its own, nobody else gives back or strikes out
    # what a reader of this queue holds.
    held |= {f"{place}_key": f"{place}.{given.queue}" for place in ("unacked", "unacked_index", "unacked_mutex")}
    # Without a word about it, the certificate of amqps:// would be checked, but not the name that it is for.
    secured = {"ssl": {"server_hostname": None}} if given.url.startswith("amqps:") else {}
    with Connection(given.url, transport_options=held if "redis" in given.url[:6] else {}, **secured) as connection:
        warehouse = Warehouse(connection, queue, opened(given.store))
        signal.signal(signal.SIGTERM, lambda *_: setattr(warehouse, "should_stop", True))
        warehouse.run()


if __name__ == "__main__":
    main()
