"""README.md, "Run it": the paths of one process and of production, followed literally in an empty folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.conftest import OwnServer
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import PostgreSQL, Redis, poll
from tests.system.acceptance.pages import Box, PageReader, parse_boxes
from tests.system.acceptance.programs import ROOT

SECONDS: Final = 240.0
STOP_SECONDS: Final = 60.0

ADDRESSES: Final = ("DATABASE_URL", "BROKER_URL", "ARTIFACTS_URL", "EXPORTS_PUBLIC_URL", "PORT")


def find_path(name: str, following: str) -> list[Box]:
    """Return the boxes of the path that begins with the bold `name`, up to the path `following`."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    return parse_boxes(page.split(f"\n**{name}.** ")[1].split(f"\n**{following}.** ")[0])


ONE_PROCESS: Final = find_path("One process", "In production")
IN_PRODUCTION: Final = find_path("In production", "On many machines")


@contextmanager
def open_reader(folder: Path, environment: Mapping[str, str]) -> Iterator[PageReader]:
    """Yield a reader in a fresh clone after `make setup`; its terminal does not find the commands yet."""
    for name in ("Procfile", "examples"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    programs = Path(sys.prefix) / "bin"
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if Path(each) != programs)
    page_reader = PageReader(folder, environment, path=path)
    try:
        yield page_reader
        page_reader.stop(STOP_SECONDS)
    finally:
        page_reader.end()


def answers(url: str) -> bool:
    """Return whether the API is alive."""
    try:
        return httpx.get(f"{url}/livez", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def start_box(page_reader: PageReader, box: Box, url: str) -> None:
    """Start a box that keeps running; return when the API answers."""
    output = page_reader.start_box(box)
    try:
        poll(partial(answers, url), SECONDS, "the API does not answer")
    except TimeoutError:
        pytest.fail(output.read_text(encoding="utf-8")[-6000:])


@pytest.mark.timeout(900)
def test_path_of_one_process(tmp_path: Path) -> None:
    prepare, serve, execute = ONE_PROCESS
    assert [box.keeps_running for box in ONE_PROCESS] == [False, True, False]
    port = str(free_port())
    url = f"http://{LOOPBACK}:{port}"
    with open_reader(tmp_path, {"EXPORTS_PORT": port, "EXPORTS_API_URL": url}) as page_reader:
        assert "exp_test_" in page_reader.run_box(prepare)
        start_box(page_reader, serve, url)
        assert "✓ executed" in page_reader.run_box(execute)


@pytest.mark.timeout(900)
@pytest.mark.servers
def test_path_of_production(tmp_path: Path, postgres_server: PostgreSQL, own_server: OwnServer) -> None:
    prepare, start = IN_PRODUCTION
    assert [box.keeps_running for box in IN_PRODUCTION] == [False, True]
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    own = {
        "DATABASE_URL": postgres_server.fresh_url(owner="exports"),
        "BROKER_URL": own_server(Redis).fresh_url(),
        "ARTIFACTS_URL": f"file:{tmp_path / 'artifacts'}",
        "EXPORTS_PUBLIC_URL": url,
        "PORT": str(port),
    }
    with open_reader(tmp_path, {"HOST": LOOPBACK, "EXPORTS_API_URL": url}) as page_reader:
        assert "exp_test_" in page_reader.run_box(with_addresses(prepare, own))
        start_box(page_reader, start, url)
        assert "✓ executed" in page_reader.run_box(ONE_PROCESS[-1])


def with_addresses(box: Box, own: Mapping[str, str]) -> Box:
    """Return the box with the reader's own addresses in the line that leaves them open; the rest stays the same."""
    (line,) = [line for line in box.text.splitlines() if line.startswith("$ export DATABASE_URL=")]
    assert tuple(re.findall(r"(\w+)=", line)) == ADDRESSES
    exported = " ".join(f"{name}='{own[name]}'" for name in ADDRESSES)
    return replace(box, text=box.text.replace(line, f"$ export {exported}"))
