"""The PGA worksheet as a printed page in US Letter: what the filer must key for partner government agencies."""

from __future__ import annotations

import json
from typing import Any

from pipeline.documents.invoice import wording
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from pipeline.exports.schemas.pga_worksheet import PgaWorksheet, WorksheetLine

VERSION = f"10/{ENGINE}"

#: The sizes of a line, an answer and a datum in addition to their wording, in characters.
LINE_CHARACTERS, ANSWER_CHARACTERS, DATUM_CHARACTERS = 300, 150, 60

_PRINTED: dict[str, Any] = {
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date"},
    "transport": True,
    "parties": {"seller": {"name"}, "importer_of_record": {"name", "importer_number"}},
}


def has_agencies(invoice: Invoice) -> bool:
    """Return whether any line of the invoice has an agency flag."""
    return invoice.worksheet is not None and bool(invoice.worksheet.lines)


def pga_worksheet(invoice: Invoice) -> bytes:
    """Return the PDF."""
    return typeset(invoice, TEMPLATE, plan_parts(map(_size, _worksheet(invoice).lines)))


def _worksheet(invoice: Invoice) -> PgaWorksheet:
    if invoice.worksheet is None:
        raise ValueError("the PGA worksheet needs an invoice with a worksheet; this one has none")
    return invoice.worksheet


def _size(line: WorksheetLine) -> int:
    size = LINE_CHARACTERS + len(line.description) + sum(map(len, line.notes))
    for answer in line.answers:
        size += ANSWER_CHARACTERS
        for datum in answer.data:
            size += DATUM_CHARACTERS + sum(map(len, datum.values)) + len(datum.note or "")
    return size


def _facts(invoice: Invoice, cut: slice) -> bytes:
    worksheet = _worksheet(invoice)
    some = worksheet.model_copy(update={"lines": worksheet.lines[cut]})
    facts = invoice.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    # The records are a separate document.
    facts["worksheet"] = some.model_dump(mode="json", exclude={"lines": {"__all__": {"records"}}})
    for line in facts["worksheet"]["lines"]:
        for datum in (datum for answer in line["answers"] for datum in answer["data"]):
            if datum["label"] == datum["key"]:  # the rules do not know the datum
                datum["label"] = wording.spell_title(datum["key"])
    return json.dumps(facts, ensure_ascii=False).encode()


def _remarks(_invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {}


TEMPLATE = TypstTemplate("pga_worksheet.typ", _facts, _remarks)
