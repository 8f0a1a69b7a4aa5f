"""The PGA worksheet as a printed page in US Letter: what the filer must key for partner government agencies.

Lines with equal answers to the agencies are printed once, with their line numbers. The agencies' forms follow, filled in.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.documents.invoice import wording
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from pipeline.exports.schemas.pga_worksheet import AgencyForm, FormLine, PgaWorksheet, WorksheetLine

VERSION = f"15/{ENGINE}"

#: The sizes of a line, an answer and a datum in addition to their wording, in characters.
LINE_CHARACTERS, ANSWER_CHARACTERS, DATUM_CHARACTERS = 300, 150, 60

#: The most lines that are printed as one: a group is not divided among the parts of a long document.
MAX_GROUPED_LINES = 500

#: The most lines of a form that are printed in one piece.
MAX_FORM_LINES = 100

LineGroup = Sequence[WorksheetLine]


@dataclass(frozen=True)
class FormPart:
    """Some lines of an agency's form, and whether they are its first."""

    form: AgencyForm
    lines: tuple[FormLine, ...]
    first: bool


#: What the worksheet prints one after the other: first the groups of lines, then the forms.
PrintedRow = LineGroup | FormPart

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
    rows = list_rows(_worksheet(invoice))
    return typeset(invoice, grouped_template(rows), plan_parts(map(_size, rows)))


def list_rows(worksheet: PgaWorksheet) -> list[PrintedRow]:
    """Return what the worksheet prints, in its order."""
    rows: list[PrintedRow] = [*group_lines(worksheet)]
    return [*rows, *list_form_parts(worksheet)]


def group_lines(worksheet: PgaWorksheet) -> list[LineGroup]:
    """Return the lines in groups with equal answers and notes, in the order of their first lines."""
    groups: dict[tuple[object, ...], list[WorksheetLine]] = {}
    for line in worksheet.lines:
        groups.setdefault((line.answers, line.notes), []).append(line)
    return [
        lines[start : start + MAX_GROUPED_LINES]
        for lines in groups.values()
        for start in range(0, len(lines), MAX_GROUPED_LINES)
    ]


def list_form_parts(worksheet: PgaWorksheet) -> Iterator[FormPart]:
    """Yield the agencies' forms in parts of at most MAX_FORM_LINES lines."""
    for form in worksheet.forms:
        for start in range(0, len(form.lines), MAX_FORM_LINES):
            yield FormPart(form, form.lines[start : start + MAX_FORM_LINES], first=start == 0)


def grouped_template(rows: Sequence[PrintedRow]) -> TypstTemplate:
    """Return the template whose rows are these groups and parts of forms."""
    return TypstTemplate("pga_worksheet.typ", partial(_facts, rows), _remarks)


def _worksheet(invoice: Invoice) -> PgaWorksheet:
    if invoice.worksheet is None:
        raise ValueError("the PGA worksheet needs an invoice with a worksheet; this one has none")
    return invoice.worksheet


def _size(row: PrintedRow) -> int:
    if isinstance(row, FormPart):
        boxes = [box for line in row.lines for box in line.boxes]
        cells = [cell for line in row.lines for texts in line.rows for cell in texts]
        shipment = ANSWER_CHARACTERS * len(row.form.boxes)
        return shipment + DATUM_CHARACTERS * (len(boxes) + len(cells)) + sum(len(box.value or "") for box in boxes)
    size = sum(LINE_CHARACTERS + len(line.description) for line in row) + sum(map(len, row[0].notes))
    for answer in row[0].answers:
        size += ANSWER_CHARACTERS
        for datum in answer.data:
            size += DATUM_CHARACTERS + sum(map(len, datum.values)) + len(datum.note or "")
    return size


def _facts(rows: Sequence[PrintedRow], invoice: Invoice, cut: slice) -> bytes:
    facts = invoice.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    facts["worksheet"] = _worksheet(invoice).model_dump(mode="json", exclude={"lines", "forms"})
    merged = invoice.consolidation is not None
    groups = [row for row in rows[cut] if not isinstance(row, FormPart)]
    facts["worksheet"]["groups"] = [_group_facts(group, merged=merged) for group in groups]
    facts["worksheet"]["forms"] = [_form_facts(row) for row in rows[cut] if isinstance(row, FormPart)]
    digests = sorted((line.number, line.treatment_digest) for group in groups for line in group)
    facts["worksheet"]["digests"] = digests
    return json.dumps(facts, ensure_ascii=False).encode()


def _form_facts(part: FormPart) -> dict[str, Any]:
    facts = part.form.model_dump(mode="json", exclude={"lines"})
    return facts | {"first": part.first, "lines": [line.model_dump(mode="json") for line in part.lines]}


def _group_facts(group: LineGroup, *, merged: bool) -> dict[str, Any]:
    # The records are a separate document, so of a line only its answers are dumped. Without merged lines, the entry lines
    # have the numbers of the invoice lines, and are not printed again.
    facts = group[0].model_dump(mode="json", include={"answers", "notes"})
    for datum in (datum for answer in facts["answers"] for datum in answer["data"]):
        if datum["label"] == datum["key"]:  # the rules do not know the datum
            datum["label"] = wording.spell_title(datum["key"])
    articles: dict[tuple[str, str, str], list[WorksheetLine]] = {}
    for line in group:
        articles.setdefault((line.description, line.hts_code, line.country_of_origin), []).append(line)
    many = len(group) > 1
    facts |= {"count": len(group), "count_shown": f"{len(group):,}", "number": str(group[0].number)}
    facts["articles"] = []
    for (description, hts_code, origin), lines in articles.items():
        entry_lines = sorted({line.entry_line for line in lines})
        facts["articles"].append(
            {
                "ref": None if many else f"{group[0].line_ref} · {group[0].sku}",
                "one": len(lines) == 1,
                "numbers": wording.format_ranges([line.number for line in lines]),
                "description": description,
                "hts_code": hts_code,
                "origin": origin,
                "one_entry": len(entry_lines) == 1,
                "entry_numbers": wording.format_ranges(entry_lines) if merged else None,
            }
        )
    return facts


def _remarks(_invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {}
