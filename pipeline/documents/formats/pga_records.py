"""The agency records of a unit as text for a broker's system, 80 columns per line."""

from collections.abc import Iterator
from itertools import groupby
from textwrap import wrap

from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.pga_worksheet import Datum, PgaWorksheet, WorksheetLine

VERSION = "4"

WIDTH = 80

#: The first character of a remark; no record of the message set begins with it.
REMARK = "*"


def pga_records(invoice: Invoice) -> bytes:
    """Return the records in ASCII, each line with 80 columns and CRLF.

    A line that begins with an asterisk is a remark for people; a program skips it. Remarks say where the records come
    from, and which entry line and line of the invoice the records below belong to. They also say what is missing, and what
    a person must check or key, with its value. The records of an entry line stand together.
    """
    if invoice.worksheet is None:
        raise ValueError("agency records need an invoice with a worksheet; this one has none")
    return "".join(f"{line:{WIDTH}}\r\n" for line in _lines(invoice, invoice.worksheet)).encode("ascii")


def _lines(invoice: Invoice, worksheet: PgaWorksheet) -> Iterator[str]:
    origin = invoice.provenance
    if invoice.test:
        yield from _remark("TEST: NOT FOR CUSTOMS USE")
    yield from _remark(f"Agency records of invoice {invoice.header.number}, {origin.package_number}")
    yield from _remark("Treatment of the export:")
    yield from _remark(origin.treatment_digest)
    by_entry_line = sorted(worksheet.lines, key=lambda line: (line.entry_line, line.number))
    for number, lines in groupby(by_entry_line, key=lambda line: line.entry_line):
        yield from _remark("-" * (WIDTH - 2))
        yield from _remark(f"Entry line {number}")
        for line in lines:
            yield from _line_records(line)


def _line_records(line: WorksheetLine) -> Iterator[str]:
    yield from _remark(f"Invoice line {line.number}, {line.line_ref}, HTS {line.hts_code}, treatment:")
    yield from _remark(line.treatment_digest)
    for note in line.notes:
        yield from _remark(note)
    for answer in line.answers:
        about = f"{answer.agency} {answer.flag}"
        codes = " ".join(code for code in (answer.program, answer.processing) if code is not None)
        yield from _remark(", ".join(part for part in (about, codes, answer.outcome) if part))
        for datum in answer.data:
            if datum.state != "present":
                yield from _remark(f"{about} {_format_datum(datum)}")
    yield from line.records


def _format_datum(datum: Datum) -> str:
    if datum.state == "missing":
        return f"{datum.label}: missing"
    values = f"; the plan says: {' | '.join(datum.values)}" if datum.values else ""
    return f"{datum.label}: needs a person: {datum.note or 'look at it'}{values}"


def _remark(text: str) -> Iterator[str]:
    # The programs that read the file know only ASCII, so other characters are replaced. A long remark is wrapped.
    plain = text.encode("ascii", "replace").decode()
    for part in wrap(plain, WIDTH - 2, break_on_hyphens=False):
        yield f"{REMARK} {part}"
