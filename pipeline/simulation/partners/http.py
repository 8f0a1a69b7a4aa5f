"""A partner's endpoint: a webhook, or that of the borderbuddy path."""

from __future__ import annotations

import hmac
import json
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, Self, get_args

from config.network import LOOPBACK
from pipeline.core.errors import InvalidApiKey
from pipeline.deliveries.channels.webhook import check_signature
from pipeline.simulation.partners.server import create_self_signed

#: What a receiver does wrong.
WebhookFault = Literal[
    "accepts-forged",  # takes whatever comes, signed or not
    "refuses-all",  # believes nothing, as with another secret
    "redirects",
    "missing",  # 404
    "gone",  # 410
    "errors",  # 500
    "busy",  # 503
    "slow",  # no answer within any patience
    "hangs-up",  # closes the connection without an answer
    "self-signed",  # https with a certificate that nobody issued
]
WEBHOOK_FAULTS: Final[Sequence[WebhookFault]] = get_args(WebhookFault)

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
    """One request as it was answered."""

    status: int
    event_id: str
    event_type: str
    subject: str = ""  # what the event is about: an export, or in a connection test the partner


class WebhookReceiver:
    """An HTTP server on loopback that takes what one of `secrets` signs, or what bears `token`, and refuses all else.

    It speaks HTTPS by `tls`. With a `fault` it does that wrong. `on_request` is told of each request, from the thread that
    answers it.
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
        """Raises OSError where the port is taken; 0 takes a free one."""
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
        """Return the status that a request is answered with; None hangs up."""
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
        """Have `on_request` know of a request that is answered so."""
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
        """Say nothing: whoever tests a connection breaks it off at times."""


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
            """Say nothing: `on_request` is told."""

    return Handler
