"""A server with scripted answers, and each client connected to it."""

import asyncio
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline.client import AsyncExports, Exports, Retries
from tests.interfaces.api.conftest import harness, open_harness  # noqa: F401 - fixtures of others
from tests.support.client_package import client_package, client_wheel  # noqa: F401 - fixtures of others
from tests.support.command_line import service  # noqa: F401 - fixtures of others

Json = dict[str, Any]

#: As many attempts as by default, with very short pauses.
QUICK = Retries(tries=4, first_pause_seconds=0.001, max_pause_seconds=0.002, total_seconds=20)


@dataclass(frozen=True)
class ScriptedAnswer:
    """One answer of the scripted server; `cut` closes the connection without any."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True)
class ReceivedRequest:
    """One request that the scripted server received."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """A server that gives one answer after another, repeats the last one, and records the requests."""

    url: str = ""
    answers: list[ScriptedAnswer] = field(default_factory=list)
    requests: list[ReceivedRequest] = field(default_factory=list)

    def answer_with(self, *answers: ScriptedAnswer) -> None:
        """Give these answers from now on."""
        self.answers = list(answers)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server on a free port."""
    script = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            script.requests.append(
                ReceivedRequest(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
            )
            scripted = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if scripted.cut:
                self.close_connection = True
                return
            self.send_response_only(scripted.status)
            for name, value in scripted.headers.items():
                self.send_header(name, value)
            if scripted.body:
                self.send_header("Content-Type", scripted.media_type)
            self.end_headers()
            self.wfile.write(scripted.body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    yield script
    http.shutdown()
    thread.join()
    http.server_close()


class Client(ABC):
    """One of the two clients, called by the name of a method."""

    @abstractmethod
    def call(self, url: str, name: str, *args: Any, key: str = "key", retries: Retries = QUICK, **kwargs: Any) -> Any:
        """Make a call and return its answer."""

    @abstractmethod
    def collect(
        self, url: str, name: str, *args: Any, key: str = "key", most: int | None = None, **kwargs: Any
    ) -> list[Any]:
        """Return what a method yields, or its first `most` items."""


class SyncClient(Client):
    """The blocking client."""

    def call(self, url: str, name: str, *args: Any, key: str = "key", retries: Retries = QUICK, **kwargs: Any) -> Any:
        """Make a call and return its answer."""
        with Exports(url, key, retries=retries) as api:
            return getattr(api, name)(*args, **kwargs)

    def collect(
        self, url: str, name: str, *args: Any, key: str = "key", most: int | None = None, **kwargs: Any
    ) -> list[Any]:
        """Return what a method yields, or its first `most` items."""
        with Exports(url, key, retries=QUICK) as api:
            found: list[Any] = []
            for item in getattr(api, name)(*args, **kwargs):
                found.append(item)
                if len(found) == most:
                    break
            return found


class AsyncClient(Client):
    """The client for asyncio."""

    def call(self, url: str, name: str, *args: Any, key: str = "key", retries: Retries = QUICK, **kwargs: Any) -> Any:
        """Make a call and return its answer."""

        async def run() -> Any:
            async with AsyncExports(url, key, retries=retries) as api:
                return await getattr(api, name)(*args, **kwargs)

        return asyncio.run(run())

    def collect(
        self, url: str, name: str, *args: Any, key: str = "key", most: int | None = None, **kwargs: Any
    ) -> list[Any]:
        """Return what a method yields, or its first `most` items."""

        async def run() -> list[Any]:
            found: list[Any] = []
            async with (
                AsyncExports(url, key, retries=QUICK) as api,
                aclosing(getattr(api, name)(*args, **kwargs)) as items,
            ):
                async for item in items:
                    found.append(item)
                    if len(found) == most:
                        break
            return found

        return asyncio.run(run())


@pytest.fixture(params=[SyncClient, AsyncClient], ids=["Exports", "AsyncExports"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the two clients."""
    created: Client = request.param()
    return created


def json_answer(value: Any, status: int = 200, **headers: str) -> ScriptedAnswer:
    """Return an answer of JSON."""
    return ScriptedAnswer(
        status, json.dumps(value).encode(), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def problem(status: int, code: str, **headers: str) -> ScriptedAnswer:
    """Return an error answer."""
    document = {
        "type": "about:blank",
        "title": code,
        "status": status,
        "detail": code,
        "errorCode": code,
        "message": code,
    }
    body = json.dumps({**document, "requestId": "req_1"}).encode()
    return ScriptedAnswer(
        status, body, "application/problem+json", {k.replace("_", "-"): v for k, v in headers.items()}
    )
