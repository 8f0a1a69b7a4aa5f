"""Send a command by queue, then one without idempotency key, and print the answers: send_commands.py COMMAND.json BATCH."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kombu import Connection

command = json.loads(Path(sys.argv[1]).read_bytes())
command["batchId"] = command["plan"]["batchId"] = sys.argv[2]
command["plan"]["units"][0]["entry"]["shipmentControlNumber"] = sys.argv[2].replace("_", "-")
with Connection(os.environ["BROKER_URL"]) as connection, connection.SimpleQueue("orders.answers") as answers:
    for number, key in enumerate(["order-run-483", None]):
        connection.Producer().publish(
            json.dumps(command | {"idempotencyKey": key}),
            exchange="exports",
            routing_key="execute",
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            reply_to="orders.answers",
            correlation_id=f"command-{number}",
        )
        answer = answers.get(timeout=60)
        answer.ack()
        said = json.loads(answer.body)
        print(answer.properties["correlation_id"], answer.content_type, said.get("exportId") or said["errorCode"])
