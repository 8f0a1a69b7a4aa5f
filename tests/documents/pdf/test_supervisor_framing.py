"""The PDF engine: a stream that is out of step is never used again, and limits of the machine are outages."""

import json
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO, Final

import pytest

from pipeline.core.errors import RendererCrashed, RendererUnavailable
from pipeline.documents.formats.invoice_pdf import TEMPLATE
from pipeline.documents.pdf import supervisor as keeper
from pipeline.documents.pdf.supervisor import Renderer, RendererLimits
from pipeline.documents.pdf.worker import (
    ADDRESS_SPACE_BYTES,
    LEAST_MEMORY_BYTES,
    PROGRAM,
    EngineMessage,
    TypstEngine,
    read_message,
    serve,
    write_message,
)
from tests.documents.samples import WHOLE, sample
from tests.support.interpreter import ROOT
from tests.system.faults import late_engine, silent_engine

pytestmark = pytest.mark.system


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    renderer = Renderer()
    yield renderer
    renderer.close()


def build_lines_invoice(renderer: Renderer, lines: int) -> bytes:
    """Return an invoice with this number of lines."""
    return renderer.set_document(TEMPLATE.name, TEMPLATE.facts(sample(lines), slice(0, lines)), WHOLE, 0)


@pytest.fixture(scope="module")
def expected_documents() -> dict[int, bytes]:
    """Return the documents of an engine without a fault."""
    undisturbed = Renderer()
    try:
        return {lines: build_lines_invoice(undisturbed, lines) for lines in (1, 2, 3)}
    finally:
        undisturbed.close()


def check_in_step(renderer: Renderer, expected_documents: dict[int, bytes]) -> None:
    """Assert that the engine was ended, and that the next one answers each request with its own document."""
    assert renderer.pid is None
    assert {lines: build_lines_invoice(renderer, lines) for lines in expected_documents} == expected_documents


@pytest.mark.parametrize("begun", [False, True])
def test_failed_thread_start_keeps_responses_in_step(
    renderer: Renderer, expected_documents: dict[int, bytes], monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    if begun:
        build_lines_invoice(renderer, 3)
    with monkeypatch.context() as few:
        few.setattr(threading.Timer, "start", refuse)
        with pytest.raises(RendererUnavailable, match="can't start new thread"):
            build_lines_invoice(renderer, 3)
    check_in_step(renderer, expected_documents)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, ValueError])
def test_unread_response_keeps_responses_in_step(
    renderer: Renderer,
    expected_documents: dict[int, bytes],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    *,
    begun: bool,
) -> None:
    def fail(_: BinaryIO) -> EngineMessage | None:
        raise error

    if begun:
        build_lines_invoice(renderer, 3)
    with monkeypatch.context() as broken:
        broken.setattr(keeper, "read_message", fail)
        with pytest.raises(error):
            build_lines_invoice(renderer, 3)
    check_in_step(renderer, expected_documents)


@pytest.mark.parametrize("whole", [False, True])
def test_partial_request_keeps_responses_in_step(
    renderer: Renderer, expected_documents: dict[int, bytes], monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    def fail(stream: BinaryIO, message: EngineMessage) -> None:
        if whole:
            write_message(stream, message)
        else:
            stream.write(b"\0\0")
        raise MemoryError

    build_lines_invoice(renderer, 3)
    with monkeypatch.context() as broken:
        broken.setattr(keeper, "write_message", fail)
        with pytest.raises(MemoryError):
            build_lines_invoice(renderer, 3)
    check_in_step(renderer, expected_documents)


def test_response_to_other_request_is_discarded() -> None:
    renderer = Renderer(engine=late_engine.__name__)
    for number in (1, 2):
        reason_text = (
            f"the PDF engine answered request {number} with number {number - 1} and was stopped at {TEMPLATE.name}"
        )
        with pytest.raises(RendererCrashed, match=f"^{reason_text}$"):
            build_lines_invoice(renderer, 1)
        assert renderer.pid is None


def test_start_message_is_not_a_response(expected_documents: dict[int, bytes]) -> None:
    class Hasty(Renderer):
        """A renderer that treats the engine as started before it reads the engine's first message."""

        unread = True

        def _exchange(
            self, process: Any, seconds: float, asked: EngineMessage | None
        ) -> tuple[EngineMessage | None, bool]:
            if asked is None and self.unread:
                self.unread = False
                return EngineMessage({"program": PROGRAM}), False
            return super()._exchange(process, seconds, asked)

    renderer = Hasty()
    try:
        with pytest.raises(RendererCrashed, match="answered request 1 with number None"):
            build_lines_invoice(renderer, 1)
        assert build_lines_invoice(renderer, 2) == expected_documents[2]
    finally:
        renderer.close()


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
