"""The agencies' records of a unit as text, 80 columns a line, for a broker's system to take."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.schemas.invoice import Invoice
from pipeline.schemas.pga import PgaWorksheet

VERSION = "1"

WIDTH = 80

#: What a line that is no record begins with: none of the message set does.
REMARK = "*"


def pga_records(invoice: Invoice) -> bytes:
    """Return the records in ASCII, each line of 80 columns and CRLF.

    A line that begins with an asterisk is a remark, for people: where the records come from, which line of the invoice
    those below it belong to, and what of them is missing or needs a person. A program leaves it out.
    """
    if invoice.worksheet is None:
        raise ValueError("an invoice without a worksheet has no agency records")
    return "".join(f"{line:{WIDTH}}\r\n" for line in _lines(invoice, invoice.worksheet)).encode("ascii")


def _lines(invoice: Invoice, worksheet: PgaWorksheet) -> Iterator[str]:
    origin = invoice.provenance
    if invoice.test:
        yield from _remark("TEST: NOT FOR CUSTOMS USE")
    yield from _remark(f"Agency records of invoice {invoice.header.number}, {origin.package_number}")
    yield from _remark("Treatment of the export:")
    yield from _remark(origin.treatment_digest)
    for line in worksheet.lines:
        yield from _remark("-" * (WIDTH - 2))
        yield from _remark(f"Line {line.number}, {line.line_ref}, HTS {line.hts_code}, treatment:")
        yield from _remark(line.treatment_digest)
        for note in line.notes:
            yield from _remark(note)
        for answer in line.answers:
            for datum in answer.data:
                if datum.state != "present":
                    state = "missing" if datum.state == "missing" else "needs a person"
                    yield from _remark(f"{answer.agency} {answer.flag} {datum.label}: {state}")
        yield from line.records


def _remark(text: str) -> Iterator[str]:
    # Wording is for people, and the file for programs that know ASCII alone; a long remark goes on in the next line.
    plain = text.encode("ascii", "replace").decode()
    for start in range(0, len(plain), WIDTH - 2):
        yield f"{REMARK} {plain[start : start + WIDTH - 2]}"
