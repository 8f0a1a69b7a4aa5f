"""`exports listen`, against a running service and a receiver with scripted answers."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.client import verify_webhook
from tests.support import factories
from tests.support.command_line import Commands, exports
from tests.support.http_endpoint import Endpoint, Script

pytestmark = pytest.mark.system

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # noqa: S105 - of this test
READY = "exports.handoff.ready.v1"


@contextmanager
def listening(
    service: Commands, folder: Path, endpoint: Endpoint, *options: str
) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """Run `exports listen` and give its first line and its process; Ctrl-C ends it."""
    process = exports(["listen", "--forward-to", endpoint.url, "--json", *options], service.environment, folder)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), process
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()


def execute(service: Commands, folder: Path, batch: str) -> dict[str, Any]:
    (folder / "plan.json").write_text(json.dumps(factories.plan(batch=batch)))
    export: dict[str, Any] = service.json("execute", str(folder / "plan.json"), "--wait", "--timeout", "60")
    return export


def read_lines(process: subprocess.Popen[str], count: int) -> Sequence[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def list_states(service: Commands, export_id: str) -> list[Any]:
    rows = service.json("deliveries", "list", "--export", export_id)["items"]
    return [(row["id"], row["state"], row["attempts"], len(row["tries"])) for row in rows]


def test_receiver_gets_new_messages_signed_and_nothing_else_changes(service: Commands, tmp_path: Path) -> None:
    execute(service, tmp_path, "batch-before-listening")
    with Endpoint([Script(204)]) as endpoint:
        with listening(service, tmp_path, endpoint, "--partner", factories.BROKER) as (first, process):
            export_id = execute(service, tmp_path, "batch-while-listening")["exportId"]
            before = list_states(service, export_id)
            (line,) = read_lines(process, 1)
            assert list_states(service, export_id) == before
        (request,) = endpoint.requests
    message = verify_webhook(request.body, request.headers, first["secret"])
    assert (message.type, message.event.subject, message.id) == (READY, export_id, line["id"])
    assert (line["status"], line["partnerId"], line["retryInSeconds"]) == (204, factories.BROKER, None)
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert message.event.data["units"][0]["artifacts"][0]["signedUrl"]


def test_last_messages_come_first_and_refused_ones_again(service: Commands, tmp_path: Path) -> None:
    export_id = execute(service, tmp_path, "batch-last")["exportId"]
    with Endpoint([Script(500), Script(204)]) as endpoint:
        options = ("--partner", factories.BROKER, "--type", READY, "--last", "1", "--secret", SECRET)
        with listening(service, tmp_path, endpoint, *options) as (first, process):
            lines = read_lines(process, 2)
        requests = endpoint.requests
    assert first["secret"] == SECRET
    assert [(line["status"], line["retryInSeconds"], line["exportId"]) for line in lines] == [
        (500, 1, export_id),
        (204, None, export_id),
    ]
    assert requests[0].body == requests[1].body
    assert [verify_webhook(each.body, each.headers, SECRET).id for each in requests] == [lines[0]["id"]] * 2


def test_receiver_that_is_not_running_is_shown(service: Commands, tmp_path: Path) -> None:
    execute(service, tmp_path, "batch-nobody")
    with Endpoint([Script()]) as endpoint:
        pass
    with listening(service, tmp_path, endpoint, "--partner", factories.BROKER, "--last", "1") as (_, process):
        (line,) = read_lines(process, 1)
    assert (line["status"], "refused" in line["error"], line["retryInSeconds"]) == (None, True, 1)


def test_service_that_does_not_respond_ends_it_at_the_start(service: Commands, tmp_path: Path) -> None:
    with Endpoint([Script()]) as endpoint:
        gone = service("listen", "--forward-to", endpoint.url, EXPORTS_API_URL="http://127.0.0.1:9")
    assert (gone.exit_code, gone.stdout) == (4, "")


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        (("--forward-to", "localhost:3000"), 2, "--forward-to must be the address"),
        (("--forward-to", "http://user@localhost"), 2, "--forward-to must be the address"),
        (("--forward-to", "http://localhost:99999/"), 2, "--forward-to must be the address"),
        (("--forward-to", "http://localhost", "--secret", "whsec_é"), 2, "--secret must be whsec_ and base64"),
        (("--forward-to", "http://localhost", "--partner", "br_nobody"), 3, "br_nobody"),
    ],
)
def test_mistakes_are_named(service: Commands, options: tuple[str, ...], code: int, part: str) -> None:
    result = service("listen", *options)
    assert (result.exit_code, part in result.stderr) == (code, True), result.stderr
