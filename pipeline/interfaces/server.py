"""The service in one process: the API in a thread and, if the message broker is in the process, a worker."""

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from config.settings import HOME
from pipeline.core import ids
from pipeline.core.errors import ExportsError, HeadTooLarge
from pipeline.core.problems import problem_document
from pipeline.core.runtime import Runtime
from pipeline.interfaces import app
from pipeline.workflow.publisher import EmbeddedWorker, Publisher

#: Long, because a machine that starts everything at once is slow; a shorter wait would only restart the process.
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 1.5

#: The options with which uvicorn serves the API as a process of its own.
WEB_OPTIONS: Final = (
    "--http",
    "pipeline.interfaces.server:BoundedHead",
    "--ws",
    "none",
    "--no-access-log",
    "--no-server-header",
    "--timeout-graceful-shutdown",
    "5",
)
#: Bytes of a request line and its headers, or of the trailers behind a body; exceeded by at most one received piece.
MAX_HEAD_BYTES: Final = 64 * 1024
#: How long a caller may take nothing of its answer.
UNREAD_SECONDS: Final = 30.0
#: What a caller may leave untaken without a bound in time; less than the connection itself costs.
_MOST_UNWATCHED_BYTES: Final = 4 * 1024


class NotServing(ExportsError):
    """The API or the worker did not start in time."""


def run_web(host: str, port: int, options: Sequence[str] = ()) -> None:
    """Serve the API until the process is stopped; uvicorn's `options` come after ours."""
    # Without the folder, uvicorn would look for modules in the current directory.
    listening = ("--app-dir", str(HOME), "--host", host, "--port", str(port))
    uvicorn.main(
        ["--factory", *listening, *WEB_OPTIONS, *options, "pipeline.interfaces.app:app"], prog_name="exports web"
    )


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol, with two bounds: it ends a connection that sends too much, or takes nothing.

    One that sends more than MAX_HEAD_BYTES outside of a body: the parser keeps an unfinished header and copies it with
    each piece that arrives, so one connection could use the time of all others. And one that takes no byte of its
    answer for UNREAD_SECONDS: many of them could use the memory of the process.
    """

    _unfinished = 0
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        # The loop writes head and body at once if the head alone does not reach the limit.
        transport.set_write_buffer_limits(_MOST_UNWATCHED_BYTES)

    def pause_writing(self) -> None:
        """Begin to wait until the caller takes something."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """End the wait: the caller has taken all."""
        self._unwatch()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self, left: int) -> None:
        self._unwatch()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._end_unless_taken, left)

    def _unwatch(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end_unless_taken(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._watch(left)
        else:
            # A close would wait for the caller to take the rest.
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Reset the count: a piece of a body begins."""
        self._unfinished = 0

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        super().on_message_complete()

    def _refuse(self) -> None:
        # While another request of the connection is answered, these bytes would land inside that answer.
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # None before the first
            refused = HeadTooLarge(f"the request line and headers have more than {MAX_HEAD_BYTES} bytes; send fewer")
            content = (
                problem_document(refused, ids.safe_request_id("", "req"))
                .model_dump_json(by_alias=True, exclude_none=True)
                .encode()
            )
            head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
                content
            )
            self.transport.write(STATUS_LINE[refused.status] + head + content)
        self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the address; port 0 takes a free one. Raises OSError if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class Service:
    """The API on the open socket `listener`; with `worker`, this process also executes what the API accepts."""

    def __init__(self, runtime: Runtime, listener: socket.socket, *, worker: bool) -> None:
        publisher = Publisher(runtime.settings.publish_backlog)
        config = uvicorn.Config(
            app.create_app(runtime, publisher),
            http=BoundedHead,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
        self._listener = listener
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="api", daemon=True)
        senders = max(runtime.settings.delivery_senders, runtime.settings.delivery_unhealthy_max)
        self._worker = EmbeddedWorker(senders) if worker else None
        self._working = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Return once the API answers and the worker consumes.

        Raises NotServing if one of them does not start; both are stopped then.
        """
        try:
            self._thread.start()
            if self._worker is not None:
                self._working = True
                self._worker.start(START_SECONDS)
            self._wait_until_started()
        except TimeoutError as error:
            self.stop()
            raise NotServing(f"{error}; its log says why") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both. Requests and the running task get a moment to finish; tasks that did not begin stay ready in the database."""
        self._server.should_exit = True
        if self._worker is not None and self._working:
            self._worker.stop(STOP_SECONDS)
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        self._listener.close()

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise NotServing("the API did not start; its log says why")
            time.sleep(0.01)
