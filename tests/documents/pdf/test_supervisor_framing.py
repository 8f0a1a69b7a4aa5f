"""A response of the PDF engine belongs to its request: a stream that is out of step is never used again."""

import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from pipeline.core.errors import RendererCrashed, RendererUnavailable
from pipeline.documents.formats.invoice_pdf import TEMPLATE
from pipeline.documents.pdf import supervisor as keeper
from pipeline.documents.pdf.supervisor import Renderer
from pipeline.documents.pdf.worker import PROGRAM, EngineMessage, write_message
from tests.documents.samples import WHOLE, sample
from tests.system.faults import late_engine

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
