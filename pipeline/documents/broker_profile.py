"""Makes a customs broker's own file: the lines of an invoice in the columns and words of the broker's import template."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from io import StringIO
from typing import Final

from pipeline.core.json_input import validation_failed
from pipeline.core.money import format_plain, sum_exact
from pipeline.core.problems import Issue
from pipeline.documents.formats import broker_message
from pipeline.documents.formats.cells import Cell, Columns, escape_formula, read_columns
from pipeline.documents.formats.columns import ENTRY_COLUMNS, LINE_COLUMNS, list_entry_rows
from pipeline.documents.formats.entry_filing import FILING_COLUMNS, PARTY_COLUMNS
from pipeline.documents.formats.facts import FactsOfLine, list_line_facts
from pipeline.documents.formats.invoice_columns import INVOICE_COLUMNS, RECORD_COLUMNS
from pipeline.documents.formats.transport import TRANSPORT_COLUMNS
from pipeline.documents.formats.xlsx import VERSION as WORKBOOK_VERSION
from pipeline.documents.formats.xlsx import WorkbookWriter
from pipeline.documents.registry import KINDS, MANIFEST, Document
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine
from pipeline.documents.schemas.profile import BrokerProfile, MessageProfile, OwnFile, ProfileColumn

ARTIFACT_TYPE: Final = "broker_profile"
VERSION: Final = "4"

_MEDIA_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
}

#: The fields of a profile of invoice lines: the columns of the flat table, and facts of the line in another form.
_LINE_FIELDS: Final[Columns[FactsOfLine]] = {
    **LINE_COLUMNS,
    "hts_dotted": lambda row: row.line.hts_code.shown,
    "steel_kg": lambda row: _metal(row.line, "steel"),
    "aluminum_kg": lambda row: _metal(row.line, "aluminum"),
    "copper_kg": lambda row: _metal(row.line, "copper"),
}

#: The fields that are equal in every row.
_INVOICE_FIELDS: Final[Columns[Invoice]] = {
    **RECORD_COLUMNS,
    **INVOICE_COLUMNS,
    **FILING_COLUMNS,
    **TRANSPORT_COLUMNS,
    **{name: get for columns in PARTY_COLUMNS.values() for name, get in columns.items()},
}

#: The fields of a profile by its `rows`.
FIELDS_OF_ROWS: Final[Mapping[str, frozenset[str]]] = {
    "lines": frozenset((*_INVOICE_FIELDS, *_LINE_FIELDS)),
    "entry_lines": frozenset((*_INVOICE_FIELDS, *ENTRY_COLUMNS)),
}
DATES: Final = frozenset({"invoice_date", "export_date", "sale_date", "statement_date", "poa_from", "poa_until"})

_RESERVED_FILENAMES: Final = frozenset({*(kind.filename for kind in KINDS), MANIFEST[1]})


def check_profile(profile: OwnFile, pointer: str) -> None:
    """Check the profile's file name, and of a table its fields and date formats.

    Raises ValidationFailed with an issue for each wrong place below `pointer`.
    """
    issues = []
    # Case does not count: some systems unpack two names that differ only in case into one file.
    if profile.filename.casefold() in _RESERVED_FILENAMES:
        message = "is the name of a document of the customs package; choose another"
        issues.append(Issue(path=f"{pointer}/filename", message=message, code="taken"))
    if isinstance(profile, BrokerProfile):
        issues += _check_columns(profile, pointer)
    if issues:
        raise validation_failed(issues)


def _check_columns(profile: BrokerProfile, pointer: str) -> Iterator[Issue]:
    fields = FIELDS_OF_ROWS[profile.rows]
    for place, column in enumerate(profile.columns):
        if column.field is None:
            continue
        here = f"{pointer}/columns/{place}"
        if column.field not in fields:
            meant = get_close_matches(column.field.lower(), sorted(fields), n=1)
            hint = f"did you mean {meant[0]}?" if meant else "docs/broker-profiles.md lists them"
            whose = "a line" if profile.rows == "lines" else "an entry line"
            message = f"{column.field!r} is not a field of {whose}; {hint}"
            yield Issue(path=f"{here}/field", message=message, code="unknown_field")
        elif column.date_format is not None and column.field not in DATES:
            message = f"{column.field} is not a date; remove dateFormat"
            yield Issue(path=f"{here}/dateFormat", message=message, code="no_date")


def profile_document(profile: OwnFile, invoice: Invoice) -> Document:
    """Return the broker's file; the same profile and invoice give the same bytes.

    Raises ValidationFailed if the profile names a field that no longer exists, or its format cannot carry the invoice.
    """
    check_profile(profile, "/profile")
    digest = hashlib.sha256(profile.model_dump_json(by_alias=True).encode()).hexdigest()
    if isinstance(profile, MessageProfile):
        version, writer_version, media_type = broker_message.VERSION, "", broker_message.MEDIA_TYPES[profile.format]
        body = broker_message.write_message(profile, invoice)
    else:
        version, media_type = VERSION, _MEDIA_TYPES[profile.format]
        writer_version = WORKBOOK_VERSION.partition("/")[2] if profile.format == "xlsx" else ""
        body = _MAKERS[profile.format](profile, invoice)
    template_version = "/".join(part for part in (version, digest[:16], writer_version) if part)
    return Document(ARTIFACT_TYPE, profile.filename, media_type, template_version, body)


def list_rows(profile: OwnFile, invoice: Invoice) -> Iterator[list[str]]:
    """Yield the cells of the broker's file as text: the headers, then each row, whatever its format.

    A message has one column, of its lines. Raises ValidationFailed if the profile names a field that does not exist.
    """
    check_profile(profile, "/profile")
    if isinstance(profile, MessageProfile):
        yield [broker_message.LINE_NAMES[profile.format]]
        yield from ([line] for line in broker_message.write_message(profile, invoice).decode().splitlines())
        return
    for row in _table(profile, invoice):
        yield [_text(cell) for cell in row]


def _csv(profile: BrokerProfile, invoice: Invoice) -> bytes:
    out = StringIO()
    writer = csv.writer(out, delimiter=profile.delimiter, lineterminator="\r\n")
    # The writer quotes the file's own delimiter in a text; a spreadsheet with another delimiter splits at that one.
    others = ";,".replace(profile.delimiter, "")
    if profile.header_row:
        writer.writerow(_escape_cells([column.header for column in profile.columns], others))
    for row in _rows(profile, invoice):
        writer.writerow(_escape_cells(row, others))
    return out.getvalue().encode("utf-8-sig" if profile.byte_order_mark else "utf-8")


def _escape_cells(row: Sequence[Cell], others: str) -> list[str]:
    return [
        escape_formula(cell, others, first=place == 0) if isinstance(cell, str) else _text(cell)
        for place, cell in enumerate(row)
    ]


def _xlsx(profile: BrokerProfile, invoice: Invoice) -> bytes:
    title = f"{profile.name}: invoice {invoice.header.number}"
    book = WorkbookWriter(title, invoice.header.invoice_date, len(invoice.lines))
    book.add_sheet(profile.sheet, _table(profile, invoice), {})
    return book.close()


def _table(profile: BrokerProfile, invoice: Invoice) -> Iterator[tuple[Cell, ...]]:
    yield tuple(column.header for column in profile.columns)
    yield from _rows(profile, invoice)


def _json(profile: BrokerProfile, invoice: Invoice) -> bytes:
    headers = [column.header for column in profile.columns]
    rows = [
        dict(zip(headers, (None if cell is None else _text(cell) for cell in row), strict=True))
        for row in _rows(profile, invoice)
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1).encode() + b"\n"


_MAKERS: Final[Mapping[str, Callable[[BrokerProfile, Invoice], bytes]]] = {"csv": _csv, "xlsx": _xlsx, "json": _json}


def _rows(profile: BrokerProfile, invoice: Invoice) -> Iterator[tuple[Cell, ...]]:
    shared = read_columns(_INVOICE_FIELDS, invoice)
    lines = (read_columns(_LINE_FIELDS, row) for row in list_line_facts(invoice))
    for facts in lines if profile.rows == "lines" else list_entry_rows(invoice):
        yield tuple(_cell(column, shared | facts) for column in profile.columns)


def _cell(column: ProfileColumn, facts: Mapping[str, Cell]) -> Cell:
    if column.field is None:
        return column.constant
    value = facts[column.field]
    if value is None or value == "":
        return column.default
    if isinstance(value, date):
        value = _format_date(value, column.date_format) if column.date_format else value
    return column.values.get(_text(value), value) if column.values else value


def _format_date(day: date, form: str) -> str:
    parts = {"YYYY": f"{day.year:04d}", "YY": f"{day.year % 100:02d}", "MM": f"{day.month:02d}", "DD": f"{day.day:02d}"}
    for part, digits in parts.items():
        form = form.replace(part, digits)
    return form


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return format_plain(cell)
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _metal(line: InvoiceLine, metal: str) -> Decimal | None:
    weights = [row.metal_weight_kg for row in line.treatment.section232 if row.metal == metal]
    return sum_exact(weights) if weights else None
