"""Pictures of the pages of PDFs: right, kept, limited, and harmless if the file is not."""

import os
import signal
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest

from pipeline.core.cache import Kept
from pipeline.core.errors import RendererCrashed, RendererUnavailable, StepFailed
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.pdf import pictures
from pipeline.documents.pdf.picture_worker import encode_png
from pipeline.documents.pdf.pictures import WIDTH, PictureRenderer
from tests.documents.samples import sample
from tests.support.servers import poll


@pytest.fixture
def renderer() -> Iterator[PictureRenderer]:
    renderer = PictureRenderer()
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def pdf() -> bytes:
    return invoice_pdf(sample(30))


class Reader:
    """Returns the bytes of a document, and counts how often."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.sha256 = sha256(body).hexdigest()
        self.reads = 0

    def __call__(self) -> bytes:
        self.reads += 1
        return self.body


def read_png(picture: bytes) -> tuple[int, int, bytes]:
    """Return the width, the height and the rows of a PNG; checks every checksum."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        name, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        assert struct.unpack(">I", picture[at + 8 + length : at + 12 + length]) == (zlib.crc32(name + data),)
        parts[name] = data
        at += 12 + length
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    return width, height, zlib.decompress(parts[b"IDAT"])


def test_pages_are_counted_and_drawn_once(renderer: PictureRenderer, pdf: bytes) -> None:
    read = Reader(pdf)
    pages = renderer.count_pdf_pages(read.sha256, read)
    assert pages > 2
    drawn = [renderer.draw_page(read.sha256, page, read) for page in (1, 2)]
    assert drawn[0] != drawn[1]
    reads = read.reads
    assert renderer.draw_page(read.sha256, 1, read) == drawn[0]
    assert renderer.count_pdf_pages(read.sha256, read) == pages
    assert read.reads == reads
    width, height, rows = read_png(drawn[0])
    assert abs(width - WIDTH) <= 1
    assert 1.2 < height / width < 1.5
    # A page of text: mostly white, and not only white.
    assert 0.5 < rows.count(0xFF) / len(rows) < 0.99


def test_png_has_the_given_pixels() -> None:
    rows = bytes(range(12)) + b"\x99" * 4 + bytes(range(12, 24)) + b"\x99" * 4
    assert read_png(encode_png(memoryview(rows), 4, 2, 16)) == (
        4,
        2,
        b"\0" + bytes(range(12)) + b"\0" + bytes(range(12, 24)),
    )


@pytest.mark.parametrize(
    "spoil", [lambda pdf: b"", lambda pdf: b"not a PDF", lambda pdf: pdf[:600], lambda pdf: pdf[::-1]]
)
def test_broken_file_is_refused_and_the_next_one_drawn(
    renderer: PictureRenderer, pdf: bytes, spoil: Callable[[bytes], bytes]
) -> None:
    broken, whole = Reader(spoil(pdf)), Reader(pdf)
    with pytest.raises(StepFailed, match="PDFium cannot read the document"):
        renderer.count_pdf_pages(broken.sha256, broken)
    assert renderer.draw_page(whole.sha256, 1, whole)


def test_page_that_does_not_exist_is_refused(renderer: PictureRenderer, pdf: bytes) -> None:
    read = Reader(pdf)
    with pytest.raises(StepFailed, match="no page 999"):
        renderer.draw_page(read.sha256, 999, read)


def test_very_long_page_is_drawn_smaller(renderer: PictureRenderer) -> None:
    page = b"/Type/Page/Parent 2 0 R/MediaBox[0 0 10 14000]"
    body = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<<" + page + b">>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )
    read = Reader(body)
    width, height, _ = read_png(renderer.draw_page(read.sha256, 1, read))
    assert width < WIDTH
    assert height <= WIDTH * 3 + 1


def test_killed_process_is_an_error_and_the_next_request_starts_another(renderer: PictureRenderer, pdf: bytes) -> None:
    read = Reader(pdf)
    renderer.draw_page(read.sha256, 1, read)
    pid = renderer.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    failures: list[Exception] = []

    def draw() -> None:
        try:
            renderer.draw_page(read.sha256, 2, read)
        except RendererCrashed as crashed:
            failures.append(crashed)

    thread = threading.Thread(target=draw)
    thread.start()
    os.kill(pid, signal.SIGKILL)
    thread.join(20)
    assert len(failures) <= 1  # the death may be noticed before the request begins
    assert renderer.draw_page(read.sha256, 2, read)
    assert renderer.pid != pid


def test_too_many_waiting_threads_are_refused_at_once(renderer: PictureRenderer, pdf: bytes) -> None:
    may_go_on = threading.Event()

    def read_slowly() -> bytes:
        may_go_on.wait(20)
        return pdf

    threads = [
        threading.Thread(target=renderer.draw_page, args=(f"{number:064d}", 1, read_slowly))
        for number in range(pictures.MAX_WAITING)
    ]
    for thread in threads:
        thread.start()
    try:
        poll(lambda: renderer.waiting == pictures.MAX_WAITING, seconds=5)
        with pytest.raises(RendererUnavailable, match="load the page again"):
            renderer.draw_page("f" * 64, 1, lambda: pdf)
    finally:
        may_go_on.set()
        for thread in threads:
            thread.join(30)
    assert renderer.waiting == 0


def test_kept_pictures_are_bounded(renderer: PictureRenderer, pdf: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Reader(pdf)
    monkeypatch.setattr(renderer, "_pictures", Kept(len(renderer.draw_page(read.sha256, 1, read)) + 10, size=len))
    for page in (1, 2):
        renderer.draw_page(read.sha256, page, read)
    reads = read.reads
    renderer.draw_page(read.sha256, 1, read)
    assert read.reads == reads + 1
