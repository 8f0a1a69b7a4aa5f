"""The side that only makes documents: all of a unit, kept in the store; or an invoice PDF, ours or a plain one."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typst

from pipeline.core.ids import new_id
from pipeline.core.runtime import process_runtime
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from pipeline.exports.schemas.plan import Unit
from tests.system.benchmarks.exports import LINES, make_plan
from tests.system.benchmarks.interleave import ROOT, run_rounds
from tests.system.benchmarks.peers.work import build_peer_invoice

_PLAIN: Final = (Path(__file__).parent / "plain_invoice.typ").read_bytes()
_PRINTED: Final = set("number description hts_code country_of_origin quantity unit unit_price line_value".split())
_SAMPLE_SECONDS: Final = 0.005


def store_unit(invoice: Invoice) -> None:
    """Make all documents of the unit and keep them in the store."""
    process_runtime().store.put_all([document.body for document in render_documents(invoice)])


class PlainPdf:
    """A plain invoice: Typst's defaults, a heading, the parties, one table and the total."""

    def __init__(self) -> None:
        folder = str(ROOT / "templates" / "fonts")
        self._fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder])

    def __call__(self, invoice: Invoice) -> None:
        """Set one invoice."""
        facts = {
            "header": invoice.header.model_dump(mode="json"),
            "parties": invoice.parties.model_dump(mode="json", include={"seller", "buyer"}),
            "lines": [line.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE) for line in invoice.lines],
            "total": str(invoice.totals.invoice_total),
        }
        inputs = {"facts": json.dumps(facts)}
        typst.Compiler(input=_PLAIN, font_paths=self._fonts, ignore_system_fonts=True, sys_inputs=inputs).compile(
            format="pdf"
        )


def build_invoices(count: int, lines: int) -> list[Invoice]:
    """Return that many invoices, each of other goods and with as many packages as lines."""
    return [
        build_peer_invoice(new_id("exp"), Unit.model_validate(make_plan(lines, lines)["units"][0]))
        for _ in range(count)
    ]


def print_peak(lines: int) -> None:
    """Print the highest resident megabytes of the PDF engine for one invoice of that many lines."""
    (invoice,) = build_invoices(1, lines)
    with _watch_engine() as peaks:
        invoice_pdf(invoice)
    sys.stdout.write(json.dumps(max(peaks)))


@contextmanager
def _watch_engine() -> Iterator[list[float]]:
    peaks, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            try:
                status = Path(f"/proc/{RENDERER.pid}/status").read_text(encoding="ascii").splitlines()
            except OSError:
                continue  # it has not started, or is being replaced
            peaks.extend(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def main(kind: str, count: int, lines: int = LINES) -> None:
    """Make `count` documents a round: of kind `unit`, `ours` or `plain`."""
    make: Callable[[Invoice], object] = {"unit": store_unit, "ours": invoice_pdf}.get(kind) or PlainPdf()
    invoices: list[Invoice] = []

    def prepare() -> None:
        invoices[:] = build_invoices(count, lines)

    def run() -> None:
        for each in invoices:
            make(each)

    run_rounds(prepare, run)


if __name__ == "__main__":
    if sys.argv[1] == "peak":
        print_peak(int(sys.argv[2]))
    else:
        main(sys.argv[1], *map(int, sys.argv[2:]))
