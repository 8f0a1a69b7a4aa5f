"""A partner's webhook endpoint: refuses what is not signed, and counts a message that comes twice once.

python webhook_receiver.py 8080 whsec_...
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

port, secret = int(sys.argv[1]), sys.argv[2]
seen: set[str] = set()  # keep it in your database, in the transaction that does the work


class Receiver(BaseHTTPRequestHandler):
    """Takes one message a POST."""

    def do_POST(self) -> None:
        """Answer 204 once the message is safe, 401 where it is not from the service."""
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = Webhook(secret).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_response(401)
        else:
            if event["id"] not in seen:
                print(event["type"], event["subject"], flush=True)
                seen.add(event["id"])
            self.send_response(204)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
