"""docs/partners.md, run box by box against the running service, as its readers would."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col

from config import queues
from pipeline.accounts.models import Partner
from tests.conftest import skip_or_fail
from tests.support.ports import free_port
from tests.support.servers import poll
from tests.support.sftp_server import PASSWORD, SftpServer
from tests.system.acceptance.installation import Distributed
from tests.system.acceptance.pages import Box, PageReader, find_differences, parse_boxes
from tests.system.acceptance.programs import ROOT

PAGE = ROOT / "docs" / "partners.md"
TOOLS = ("bash", "curl", "jq")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's folder, with the examples and the files of the broker's SFTP server."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "files").mkdir()
    return tmp_path


@pytest.fixture
def page_reader(on_rabbitmq: Distributed, folder: Path) -> Iterator[PageReader]:
    """A reader with the service's own settings and an SFTP server."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        skip_or_fail(f"{', '.join(missing)} is not installed; the Debian package has the same name")
    with on_rabbitmq.runtime.db.write() as session:
        # On the page the partner ids are unique. Here accounts of other tests may have the same ids, so prefix the
        # account.
        named = col(Partner.account_id) + ":" + col(Partner.id)
        session.execute(update(Partner).where(col(Partner.routing_name).is_not(None)).values(routing_name=named))
    with SftpServer(folder / "files") as files:
        (folder / "host_key.pub").write_text(files.host_key.export_public_key().decode())
        (folder / "password.txt").write_text(PASSWORD)
        ports = {"PORT": str(free_port()), "SFTP_PORT": str(files.port)}
        followed = PageReader(
            folder, on_rabbitmq.environment | ports | {"EXPORTS_API_URL": on_rabbitmq.url, "PYTHONPATH": str(ROOT)}
        )
        yield followed
        followed.end()


def has_started(output: Path) -> bool:
    """Return whether the running box says that it is ready."""
    return "ready" in output.read_text(encoding="utf-8").splitlines()


def count_packages(path: Path, export_id: str) -> int:
    """Return how many packages of the export the warehouse has stored."""
    with closing(sqlite3.connect(path)) as store:
        (found,) = store.execute("SELECT count(*) FROM packages WHERE export_id = ?", (export_id,)).fetchone()
        return int(found)


@pytest.mark.timeout(600)
def test_every_box_of_the_page_works(page_reader: PageReader, on_rabbitmq: Distributed, folder: Path) -> None:
    printed = ""
    wrong: list[str] = []
    read = parse_boxes(PAGE.read_text(encoding="utf-8"))
    for box in read:
        match box.language:
            case "sh" if box.keeps_running:
                output = page_reader.start_box(box)
                poll(partial(has_started, output), 60, f"line {box.line} did not start: {output.read_text()}")
            case "sh" | "python":
                printed = page_reader.run_box(box)
            case "json" | "text":
                wrong += [f"line {box.line}: {each}" for each in find_differences(box.text, printed)]
            case other:
                pytest.fail(f"line {box.line}: cannot check a box with {other or 'no language'}")
    assert wrong == []
    assert {"sh", "python", "json", "text"} == {box.language for box in read}

    def status(batch: str) -> str:
        command = f"exports inspect {batch} --json | jq -r .broker_submission.submission_status"
        return page_reader.run_box(Box("sh", keeps_running=False, text=command, line=0)).strip()

    assert (status("batch_hook_1"), status("batch_2026_1124_01")) == ("accepted", "rejected")
    poll(lambda: status("batch_files_1") == "filed", 60, "the answer in the file was not read")
    assert not list((folder / "files" / "in").glob("*.json"))
    last = json.loads((folder / "inspect.json").read_bytes())["exportId"]
    poll(
        lambda: count_packages(folder / "warehouse.db", last) == 5, 60, "the warehouse's kit did not store the packages"
    )
    with closing(sqlite3.connect(folder / "broker.db")) as store:
        assert store.execute("SELECT state, answered FROM handoffs").fetchall() == [("to file", 1)]
    refused = [each for each in on_rabbitmq.files.received_messages() if each.queue == queues.REFUSED]
    assert [each.body["pointer"] for each in refused if each.properties["correlation_id"] == "command-1"] == [
        "/idempotencyKey"
    ]


def test_find_differences_compares_shown_and_real_output() -> None:
    actual = '{"id": "exp_01m8924t8yaznq1dncr1hrscjj", "n": [1, 2], "more": {"a": "x"}}'
    assert find_differences('{"id": "exp_01m893tx5yp5dtec4mncxctrfy", "n": [1, "..."], "...": "..."}', actual) == []
    assert find_differences('{"id": "sub_01m893tx5yp5dtec4mncxctrfy", "n": [1, "..."], "...": "..."}', actual)
    assert find_differences('{"n": [1, 2]}', actual)
    assert find_differences('{"id": "exp_01m893tx5yp5dtec4mncxctrfy", "n": [2, "..."], "...": "..."}', actual)
    assert find_differences('{"n": [1], "...": "..."}', actual)
    assert find_differences('{"n": [1, 2, 3, "..."], "...": "..."}', actual)
    assert find_differences('{"n": ["1", 2], "...": "..."}', actual)
    assert find_differences('{"more": {"b": "x", "...": "..."}, "...": "..."}', actual)
    assert find_differences("command-0 is done", "command-1 is done")
    assert find_differences("at 2026-11-25T10:22:19Z\n", "at 2026-11-24T09:00:00.5Z\n") == []
    assert find_differences('{"date": "2026-11-24"}', '{"date": "2027-03-01"}') == []
    assert find_differences('{"date": "2026-11-24"}', '{"date": "24 November"}')


def test_parse_boxes_finds_every_fence() -> None:
    assert [
        (box.language, box.keeps_running, box.line) for box in parse_boxes('a\n```sh title="keeps running"\nb\n```\n')
    ] == [("sh", True, 2)]
    for page in ("```sh\nb\n", "  ```sh\nb\n  ```\n"):
        with pytest.raises(AssertionError):
            parse_boxes(page)
