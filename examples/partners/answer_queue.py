"""Reject a handoff by queue and print the receipt: answer_queue.py SUBMISSION SECRET.json; the message broker is BROKER_URL."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kombu import Connection
from signature import sign

submission = sys.argv[1]
secret = json.loads(Path(sys.argv[2]).read_bytes())["secret"]
fields = [{"pointer": "/units/0/lines/2/htsCode", "message": "The code has expired."}]
body = json.dumps({"submissionId": submission, "id": "Q-1:rejected", "status": "rejected", "fields": fields})
with Connection(os.environ["BROKER_URL"]) as connection, connection.SimpleQueue("br_sandbox.receipts") as receipts:
    connection.Producer().publish(
        body,
        exchange="exports",
        routing_key="acknowledgement",
        headers=sign(body, secret, "Q-1:rejected"),
        content_type="application/json",
        content_encoding="utf-8",
        reply_to="br_sandbox.receipts",
        delivery_mode=2,
    )
    receipt = receipts.get(timeout=60)
    receipt.ack()
    print(receipt.body)
