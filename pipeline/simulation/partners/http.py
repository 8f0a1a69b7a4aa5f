"""A simulated HTTP endpoint of a partner: a webhook, or the endpoint of the borderbuddy channel."""

import hmac
import json
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, Self

from config.network import LOOPBACK
from pipeline.core.errors import InvalidApiKey
from pipeline.deliveries.submissions.signature import check_signature
from pipeline.simulation.partners.server import create_self_signed

#: The faults of a webhook receiver.
WebhookFault = Literal[
    "accepts-forged",  # accepts every request, signed or not
    "refuses-all",  # rejects every signature, as with another secret
    "redirects",
    "missing",  # 404
    "gone",  # 410
    "errors",  # 500
    "busy",  # 503
    "slow",  # answers too late
    "hangs-up",  # closes the connection without an answer
    "self-signed",  # https with a self-signed certificate
]

_FAULT_STATUSES: Final[dict[WebhookFault, int]] = {
    "redirects": 308,
    "missing": 404,
    "gone": 410,
    "errors": 500,
    "busy": 503,
}
_MAX_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class ReceivedRequest:
    """One request and the status that it was answered with."""

    status: int
    event_id: str
    event_type: str
    subject: str = ""  # the subject of the event: an export, or the partner in a connection test


class WebhookReceiver:
    """An HTTP server on loopback that accepts requests signed with one of `secrets`, or with the bearer token `token`.

    With `tls` it uses HTTPS. With a `fault` it shows that fault. `on_request` is called for each request, from the
    thread that answers it.
    """

    def __init__(
        self,
        secrets: Sequence[str] = (),
        *,
        token: str | None = None,
        fault: WebhookFault | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        on_request: Callable[[ReceivedRequest], None] = lambda _: None,
    ) -> None:
        """Bind to `port`, or to a free one for 0; raise OSError if the port is taken."""
        self._secrets = secrets
        self._token = token
        self._fault = fault
        self._seen = on_request
        self._ended = threading.Event()
        self._server = _Server((LOOPBACK, port), _make_handler(self))
        context = create_self_signed()[0] if fault == "self-signed" else tls
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self.url = f"{'http' if context is None else 'https'}://{LOOPBACK}:{self._server.server_port}/events"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, headers: dict[str, str], body: bytes) -> int | None:
        """Return the status of the response; None closes the connection without a response."""
        if self._fault == "slow":
            self._ended.wait()
        if self._fault in ("slow", "hangs-up"):
            return None
        if self._fault in _FAULT_STATUSES:
            return _FAULT_STATUSES[self._fault]
        if self._fault == "accepts-forged":
            return 204
        return 204 if self._fault != "refuses-all" and self._is_authentic(headers, body) else 401

    def _is_authentic(self, headers: dict[str, str], body: bytes) -> bool:
        if self._token is not None:
            return hmac.compare_digest(headers.get("authorization", "").encode(), f"Bearer {self._token}".encode())
        try:
            check_signature(body, headers, self._secrets)
        except InvalidApiKey:
            return False
        return True

    def report_request(self, status: int | None, body: bytes) -> None:
        """Pass a request and the status of its response to `on_request`."""
        try:
            event = json.loads(body)
            self._seen(
                ReceivedRequest(status or 0, str(event["id"]), str(event["type"]), str(event.get("subject", "")))
            )
        except (ValueError, TypeError, KeyError):
            self._seen(ReceivedRequest(status or 0, "", "no event", ""))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a caller that tests a connection may close it at any time."""


def _make_handler(receiver: WebhookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            body = self.rfile.read(min(int(length), _MAX_BYTES)) if length.isdigit() else b""
            status = receiver.answer({name.lower(): value for name, value in self.headers.items()}, body)
            receiver.report_request(status, body)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            if status == _FAULT_STATUSES["redirects"]:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing: `on_request` receives every request."""

    return Handler
