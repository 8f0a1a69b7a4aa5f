"""A warehouse's reader of a RabbitMQ queue, with only py-amqp: does each message's work once, then acknowledges it.

python queue_amqp.py amqp://user:password@mq.example// --queue wh_123 --bind 'warehouse.wh_123.#'
"""

import argparse
import json
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
from store import keep, opened

HEARTBEAT_SECONDS = 20
ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 10, "x-dead-letter-exchange": "exports.dead"}
PAUSES = (1, 2, 5, 10, 30)  # seconds before a broken connection is opened again


def connection_to(url: str) -> amqp.Connection:
    """Return a connection to the URL, not open yet."""
    parts = urlsplit(url)
    host, secured = parts.hostname or "localhost", parts.scheme == "amqps"
    return amqp.Connection(
        host=f"{host}:{parts.port or (5671 if secured else 5672)}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        ssl={"server_hostname": host} if secured else False,  # both the certificate and its name are checked
        connect_timeout=10,
        heartbeat=HEARTBEAT_SECONDS,
    )


class Warehouse:
    """Reads one queue; a broken connection is opened again."""

    def __init__(self, url: str, queue: str, bind: str | None, store: sqlite3.Connection) -> None:
        self._url = url
        self._queue = queue
        self._bind = bind
        self._store = store

    def run(self) -> None:
        """Read forever; a broken connection is opened again after a pause that grows with each failure."""
        failures = 0
        while True:
            try:
                with connection_to(self._url) as connection:
                    self._consume(connection.channel())
                    failures = 0
                    self._listen(connection)
            except (OSError, amqp.AMQPError) as error:
                print(f"the connection broke: {error}", file=sys.stderr, flush=True)
                time.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1

    def _consume(self, channel: amqp.Channel) -> None:
        if self._bind:
            channel.queue_declare(self._queue, durable=True, auto_delete=False, arguments=ARGUMENTS)
            channel.queue_bind(self._queue, "exports", self._bind)
        channel.basic_qos(prefetch_size=0, prefetch_count=10, a_global=False)

        def take(message: amqp.Message) -> None:
            self.take(channel, message)

        channel.basic_consume(self._queue, callback=take)
        print("ready", flush=True)

    def _listen(self, connection: amqp.Connection) -> None:
        while True:
            with suppress(TimeoutError):
                connection.drain_events(timeout=HEARTBEAT_SECONDS / 4)
            connection.heartbeat_tick()

    def take(self, channel: amqp.Channel, message: amqp.Message) -> None:
        """Do the work, then acknowledge: the broker delivers an unacknowledged message again."""
        try:
            line = keep(self._store, json.loads(message.body))
        except (ValueError, KeyError, TypeError):
            print("rejected a message that cannot be read", file=sys.stderr, flush=True)
            channel.basic_reject(message.delivery_tag, requeue=False)  # into the queue exports.dead
            return
        if line:
            print(line, flush=True)
        channel.basic_ack(message.delivery_tag)


def ended(*_: Any) -> None:
    """Stop; unacknowledged messages go back into the queue."""
    raise SystemExit


def main() -> None:
    """Read until SIGTERM."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url", help="RabbitMQ: amqp:// or amqps://")
    options.add_argument("--queue", default="exports.warehouse")
    options.add_argument("--bind", help="creates the queue if it is missing, and binds it with this key")
    options.add_argument("--store", default="warehouse.db")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, ended)
    Warehouse(given.url, given.queue, given.bind, opened(given.store)).run()


if __name__ == "__main__":
    main()
