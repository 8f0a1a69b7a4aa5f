"""Send commands by Celery and wait for the answers: send_by_celery.py COMMAND.json BATCH..."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from celery import Celery

app = Celery("orders", broker=os.environ["BROKER_URL"], backend="rpc://")
app.conf.task_routes = {"exports.*": {"exchange": "exports", "routing_key": "execute"}}
# RabbitMQ confirms each command. Without it, a command could be lost without an error.
app.conf.broker_transport_options = {"confirm_publish": True}


def main() -> None:
    """Send a command for each batch, then one without an idempotency key, and print the answers."""
    command = json.loads(Path(sys.argv[1]).read_bytes())
    for batch in sys.argv[2:]:
        command["batchId"] = command["plan"]["batchId"] = batch
        command["plan"]["units"][0]["entry"]["shipmentControlNumber"] = batch.replace("_", "-")
        sent = app.send_task("exports.execute", kwargs=command | {"idempotencyKey": f"order-{batch}"})
        print(batch, sent.get(timeout=60)["exportId"])
    refused = app.send_task("exports.execute", kwargs=command)
    refusal = refused.get(timeout=60, propagate=False)  # without propagate=False, it is raised
    message, problem = refusal.args
    # Celery names the exception after the error code.
    print(type(refusal).__name__, problem["field"], message)


if __name__ == "__main__":
    main()
