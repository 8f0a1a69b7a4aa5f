"""A customs broker's webhook receiver: rejects unsigned requests, stores a handoff once, answers that it was received.

EXPORTS_WEBHOOK_SECRETS='whsec_new whsec_old' python webhook.py --port 8080
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from standardwebhooks import Webhook
from store import keep, opened

MAX_BYTES = 40_000_000

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--port", type=int, default=8080, help="on loopback: put a web server with TLS in front of it")
options.add_argument("--store", default="broker.db")
options.add_argument("--retry-seconds", type=float, default=30, help="seconds until a failed answer is sent again")
given = options.parse_args()
# The newest secret first, then the previous one until it ends.
secrets = os.environ.get("EXPORTS_WEBHOOK_SECRETS", "").split()
if not secrets:
    sys.exit("set EXPORTS_WEBHOOK_SECRETS to the secret shown at the partner's registration")
arrived = threading.Event()


def is_signed(body: bytes, headers: Mapping[str, str]) -> bool:
    """Return whether one of the secrets signed exactly these bytes, at most five minutes ago."""
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except Exception:  # noqa: BLE001, S112 - the library raises various errors for malformed headers
            continue
        return True
    return False


class Receiver(BaseHTTPRequestHandler):
    """Accepts one message for each POST."""

    timeout = 30

    def do_POST(self) -> None:
        """Answer 204 when the message is stored, 401 if it is not from the service."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BYTES:
            self.answer(413)
            return
        body = self.rfile.read(int(length))
        self.answer(self.take(body) if is_signed(body, self.headers) else 401)

    def take(self, body: bytes) -> int:
        """Store a signed message; return the status to answer with."""
        store = opened(given.store)
        try:
            line = keep(store, json.loads(body))
        except (ValueError, KeyError, TypeError):
            return 400
        finally:
            store.close()
        if line:
            print(line, flush=True)
            arrived.set()
        return 204

    def answer(self, status: int) -> None:
        """Answer with a status and no body."""
        self.send_response(status)
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing: the program prints what matters."""


def answer_all() -> None:
    """Answer every handoff that has no answer: at once, and again until the service accepts the answer."""
    while True:
        arrived.clear()
        store = opened(given.store)
        unanswered = "SELECT submission_id, message_id, answer_to FROM handoffs WHERE NOT answered"
        for submission_id, message_id, url in store.execute(unanswered).fetchall():
            if answered(url, f"{message_id}:received"):
                with store:
                    store.execute("UPDATE handoffs SET answered = 1 WHERE submission_id = ?", (submission_id,))
                print(submission_id, "answered", flush=True)
        store.close()
        arrived.wait(given.retry_seconds)


def answered(url: str, answer_id: str) -> bool:
    """Answer that the handoff was received; a person decides whether to accept it. The same id counts once."""
    now, body = datetime.now(UTC), json.dumps({"id": answer_id, "status": "received"})
    headers = {
        "content-type": "application/json",
        "webhook-id": answer_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secrets[0]).sign(answer_id, now, body),
    }
    try:
        httpx.post(url, content=body, headers=headers, timeout=20).raise_for_status()
    except httpx.HTTPError as error:
        print(f"the answer {answer_id} was not accepted: {error}", file=sys.stderr, flush=True)
        return False
    return True


def ended(*_: Any) -> None:
    """Stop; unanswered handoffs are answered after the next start."""
    raise SystemExit


signal.signal(signal.SIGTERM, ended)
with ThreadingHTTPServer(("127.0.0.1", given.port), Receiver) as server:
    server.daemon_threads = True
    threading.Thread(target=answer_all, daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()
