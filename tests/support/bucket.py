"""A bucket of S3 on loopback, in memory, which records its requests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest

from pipeline.core.blob_store import ArtifactStore
from tests.support.ports import LOOPBACK

#: What a bucket of another provider than AWS needs beside its address.
VARIABLES: Final = {
    "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
}  # fmt: skip


class Bucket(BaseHTTPRequestHandler):
    """The part of S3 that stores documents."""

    stored: dict[str, bytes]
    requests: list[str]
    knows_conditions = True

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.requests.append("PUT")
        if "if-none-match" in self.headers and not self.knows_conditions:
            self._answer(501)
        elif "if-none-match" in self.headers and self.path in self.stored:
            self._answer(412)
        else:
            self.stored[self.path] = body
            self._answer(200)

    def do_GET(self) -> None:
        self.requests.append(self.command)
        self._answer(200, self.stored[self.path]) if self.path in self.stored else self._answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:  # S3 deletes several objects in one POST
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        for path in [path for path in self.stored if path.partition("/bucket/")[2] in asked]:
            del self.stored[path]
        self._answer(200, b"<DeleteResult><Deleted><Key>one</Key></Deleted></DeleteResult>")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 26 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a store connects many times at once; a connection that finds no place waits a second


@contextmanager
def serve_bucket() -> Iterator[ArtifactStore]:
    """Serve an empty bucket during the block, and yield a store in it."""
    Bucket.stored, Bucket.requests = {}, []
    with _Server((LOOPBACK, 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        with open_bucket(server.server_port) as store:
            yield store
        server.shutdown()


@contextmanager
def open_bucket(port: int) -> Iterator[ArtifactStore]:
    """Yield a store in a bucket at this port, with the provider's variables set during the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (VARIABLES | {"AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{port}"}).items():
            patch.setenv(name, value)
        yield ArtifactStore("s3://bucket/exports")
