"""A partner's webhook endpoint inside the tests: it keeps requests and sends the answers that a test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.interfaces.contracts import sent
from tests.support.ports import LOOPBACK


@dataclass(frozen=True)
class Request:
    """One POST as received."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """The requests received, and the answers to the next ones: `statuses` in turn, then 204."""

    url: str
    requests: list[Request] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@contextmanager
def run_receiver() -> Iterator[Receiver]:
    """Yield a receiver that listens on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.requests.append(Request({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Log nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        receiver = Receiver(f"http://{LOOPBACK}:{server.server_port}/messages")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
    for request in receiver.requests:
        sent.check(request.body)
