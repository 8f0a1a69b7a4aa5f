"""A warehouse at its queue: prints a line a package, and counts a message that comes twice once.

python warehouse_consumer.py amqp://guest:guest@localhost// [queue]
"""

import json
import sys

from kombu import Connection, Consumer, Message, Queue

url, name = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "exports.warehouse"
seen: set[str] = set()  # keep it in your database, in the transaction that does the work


def take(message: Message) -> None:
    """Do the work of one message, then say that it is done."""
    event = json.loads(message.body)
    if event["id"] not in seen:
        package = event["data"]
        print(package["packageRef"], package["sscc"] or package["lpn"], package["shipTo"]["name"], flush=True)
        seen.add(event["id"])
    message.ack()


with Connection(url) as connection, Consumer(connection, [Queue(name, no_declare=True)], on_message=take):
    while True:
        connection.drain_events()
