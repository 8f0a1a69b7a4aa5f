"""README.md, followed literally: its service of one process, and the requests to a service."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.conftest import skip_or_fail
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import poll
from tests.system.acceptance.pages import Box, PageReader, parse_boxes
from tests.system.acceptance.programs import ROOT

SECONDS: Final = 240.0
STOP_SECONDS: Final = 60.0


FIRST, REQUEST, COMMANDS, PREPARE, SERVE, EXECUTE = parse_boxes((ROOT / "README.md").read_text(encoding="utf-8"))


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


def test_first_box_names_targets_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {line.split()[1] for line in FIRST.commands.splitlines()} == {"demo", "test"} <= targets


@pytest.mark.timeout(900)
def test_plan_is_executed_at_the_demo(tmp_path: Path) -> None:
    if missing := [tool for tool in ("curl", "jq") if shutil.which(tool) is None]:
        skip_or_fail(f"{', '.join(missing)} is not installed; the Debian package has the same name")
    with open_reader(tmp_path, {}) as page_reader:
        page_reader.run_box(Box("console", keeps_running=False, text="$ source .venv/bin/activate\n", line=0))
        output = page_reader.start_box(Box("console", keeps_running=True, text="$ exports demo --serve\n", line=0))
        poll(lambda: "export EXPORTS_API_URL=" in output.read_text(), SECONDS, "the demo does not serve")
        (line,) = [line.strip() for line in output.read_text().splitlines() if "export EXPORTS_API_URL=" in line]
        page_reader.run_box(Box("console", keeps_running=False, text=f"$ {line}\n", line=0))
        assert re.match(r"HTTP/1.1 20[02] ", page_reader.run_box(REQUEST))
        assert "✓ executed" in page_reader.run_box(COMMANDS)
    assert [*tmp_path.glob("documents/**/*.pdf")] != []


@pytest.mark.timeout(900)
def test_one_process_executes_a_plan(tmp_path: Path) -> None:
    port = str(free_port())
    url = f"http://{LOOPBACK}:{port}"
    with open_reader(tmp_path, {"EXPORTS_PORT": port, "EXPORTS_API_URL": url}) as page_reader:
        assert "exp_test_" in page_reader.run_box(PREPARE)
        start_box(page_reader, SERVE, url)
        assert "✓ executed" in page_reader.run_box(EXECUTE)
