"""Print the first message of a queue and requeue it: show_message.py QUEUE; the message broker is BROKER_URL."""

from __future__ import annotations

import os
import sys

from kombu import Connection, Queue

with Connection(os.environ["BROKER_URL"]) as connection:
    message = Queue(sys.argv[1], no_declare=True)(connection.default_channel).get()
    print(message.body)
    message.requeue()
