"""An HTTP endpoint on loopback with scripted answers, which records its requests."""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Script:
    """One answer. The last answer of a script is repeated."""

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_seconds: float = 0  # pause between single bytes of the body
    silent: bool = False  # no answer at all
    torn: bool = False  # announces more bytes than it sends
    until: threading.Event | None = None  # waits for this event before it answers


@dataclass(frozen=True)
class Request:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class Endpoint:
    """A running server. `requests` are the received ones, in order."""

    def __init__(self, script: Sequence[Script]) -> None:
        self.requests: list[Request] = []
        self._script = list(script)
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append(Request(self.path, headers, body, self.command))
                answer = outer._script.pop(0) if len(outer._script) > 1 else outer._script[0]
                with contextlib.suppress(OSError):
                    self.follow(answer)

            def do_GET(self) -> None:
                self.do_POST()

            def follow(self, answer: Script) -> None:
                if answer.until is not None:
                    answer.until.wait(60)
                if answer.silent:
                    outer._ended.wait(30)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body) + (10 if answer.torn else 0)))
                self.end_headers()
                step = 1 if answer.drip_seconds else max(1, len(answer.body))
                for at in range(0, len(answer.body), step):
                    self.wfile.write(answer.body[at : at + step])
                    if answer.drip_seconds and outer._ended.wait(answer.drip_seconds):
                        break
                self.close_connection = answer.torn

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
