"""docs/start: each page, followed word for word from its first line, leads to its reader's first result."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pypdfium2
import pytest
import zxingcpp

from tests.conftest import OwnServer, skip_or_fail
from tests.support.client_package import build
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, poll
from tests.system.acceptance.pages import Box, PageReader, parse_boxes
from tests.system.acceptance.programs import ROOT
from tests.system.acceptance.test_readme import open_reader, start_box

pytestmark = pytest.mark.timeout(900)

#: The ports of the pages.
API_PORT: Final = "8000"
RECEIVER_PORT: Final = "8090"


#: How programs reach the package registries from this machine.
REGISTRIES: Final = {
    name: value
    for name, value in os.environ.items()
    if name.lower().startswith(("pip_", "ssl_", "requests_", "node_", "npm_config_"))
}


class Start:
    """A reader of one page of docs/start, whose boxes have the machine's own ports and addresses."""

    def __init__(self, reader: PageReader, page: str, url: str, own: Mapping[str, str]) -> None:
        self.reader = reader
        self.url = url
        self._own = own
        self._boxes = iter(parse_boxes((ROOT / "docs/start" / page).read_text(encoding="utf-8")))

    def read(self) -> Box:
        """Return the page's next box."""
        box = next(self._boxes)
        text = box.text
        for shown, own in self._own.items():
            text = text.replace(shown, own)
        return replace(box, text=text)

    def run(self, typed: str = "") -> str:
        """Run the next box to its end and return its output."""
        box = self.read()
        assert not box.keeps_running, f"line {box.line}"
        return self.reader.run_box(box, typed)

    def start_service(self) -> None:
        """Start the next box, which keeps running; return when the API answers."""
        box = self.read()
        assert box.keeps_running, f"line {box.line}"
        start_box(self.reader, box, self.url)

    def end(self) -> None:
        """Fail if the page has more boxes."""
        assert [*self._boxes] == []


@contextmanager
def follow(page: str, folder: Path, own: Mapping[str, str], **environment: str) -> Iterator[Start]:
    """Yield the reader of a page that starts in a clone of the repository."""
    port = str(free_port())
    url = f"http://{LOOPBACK}:{port}"
    settings = {
        "HOST": LOOPBACK,
        "EXPORTS_PORT": port,
        "EXPORTS_API_URL": url,
        "EXPORTS_PUBLIC_URL": url,
        **environment,
    }
    with open_reader(folder, settings) as reader:
        yield (start := Start(reader, page, url, {API_PORT: port, **own}))
        start.end()


def test_python_alone(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(build(ROOT, tmp_path / "wheel", "wheel"), folder)
    port = str(free_port())
    url = f"http://{LOOPBACK}:{port}"
    base = Path(sys.executable).resolve().parent
    # No package of this environment is found.
    path = os.pathsep.join([str(base), *(each for each in os.environ["PATH"].split(os.pathsep) if ".venv" not in each)])
    reader = PageReader(folder, {**REGISTRIES, "EXPORTS_PORT": port, "EXPORTS_API_URL": url}, path=path)
    start = Start(reader, "python.md", url, {})
    try:
        assert "exp_test_" in start.run()
        start.start_service()
        assert "✓ executed, accepted" in start.run()
        start.end()
        reader.stop(60)
    finally:
        reader.end()
    (invoice,) = folder.glob("documents/**/commercial_*invoice*.pdf")
    assert invoice.read_bytes().startswith(b"%PDF-")


@pytest.mark.servers
@pytest.mark.parametrize("server", [RabbitMQ, Redis])
def test_postgresql_with(
    server: type[RabbitMQ | Redis], tmp_path: Path, postgres_server: PostgreSQL, own_server: OwnServer
) -> None:
    own = {
        "postgresql://exports:PASSWORD@db.example/exports": postgres_server.fresh_url(owner="exports"),
        "amqp://exports:PASSWORD@mq.example/exports": own_server(server).fresh_url(),
    }
    with follow("postgresql.md", tmp_path, own) as start:
        assert "exp_test_" in start.run()
        start.start_service()
        printed = start.run()
    assert "✗" not in printed
    assert "✓ executed, accepted" in printed
    assert "EXPORT_EXECUTED" in printed


@pytest.mark.servers
def test_celery_application(tmp_path: Path, own_server: OwnServer) -> None:
    own = {"amqp://exports:PASSWORD@mq.example/exports": own_server(RabbitMQ).fresh_url()}
    with follow("celery.md", tmp_path, own) as start:
        start.run()
        start.start_service()
        start.reader.save_box(start.read())
        ordered = start.read()
        first, again = start.reader.run_box(ordered), start.reader.run_box(ordered)
    assert (export_ids := re.findall(r"exp_[0-9a-z]{20,}", first)) != []
    assert export_ids[0] in again


def test_node_program(tmp_path: Path) -> None:
    if missing := [tool for tool in ("node", "npm") if shutil.which(tool) is None]:
        skip_or_fail(f"{', '.join(missing)} is not installed; Debian's packages nodejs and npm have them")
    made = shutil.ignore_patterns("node_modules", "dist", "*.tgz", "schema.ts", "problems.ts")
    shutil.copytree(ROOT / "clients/typescript", tmp_path / "clients/typescript", ignore=made)
    # npm's audit asks a server that a registry in a closed network does not have.
    own = {"make client": f"make --directory={ROOT} client CLIENT={tmp_path}/clients/typescript"}
    with follow("node.md", tmp_path, own, npm_config_audit="false", **REGISTRIES) as start:
        start.run()
        start.start_service()
        start.run()
        start.reader.save_box(start.read())
        printed = start.run()
    assert re.search(r"^exp_\w+ executed \d+ documents$", printed, re.MULTILINE)


def test_warehouse_with_a_scanner(tmp_path: Path) -> None:
    if missing := [tool for tool in ("bash", "jq") if shutil.which(tool) is None]:
        skip_or_fail(f"{', '.join(missing)} is not installed; the Debian package has the same name")
    receiver = str(free_port())
    with follow("warehouse.md", tmp_path, {RECEIVER_PORT: receiver}) as start:
        start.run()
        start.start_service()
        start.run()
        started = start.reader.start_box(start.read())
        poll(lambda: "ready" in started.read_text().splitlines(), 60, "the receiver did not start")
        assert "✓ executed" in start.run()
        labels = scan_labels(tmp_path)
        ssccs = [re.sub(r"\D", "", label)[-18:] for label in labels]
        poll(lambda: all(each in started.read_text() for each in ssccs), 60, "a package did not arrive")
        desk = replace(start.read(), keeps_running=False)
        misread = f"{labels[0][:-1]}{(int(labels[0][-1]) + 1) % 10}"
        unknown = "106141411234567897"
        printed = start.reader.run_box(desk, "\n".join([*labels, labels[0], misread, unknown, ""]))
    *packed, again, wrong, foreign = printed.splitlines()
    assert [line.split()[:2] for line in packed] == [[f"{sscc}:", "packed"] for sscc in ssccs] != []
    assert "was packed before" in again
    assert "check digit is wrong" in wrong
    assert "UNKNOWN" in foreign


def scan_labels(folder: Path) -> list[str]:
    """Return what a scanner types for each page of the package labels."""
    (path,) = folder.rglob("documents/**/package_labels*.pdf")
    with pypdfium2.PdfDocument(path) as pdf:
        pages = [page.render(scale=3).to_pil() for page in pdf]
    return [each.text for page in pages for each in zxingcpp.read_barcodes(page) if each.symbology_identifier == "]C1"]
