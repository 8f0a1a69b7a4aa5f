"""The treatment can be read from tables, also of an older release, which put an apostrophe before every formula sign."""

from datetime import date
from typing import Any

import pytest

from pipeline.customs.treatment import digest_treatment
from pipeline.documents.formats.cells import Cell, escape_formula
from pipeline.documents.formats.columns import list_line_rows
from pipeline.documents.formats.invoice import invoice_csv
from pipeline.documents.formats.xlsx import WorkbookWriter, invoice_xlsx
from pipeline.documents.schemas.invoice import Invoice
from pipeline.ops.verification.readers import csv_lines, xlsx_lines
from tests.documents.samples import sample

FORMULA_TEXT = "Cold store; -18 C; '=1+1"


def build_cold_store_invoice() -> Invoice:
    def change(data: dict[str, Any]) -> None:
        row = {"flag": "FD1", "agency": "FDA", "program": "FOO", "data": {"storage": FORMULA_TEXT}}
        data["lines"][0]["treatment"]["pga"] = [row]

    invoice = sample(1, change=change)
    line = invoice.lines[0]
    digest = digest_treatment(str(line.hts_code.exact), line.country_of_origin, line.treatment)
    return invoice.model_copy(update={"lines": (line.model_copy(update={"treatment_digest": digest}),)})


def workbook(invoice: Invoice, written: Any) -> bytes:
    book = WorkbookWriter("Lines", date(2026, 11, 24), rows=10_000)
    table: list[tuple[Cell, ...]] = [tuple(next(list_line_rows(invoice)))]
    table += [
        tuple(written(cell) if isinstance(cell, str) else cell for cell in row.values())
        for row in list_line_rows(invoice)
    ]
    book.add_sheet("Lines", table, {})
    return book.close()


@pytest.mark.parametrize("kind", ["csv", "xlsx", "older xlsx"])
def test_tables_give_the_treatment(kind: str) -> None:
    invoice = build_cold_store_invoice()
    (line,) = {
        "csv": lambda: list(csv_lines(invoice_csv(invoice))),
        "xlsx": lambda: list(xlsx_lines(invoice_xlsx(invoice))),
        "older xlsx": lambda: list(xlsx_lines(workbook(invoice, escape_formula))),
    }[kind]()
    assert line.treatment is not None
    assert line.treatment.pga[0].data == {"storage": FORMULA_TEXT}
    assert line.recomputed == line.stated


def test_table_with_other_apostrophes_differs() -> None:
    invoice = build_cold_store_invoice()
    body = workbook(invoice, lambda cell: cell.replace("; -18", "; ''-18"))
    (line,) = xlsx_lines(body)
    assert line.recomputed != line.stated
