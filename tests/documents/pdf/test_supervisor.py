"""The printed documents: complete, numbered, small, in the vendored fonts, set by a process that may die."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import pytest
from pypdf import PdfReader

from pipeline.core.errors import RendererCrashed, RendererUnavailable, StepFailed
from pipeline.documents.formats import invoice_pdf as invoice_kind
from pipeline.documents.formats import packing_list as packing_kind
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.formats.packing_list import packing_list_pdf
from pipeline.documents.pdf import supervisor
from pipeline.documents.pdf.supervisor import ROOT, Renderer, RendererLimits
from pipeline.documents.pdf.typesetter import PART_CHARACTERS, WHOLE_CHARACTERS, plan_parts, split_rows, typeset
from pipeline.documents.pdf.worker import EngineMessage, write_message
from tests.documents.samples import WHOLE, sample
from tests.support.servers import lives, poll

pytestmark = pytest.mark.system


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    renderer = Renderer()
    yield renderer
    renderer.close()


def reader(body: bytes) -> PdfReader:
    return PdfReader(BytesIO(body))


def remove_spaces(body: bytes) -> str:
    """Return the text of a PDF without spaces, so that line breaks do not matter."""
    return "".join("".join(page.extract_text() for page in reader(body).pages).replace("\u200b", "").split())


def fonts(body: bytes) -> dict[str, bool]:
    """Return the fonts of a PDF, each with whether it is embedded."""
    found: dict[str, bool] = {}
    for page in reader(body).pages:
        resources: Any = page["/Resources"]
        for font in resources["/Font"].values():
            whole = font.get_object()
            descriptor = whole["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
            embedded = any(key in descriptor for key in ("/FontFile", "/FontFile2", "/FontFile3"))
            found[str(whole["/BaseFont"]).split("+")[-1]] = embedded
    return found


def test_new_engine_after_an_upgrade_of_its_files_sets_what_this_process_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, renderer: Renderer
) -> None:
    for folder in ("config", "pipeline", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(supervisor, "ROOT", tmp_path)
    invoice = sample(3)
    parts = [slice(0, len(invoice.packages))]
    before = typeset(invoice, packing_kind.TEMPLATE, parts, renderer)
    for path in (tmp_path / "templates/documents").iterdir():
        path.write_text("a fact of another version", encoding="utf-8")
    renderer.close()
    assert typeset(invoice, packing_kind.TEMPLATE, parts, renderer) == before

    renderer.close()
    with (tmp_path / "pipeline/documents/pdf/worker.py").open("a") as file:
        file.write("# another version\n")
    with pytest.raises(RendererUnavailable, match="changed after the start of this process; restart it"):
        typeset(invoice, packing_kind.TEMPLATE, parts, renderer)
    assert renderer.pid is None


def test_fonts_are_vendored_and_embedded() -> None:
    got = fonts(invoice_pdf(sample(3, change={"parties/buyer/name": "شركة أدوات บริษัท 주식회사 रसोई"})))
    assert all(got.values())
    names = {name.removesuffix("-Identity-H") for name in got}
    assert names == {
        "Inter-Regular", "Inter-SemiBold", "Inter-Bold", "DroidSansFallback", "NanumSquareR",
        "NotoSansArabic-Regular", "NotoSansThai-Regular", "NotoSansDevanagari-Regular",
    }  # fmt: skip


def test_every_page_shows_number_and_total() -> None:
    for body in (invoice_pdf(sample(40)), packing_list_pdf(sample(60))):
        pages = reader(body).pages
        assert len(pages) > 1
        for number, page in enumerate(pages, start=1):
            assert f"Page {number} of {len(pages)}" in page.extract_text()


def test_facts_of_invoice_are_on_page() -> None:
    text = remove_spaces(invoice_pdf(sample(3)))
    for fact in (
        "INV-10045", "MapleGoodsLtd", "LakesideKitchenSupplyInc.", "12-3456789XX", "DAPBuffaloNY", "0901",
        "ABCD1234567", "Fryingpan,stainlesssteel,forhouseholdcooking", "7323.93.0045", "XOMAPGOO400TOR", "9903.82.09",
        "meltedandpouredCA", "FDAFD1", "disclaimedA", "300.00", "USD916.50", "44.4kg", "3cartons,1pallet", "Freight",
        "compliance@maple-goods.example", "佛山家居用品有限公司", "CP-2026-000042",
    ):  # fmt: skip
        assert fact in text, fact


def test_document_in_parts_has_continuous_pages_and_all_rows(renderer: Renderer) -> None:
    invoice = sample(60)
    body = typeset(invoice, invoice_kind.TEMPLATE, split_rows([1] * 60, limit=25), renderer)
    pages = reader(body).pages
    for number, page in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in page.extract_text()
    text = remove_spaces(body)
    for line in invoice.lines:
        assert line.treatment_digest in text
    assert text.count("Invoicetotal") == 1
    assert text.count("SELLERANDEXPORTER") == 1
    again = typeset(invoice, invoice_kind.TEMPLATE, split_rows([1] * 60, limit=25), renderer)
    assert again == body


def test_packing_list_in_parts_loses_no_package(renderer: Renderer) -> None:
    invoice = sample(30)
    text = remove_spaces(typeset(invoice, packing_kind.TEMPLATE, split_rows([1] * 32, limit=10), renderer))
    for box in invoice.packages:
        assert box.mark.shown.replace(" ", "") in text


def test_parts_cover_all_rows_once() -> None:
    assert split_rows([5, 5, 5], limit=10) == [slice(0, 2), slice(2, 3)]
    assert split_rows([50, 5, 50], limit=10) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert split_rows([1], limit=10) == [slice(0, 1)]


def test_document_is_set_whole_if_memory_allows() -> None:
    assert plan_parts([WHOLE_CHARACTERS // 2, WHOLE_CHARACTERS // 2]) == [slice(0, 2)]
    assert plan_parts([PART_CHARACTERS] * 3) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert plan_parts([WHOLE_CHARACTERS * 2]) == [slice(0, 1)]


def test_text_longer_than_page_is_printed_completely() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["treatment"]["pga"][0]["data"] = {
            f"f{n}": f"word{n} " + "filler " * 130 + "end" for n in range(30)
        }

    text = remove_spaces(invoice_pdf(sample(1, change=change)))
    for number in range(30):
        assert f"F{number}:word{number}filler" in text


def test_missing_fact_fails_template(renderer: Renderer) -> None:
    for template in ("commercial_customs_invoice.typ", "packing_list.typ"):
        with pytest.raises(StepFailed, match="dictionary does not contain key"):
            renderer.set_document(template, b"{}", WHOLE, 0)
    assert renderer.pid is not None


def test_killed_engine_is_reported_and_replaced(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = invoice_kind.TEMPLATE.facts(sample(3), slice(0, 3))
    before = renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
    pid = renderer.pid
    assert pid is not None
    # A stopped process cannot answer, so it dies while it has the request.
    os.kill(pid, signal.SIGSTOP)

    def write_and_kill(stream: BinaryIO, asked: EngineMessage) -> None:
        write_message(stream, asked)
        os.kill(pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.documents.pdf.supervisor.write_message", write_and_kill)
        with pytest.raises(RendererCrashed, match="SIGKILL"):
            renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
    assert renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0) == before
    assert renderer.pid != pid


def test_engine_that_hangs_is_killed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer()
    facts = invoice_kind.TEMPLATE.facts(sample(1), slice(0, 1))
    renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
    pid = renderer.pid
    assert pid is not None
    # Set the limit only now: a busy machine may need this long for a normal document.
    monkeypatch.setattr(renderer, "_limits", RendererLimits(seconds=0.5))
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(RendererCrashed):
        renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
    assert time.monotonic() - started < RendererLimits().seconds / 2
    assert not psutil.pid_exists(pid)


def test_engine_is_replaced_by_count_and_memory() -> None:
    facts = invoice_kind.TEMPLATE.facts(sample(1), slice(0, 1))
    for limits in (RendererLimits(requests=1), RendererLimits(resident_bytes=1)):
        renderer = Renderer(limits)
        renderer.start()
        first = renderer.pid
        renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
        second = renderer.pid
        assert second not in (None, first), "the next one starts before it is needed"
        renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
        assert renderer.pid not in (None, first, second)
        renderer.close()


def test_engine_that_dies_before_its_first_document_is_replaced() -> None:
    facts = invoice_kind.TEMPLATE.facts(sample(1), slice(0, 1))
    renderer = Renderer(RendererLimits(requests=1))
    renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0)
    assert renderer.pid is not None
    psutil.Process(renderer.pid).kill()
    psutil.Process(renderer.pid).wait(10)
    assert renderer.set_document(invoice_kind.TEMPLATE.name, facts, WHOLE, 0).startswith(b"%PDF")
    renderer.close()


def test_one_renderer_serves_many_threads(renderer: Renderer) -> None:
    facts = [invoice_kind.TEMPLATE.facts(sample(lines), slice(0, lines)) for lines in (1, 2, 3)]
    alone = [renderer.set_document(invoice_kind.TEMPLATE.name, fact, WHOLE, 0) for fact in facts]
    got: dict[int, bytes] = {}

    def work(at: int) -> None:
        got[at] = renderer.set_document(invoice_kind.TEMPLATE.name, facts[at % 3], WHOLE, 0)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(got[at] == alone[at % 3] for at in range(12))


def test_engine_gets_no_environment_variables(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@localhost/db")
    renderer.set_document(invoice_kind.TEMPLATE.name, invoice_kind.TEMPLATE.facts(sample(1), slice(0, 1)), WHOLE, 0)
    assert renderer.pid is not None
    assert "DATABASE_URL" not in psutil.Process(renderer.pid).environ()


def test_engine_ends_if_parent_is_killed() -> None:
    script = (
        "import time\n"
        "from tests.documents.samples import sample\n"
        "from pipeline.documents.formats.invoice_pdf import invoice_pdf\n"
        "from pipeline.documents.pdf.supervisor import RENDERER\n"
        "invoice_pdf(sample(1)); print(RENDERER.pid, flush=True); time.sleep(60)\n"
    )
    root = str(Path(__file__).parents[3])
    with subprocess.Popen([sys.executable, "-c", script], env={"PYTHONPATH": root}, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    poll(lambda: not lives(engine), 60, "the engine outlives its parent")
