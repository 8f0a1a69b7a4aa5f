"""The limits of the machine for the PDF engine: lower limits are kept; too little memory is an outage, not a crash."""

import json
import resource
import shutil
import subprocess
import sys
from io import BytesIO
from typing import Any, Final

import pytest

from pipeline.core.errors import RendererUnavailable
from pipeline.documents.pdf.supervisor import Renderer, RendererLimits
from pipeline.documents.pdf.worker import (
    ADDRESS_SPACE_BYTES,
    LEAST_MEMORY_BYTES,
    EngineMessage,
    TypstEngine,
    read_message,
    serve,
    write_message,
)
from tests.support.interpreter import ROOT
from tests.system.faults import silent_engine

pytestmark = pytest.mark.system

#: A program that sets an invoice, and prints the limits of the engine and whether it is kept for the next document.
SETS: Final = """
import json, psutil
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.core.errors import ExportsError
from tests.documents.samples import sample
said = {}
try:
    RENDERER.start()
    first = RENDERER.pid
    said["space"] = psutil.Process(first).rlimit(psutil.RLIMIT_AS)[1]
    said["begins"] = invoice_pdf(sample(3))[:5].decode()
    said["kept"] = RENDERER.pid == first
except ExportsError as error:
    said["error"] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""

needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux sets the limits")


def run_limited(limits: list[str], *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return the result of the command under the limits, each an option of prlimit."""
    return subprocess.run(
        ["prlimit", *limits, *command],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def render_under(*limits: str) -> dict[str, Any]:
    """Return the result of setting an invoice under the limits."""
    ended = run_limited([*limits], sys.executable, "-c", SETS)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


@needs_prlimit
@pytest.mark.parametrize(
    ("limit", "space", "kept"),
    [
        ("--as=2900000000", 2_900_000_000, True),
        (f"--as={LEAST_MEMORY_BYTES}", LEAST_MEMORY_BYTES, True),
        (f"--data={LEAST_MEMORY_BYTES}", ADDRESS_SPACE_BYTES, True),
        ("--nofile=32", ADDRESS_SPACE_BYTES, True),
        ("--cpu=600", ADDRESS_SPACE_BYTES, True),
        # Less processor time is left than a document may take, so a new engine gets the next document.
        ("--cpu=30", ADDRESS_SPACE_BYTES, False),
    ],
)
def test_sufficient_machine_limit_is_kept(limit: str, space: int, *, kept: bool) -> None:
    assert render_under(limit) == {"space": space, "begins": "%PDF-", "kept": kept}


@needs_prlimit
@pytest.mark.parametrize(
    ("limit", "report"),
    [
        (
            "--as=500000000",
            "this process may use 476 MB of address space (RLIMIT_AS), but a document may need 640 MB; raise the limit",
        ),
        (
            "--data=300000000",
            "this process may use 286 MB of data (RLIMIT_DATA), but a document may need 640 MB; raise the limit",
        ),
        ("--nofile=6", "[Errno 24] Too many open files"),
    ],
)
def test_insufficient_limit_is_outage_that_names_it(limit: str, report: str) -> None:
    kind, sentence = render_under(limit)["error"]
    assert kind == RendererUnavailable.__name__
    assert sentence == (
        f"the PDF engine cannot work on this machine: {report}; run `exports doctor` on it, under the same limits"
    )


@pytest.mark.parametrize(
    ("engine", "end"),
    [
        ("pipeline.documents.none", "it died with code 1"),
        (silent_engine.__name__, "it took longer than 0.2 s and was stopped"),
    ],
)
def test_engine_that_never_becomes_ready_is_outage(engine: str, end: str) -> None:
    renderer = Renderer(RendererLimits(start_seconds=0.2 if engine == silent_engine.__name__ else 30), engine)
    for _ in range(2):
        with pytest.raises(RendererUnavailable, match=f": {end}; run `exports doctor` on it"):
            renderer.start()
        assert renderer.pid is None


def test_missing_program_is_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RendererUnavailable, match="No such file or directory: '/nowhere/python'"):
        Renderer().count_pages("packing_list.typ", b"{}", {})


def test_machine_failure_is_outage_not_document_error() -> None:
    class Roomless(TypstEngine):
        def handle_request(self, request: EngineMessage) -> EngineMessage:
            raise OSError(28, "No space left on device")

    asked, answered = BytesIO(), BytesIO()
    write_message(asked, EngineMessage({"task": "set", "number": 1, "seconds": 60, "cpu_seconds": 30}, [b"{}"]))
    asked.seek(0)
    limits = resource.getrlimit(resource.RLIMIT_CPU)
    try:
        serve(asked, answered, Roomless())
    finally:  # it limits the process that it runs in, which would end the tests
        resource.setrlimit(resource.RLIMIT_CPU, limits)
    answered.seek(0)
    answer = read_message(answered)
    assert answer is not None
    assert (answer.head["unavailable"], answer.bodies) == ("[Errno 28] No space left on device", [])
