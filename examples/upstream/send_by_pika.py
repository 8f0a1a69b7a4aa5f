"""Send a command by pika, without Celery or kombu, and print the answer: send_by_pika.py COMMAND.json BATCH."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pika

command = json.loads(Path(sys.argv[1]).read_bytes())
command["batchId"] = command["plan"]["batchId"] = sys.argv[2]
command["plan"]["units"][0]["entry"]["shipmentControlNumber"] = sys.argv[2].replace("_", "-")
command["idempotencyKey"] = f"order-{sys.argv[2]}"
with pika.BlockingConnection(pika.URLParameters(os.environ["BROKER_URL"])) as connection:
    channel = connection.channel()
    channel.confirm_delivery()  # publish raises an error if the command is in no queue
    answers: list[tuple[pika.BasicProperties, bytes]] = []
    channel.basic_consume(
        "amq.rabbitmq.reply-to", lambda _, __, properties, body: answers.append((properties, body)), auto_ack=True
    )
    channel.basic_publish(
        "exports",
        "execute",
        json.dumps(command).encode(),
        pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            reply_to="amq.rabbitmq.reply-to",
            correlation_id=command["idempotencyKey"],
        ),
        mandatory=True,
    )
    connection.process_data_events(time_limit=60)
    ((properties, body),) = answers
    answer = json.loads(body)
    print(properties.correlation_id, properties.content_type, answer.get("exportId") or answer["errorCode"])
