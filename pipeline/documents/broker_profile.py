"""Makes a customs broker's own file: the lines of an invoice in the columns and words of the broker's import template."""

from __future__ import annotations

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
from pipeline.documents.formats.columns import Cell, escape_formula, table_rows
from pipeline.documents.formats.entry_filing import ADDRESS_COLUMNS, filing_columns, party_columns
from pipeline.documents.formats.entry_import import list_entry_rows
from pipeline.documents.formats.invoice_columns import INVOICE_FIELDS, invoice_columns
from pipeline.documents.formats.transport import transport_columns
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

#: The columns of the flat table, which a profile may name as fields; a test compares them with the table.
LINE_FIELDS: Final = tuple(
    """invoice_no invoice_date line_no sku description hts10 ch99_1 ch99_2 ch99_3 ch99_4 ch99_5 ch98 ch98_exempt_value ch98_dutiable_value ch98_exported_on ch98_proof
    spi origin export_country mid
    manufacturer_name manufacturer_addr1 manufacturer_city manufacturer_state manufacturer_zip manufacturer_country qty uom
    entry_qty entry_uom qty2 uom2 qty3 uom3 unit_price line_value currency fx_rate line_value_usd charges_usd gross_kg net_kg metal_type metal_kg
    melt_pour_country primary_smelt secondary_smelt cast_country us_metal_pct pga_flags pga_agency pga_program
    pga_processing pga_disclaim pga_data_ref related_party po_no package_ids sscc_list usmca_criterion usmca_cert_ref
    fda_product_code fcc_id cpsc_product_id cpsc_version ad_cvd_case notes line_ref order_id manufacturer_addr2 ch99_more
    ch99_rates ch99_programs ch99_bases pga_intended_use pga_data treatment_undetermined attributes treatment_digest
    export_treatment_digest batch_id package_no revision plan_hash test entry_line""".split()
)

_ROLES: Final = {"seller": "seller", "buyer": "buyer", "ship_to": "ship_to", "importer": "importer_of_record"}

_LINE: Final[Mapping[str, Callable[[InvoiceLine], Cell]]] = {
    "hts_dotted": lambda line: line.hts_code.shown,
    "steel_kg": lambda line: _metal(line, "steel"),
    "aluminum_kg": lambda line: _metal(line, "aluminum"),
    "copper_kg": lambda line: _metal(line, "copper"),
}

#: The columns of an entry line, which a profile of entry lines may name as fields; a test compares them with the table.
ENTRY_FIELDS: Final = tuple(
    """entry_line invoice_lines description hts10 ch99_1 ch99_2 ch99_3 ch99_4 ch99_5 ch99_more ch99_rates ch99_programs
    ch99_bases ch98 ch98_exempt_value ch98_dutiable_value ch98_exported_on ch98_proof spi usmca_cert_ref origin
    export_country mid manufacturer_name qty uom entry_qty entry_uom qty2 uom2 qty3 uom3 gross_kg net_kg line_value currency
    adjustment dutiable_value fx_rate dutiable_value_usd entered_value_usd charges_usd metal_type metal_kg
    melt_pour_country primary_smelt secondary_smelt cast_country us_metal_pct pga_flags pga_agency pga_program
    pga_processing pga_disclaim pga_intended_use pga_data ad_cvd_case license_type license_number softwood_price_usd
    softwood_charge_usd softwood_declaration treatment_digests""".split()
)
#: The columns of the flat table that are equal in every row, so that a row of entry lines has them too.
_SHARED_FIELDS: Final = (
    "invoice_no", "invoice_date", "related_party", "po_no", "export_treatment_digest", "batch_id", "package_no",
    "revision", "plan_hash", "test",
)  # fmt: skip

#: The columns of `filing.csv`, equal in every row; a test compares them with the table.
FILING_FIELDS: Final = tuple(
    """filer_code entry_number team_number firms_code location_of_goods bond_type surety_code bond_number bond_amount_usd
    poa_broker poa_grantor poa_from poa_until payment_type statement_date statement_month client_branch consignee_numbers
    prior_notices agent_number agent_name agent_addr1 agent_addr2 agent_city agent_state agent_zip agent_country""".split()
)

#: The columns of `transport.csv`, equal in every row; a test compares them with the table.
TRANSPORT_FIELDS: Final = tuple(
    """trip_number truck_plate truck_plate_state truck_plate_country truck_vin truck_transponder loading_city loading_state
    loading_country trailers trailer_plates seals driver_name export_declaration exporter_bn proof_of_report cargo_control_number
    no_declaration_code export_statement province_of_origin export_permits""".split()
)

#: The fields beyond the flat table: facts of the line in another form, and facts of the invoice, equal in every row.
OTHER_FIELDS: Final = (
    *_LINE,
    *INVOICE_FIELDS,
    *FILING_FIELDS,
    *TRANSPORT_FIELDS,
    *(f"{role}_{part}" for role in _ROLES for part in ("name", *ADDRESS_COLUMNS.values())),
)

FIELDS: Final = frozenset((*LINE_FIELDS, *OTHER_FIELDS))
#: The fields of a profile by its `rows`.
FIELDS_OF_ROWS: Final[Mapping[str, frozenset[str]]] = {
    "lines": FIELDS,
    "entry_lines": frozenset((*ENTRY_FIELDS, *_SHARED_FIELDS, *OTHER_FIELDS)) - {*_LINE},
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
    shared = invoice_columns(invoice) | filing_columns(invoice) | transport_columns(invoice)
    for role, attribute in _ROLES.items():
        shared |= party_columns(role, getattr(invoice.parties, attribute))
    for facts in _line_facts(invoice) if profile.rows == "lines" else _entry_facts(invoice):
        yield tuple(_cell(column, shared | facts) for column in profile.columns)


def _line_facts(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    for line, row in zip(invoice.lines, table_rows(invoice), strict=True):
        yield row | {name: fact(line) for name, fact in _LINE.items()}


def _entry_facts(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    first = next(iter(table_rows(invoice)))
    shared = {name: first[name] for name in _SHARED_FIELDS}
    for row in list_entry_rows(invoice):
        yield shared | row


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
