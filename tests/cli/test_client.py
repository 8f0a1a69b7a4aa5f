"""The client against servers that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.client import Api, ApiProblem, ApiUnreachable, Corrupted, StillRunning, safe_name
from pipeline.schemas.execution import ArtifactView

EVENT = {"type": "STEP_RETRIED", "at": "2026-11-24T15:04:05Z", "actor": "test", "data": {}}


@dataclass
class Scripted:
    """A server that gives one answer after another, the last one for ever, and remembers what it was asked."""

    url: str = ""
    answers: list[tuple[int, str, bytes]] = field(default_factory=list)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A scripted server on a free port."""
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append((self.path, dict(self.headers.items())))
            status, media_type, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            self.send_response(status)
            if body:
                self.send_header("Content-Type", media_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield script
    http.shutdown()
    thread.join()
    http.server_close()


def stream(*numbers: int, cut: bytes = b"") -> tuple[int, str, bytes]:
    lines = [f"id: {n}\ndata: {json.dumps({'id': f'evt_{n}', 'seq': n, **EVENT})}\n\n" for n in numbers]
    return 200, "text/event-stream", b": hello\n\n" + "".join(lines).encode() + cut


def problem(status: int, code: str) -> bytes:
    said = {"type": "about:blank", "title": code, "status": status, "detail": code, "errorCode": code, "message": code}
    return json.dumps({**said, "requestId": "req_1"}).encode()


def test_broken_stream_goes_on_where_it_broke(server: Scripted) -> None:
    server.answers = [stream(1, 2, cut=b'id: 3\ndata: {"id": "ev'), stream(3), (204, "", b"")]
    with Api(server.url, "key") as api:
        assert [event.seq for event in api.follow("exp_1")] == [1, 2, 3]
    assert [headers["Last-Event-ID"] for _, headers in server.asked] == ["0", "2", "3"]
    assert server.asked[0][1]["Authorization"] == "Bearer key"


def test_following_gives_up_when_the_time_is_over(server: Scripted) -> None:
    server.answers = [stream(1), stream()]
    with Api(server.url, "key") as api, pytest.raises(StillRunning):
        list(api.follow("exp_1", timeout_seconds=0.2))


def test_stream_outlives_a_service_that_is_not_ready(server: Scripted) -> None:
    server.answers = [(503, "application/problem+json", problem(503, "NOT_READY")), stream(1), (204, "", b"")]
    with Api(server.url, "key") as api:
        assert [event.seq for event in api.follow("exp_1")] == [1]


def test_problem_keeps_its_code_and_details(server: Scripted) -> None:
    server.answers = [(404, "application/problem+json", problem(404, "NOT_FOUND"))]
    with Api(server.url, "key") as api, pytest.raises(ApiProblem) as refused:
        api.inspect("exp_1")
    assert (refused.value.problem.error_code, refused.value.problem.request_id) == ("NOT_FOUND", "req_1")
    with Api(server.url, "key") as api, pytest.raises(ApiProblem):
        list(api.follow("exp_1"))


@pytest.mark.parametrize(
    ("status", "body"), [(502, b"<html>Bad gateway</html>"), (200, b"<html>Welcome</html>"), (200, b"{}")]
)
def test_something_else_at_the_address_is_unreachable(server: Scripted, status: int, body: bytes) -> None:
    server.answers = [(status, "text/html", body)]
    with Api(server.url, "key") as api, pytest.raises(ApiUnreachable):
        api.inspect("exp_1")


def test_changed_document_is_not_taken(server: Scripted) -> None:
    server.answers = [(200, "application/pdf", b"%PDF-1.7 changed")]
    artifact = ArtifactView.model_validate(
        {
            "id": "art_1", "customs_package_id": "cpk_1", "artifact_type": "cci_pdf", "filename": "invoice.pdf",
            "media_type": "application/pdf", "size": 16, "sha256": "0" * 64, "template_version": "1",
            "generated_at": "2026-11-24T15:04:05Z", "download_url": "/api/artifacts/art_1",
        }
    )  # fmt: skip
    with Api(server.url, "key") as api, pytest.raises(Corrupted):
        api.download(artifact)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("../../etc/passwd", "_.._etc_passwd"), (".ssh", "ssh"), ("...", "_"), ("a/b", "a_b"), ("CP-1", "CP-1")],
)
def test_name_from_outside_stays_in_its_folder(name: str, safe: str, tmp_path: Path) -> None:
    assert safe_name(name) == safe
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()
