"""A customs broker's webhook address: refuses what is not signed, keeps a handoff once, and answers that it was received.

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
options.add_argument("--port", type=int, default=8080, help="on loopback: let a web server with TLS stand before it")
options.add_argument("--store", default="broker.db")
options.add_argument("--retry-seconds", type=float, default=30, help="how soon an answer that failed is given again")
given = options.parse_args()
# The newest first; beside it the one before, until that ends.
secrets = os.environ.get("EXPORTS_WEBHOOK_SECRETS", "").split()
if not secrets:
    sys.exit("set EXPORTS_WEBHOOK_SECRETS to the secret that was shown when the partner was registered")
news = threading.Event()


def is_signed(body: bytes, headers: Mapping[str, str]) -> bool:
    """Tell whether one of the secrets signed these very bytes, at most five minutes ago."""
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except Exception:  # noqa: BLE001, S112 - whatever the headers make the library trip over, they are not good
            continue
        return True
    return False


class Receiver(BaseHTTPRequestHandler):
    """Takes one message a POST."""

    timeout = 30

    def do_POST(self) -> None:
        """Answer 204 once the message is safe, 401 where it is not from the service."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BYTES:
            self.answer(413)
            return
        body = self.rfile.read(int(length))
        self.answer(self.take(body) if is_signed(body, self.headers) else 401)

    def take(self, body: bytes) -> int:
        """Keep a message that is signed; return the status to answer with."""
        store = opened(given.store)
        try:
            line = keep(store, json.loads(body))
        except (ValueError, KeyError, TypeError):
            return 400
        finally:
            store.close()
        if line:
            print(line, flush=True)
            news.set()
        return 204

    def answer(self, status: int) -> None:
        """Answer with a status and no body."""
        self.send_response(status)
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: what counts is printed."""


def answer_all() -> None:
    """Answer every handoff that has no answer: as soon as it came, and again until the service has taken the answer."""
    while True:
        news.clear()
        store = opened(given.store)
        unanswered = "SELECT submission_id, message_id, answer_to FROM handoffs WHERE NOT answered"
        for submission_id, message_id, url in store.execute(unanswered).fetchall():
            if answered(url, f"{message_id}:received"):
                with store:
                    store.execute("UPDATE handoffs SET answered = 1 WHERE submission_id = ?", (submission_id,))
                print(submission_id, "answered", flush=True)
        store.close()
        news.wait(given.retry_seconds)


def answered(url: str, answer_id: str) -> bool:
    """Say that we could read the handoff; whether it is accepted is for a person to say. The same id counts once."""
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
        print(f"the answer {answer_id} was not taken: {error}", file=sys.stderr, flush=True)
        return False
    return True


def ended(*_: Any) -> None:
    """End; what was not answered is answered after the next start."""
    raise SystemExit


signal.signal(signal.SIGTERM, ended)
with ThreadingHTTPServer(("127.0.0.1", given.port), Receiver) as server:
    server.daemon_threads = True
    threading.Thread(target=answer_all, daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()
