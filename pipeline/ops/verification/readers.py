"""One reader for each format: it reads from a document's bytes the treatment of each line."""

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO, StringIO
from typing import Any, Final
from xml.etree.ElementTree import Element

from pydantic import ValidationError
from pypdf import PdfReader

from pipeline.core.errors import Refused
from pipeline.core.json_input import check_shape, load_json
from pipeline.documents.formats import ubl
from pipeline.documents.formats.cells import unescape_formula
from pipeline.documents.formats.treatment_columns import read_treatment
from pipeline.documents.formats.xlsx import TOO_LONG
from pipeline.exports.schemas.plan import Treatment
from pipeline.ops.verification import parsers
from pipeline.ops.verification.parsers import iter_elements
from pipeline.ops.verification.treatment import CarriedLine, MergedLines, UnreadableBundle

MAX_JSON_DEPTH: Final = 64

#: In characters; our widest cell, with data for agencies, has some hundred thousand.
LONGEST_CELL: Final = 16 * 1024 * 1024

_UBL: Final = "{urn:oasis:names:specification:ubl:schema:xsd:Common"
_AGGREGATE, _BASIC = f"{_UBL}AggregateComponents-2}}", f"{_UBL}BasicComponents-2}}"

#: pypdf logs everything that it tolerates in a file; only the result decides whether the file is ours.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)

LineReader = Callable[[bytes], Iterator[CarriedLine]]


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; raise UnreadableBundle if there is none."""
    try:
        check_shape(body, MAX_JSON_DEPTH)
        document = load_json(body)
    except Refused as error:
        raise UnreadableBundle(error.message.replace("the body", "it", 1)) from error
    if not isinstance(document, dict):
        raise UnreadableBundle("it is not a JSON object")
    return document


def json_lines(body: bytes) -> Iterator[CarriedLine]:
    """Read `lines` of a JSON document: with their treatment if they carry it, else with the digests that they state."""
    lines = json_object(body).get("lines")
    if not isinstance(lines, list):
        raise UnreadableBundle("it has no list of lines")
    for place, line in enumerate(lines):
        if not isinstance(line, dict) or not isinstance(line.get("lineRef"), str):
            raise UnreadableBundle(f"/lines/{place} is not a line")
        if "treatment" not in line:
            yield CarriedLine(line["lineRef"], _text(line, "treatmentDigest"))
            continue
        treatment = _treatment(line["treatment"], f"/lines/{place}")
        yield CarriedLine(
            line["lineRef"],
            _text(line, "treatmentDigest"),
            _text(line, "htsCode"),
            _text(line, "countryOfOrigin"),
            treatment,
        )


def csv_lines(body: bytes) -> Iterator[CarriedLine]:
    """Read the flat table."""
    csv.field_size_limit(LONGEST_CELL)
    try:
        table = csv.DictReader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        for row in table:
            cells = {name: cell or "" for name, cell in row.items() if isinstance(name, str)}
            yield _flat_line(cells, unescape_formula)
    except UnicodeDecodeError as error:
        raise UnreadableBundle(f"it is not UTF-8 at byte {error.start}") from error
    except csv.Error as error:
        raise UnreadableBundle(f"it is not a table: {error}") from error


def xlsx_lines(body: bytes) -> Iterator[CarriedLine]:
    """Read the sheet of the lines, which has the columns of the flat table."""
    table = parsers.sheet_rows(body, "Lines")
    names = next(table, {})
    for row in table:
        yield _flat_line({name: row.get(column, "") for column, name in names.items()}, str)


def ubl_lines(body: bytes) -> Iterator[CarriedLine]:
    """Read the extension of the lines, and compare its code and origin with UBL's own."""
    classified = [_ubl_classification(line) for line in iter_elements([body], f"{_AGGREGATE}InvoiceLine")]
    lines = list(iter_elements([body], f"{{{ubl.NAMESPACE}}}Line"))
    if len(classified) != len(lines):
        raise UnreadableBundle(f"it has {len(classified)} lines, but {len(lines)} in its extension")
    for line, (code, origin) in zip(lines, classified, strict=True):
        where = line.get("lineRef", "without a lineRef")
        if (code, origin) != (line.get("htsCode"), line.get("countryOfOrigin")):
            raise UnreadableBundle(f"line {where}: UBL says {code} of {origin}, its extension says otherwise")
        try:
            treatment = ubl.read_treatment(line)
        except ValidationError as error:
            raise UnreadableBundle(f"line {where}: its extension does not hold a valid treatment") from error
        yield CarriedLine(where, line.get("digest"), line.get("htsCode"), line.get("countryOfOrigin"), treatment)


def merged_lines(body: bytes) -> Iterator[CarriedLine]:
    """Read the digests of the lines that merged lines stand for, in the order of the invoice."""
    found: list[tuple[int, CarriedLine]] = []
    try:
        for row in _merged_objects(body):
            linked = zip(row["lineNumbers"], row["lineRefs"], row["treatmentDigests"], strict=True)
            found += [(int(number), CarriedLine(str(line_ref), str(digest))) for number, line_ref, digest in linked]
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableBundle("its merged lines do not name the lines that they stand for") from error
    yield from (line for _, line in sorted(found, key=lambda each: each[0]))


def merged_rows(body: bytes) -> Iterator[MergedLines]:
    """Read the merged lines, row by row."""
    for place, row in enumerate(_merged_objects(body)):
        treatment = _treatment(row.get("treatment"), f"/consolidation/lines/{place}")
        yield MergedLines(row["lineRefs"], _text(row, "htsCode"), _text(row, "countryOfOrigin"), treatment)


def _merged_objects(body: bytes) -> list[dict[str, Any]]:
    try:
        found = json_object(body)
        rows: list[dict[str, Any]] = found.get("consolidation", found)["lines"]
    except (KeyError, TypeError) as error:
        raise UnreadableBundle("it has no list of merged lines") from error
    return rows


def _treatment(value: object, where: str) -> Treatment:
    try:
        return Treatment.model_validate(value)
    except ValidationError as error:
        inner = "/".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise UnreadableBundle(f"{where}/treatment/{inner} is not valid in a treatment") from None


def attached_file(body: bytes, name: str) -> bytes:
    """Return the file `name` that is attached to the PDF; raise UnreadableBundle if there is not exactly one."""
    try:
        found = PdfReader(BytesIO(body)).attachments.get(name, [])
    except Exception as error:  # the errors of pypdf for broken files have no common class
        raise UnreadableBundle(f"it is not a readable PDF: {type(error).__name__}") from error
    if len(found) != 1:
        raise UnreadableBundle(f"it carries {len(found)} files {name}; it must carry one")
    return bytes(found[0])


def _ubl_classification(line: Element) -> tuple[str | None, str | None]:
    code = line.findtext(f".//{_BASIC}ItemClassificationCode")
    return code, line.findtext(f".//{_AGGREGATE}OriginCountry/{_BASIC}IdentificationCode")


def _flat_line(cells: Mapping[str, str], read: Callable[[str], str]) -> CarriedLine:
    line = _line({name: read(cell) for name, cell in cells.items()})
    if line.recomputed == line.stated:
        return line
    # Bundles of older releases escape more cells with an apostrophe.
    older = _line({name: unescape_formula(cell, first=True) for name, cell in cells.items()})
    return older if older.recomputed == older.stated else line


def _line(row: Mapping[str, str]) -> CarriedLine:
    where = row.get("line_ref") or "without a line_ref"
    stated = row.get("treatment_digest") or None
    if TOO_LONG in row.values():
        # The workbook marks text that is too long for a cell; the CSV beside it holds the text.
        return CarriedLine(where, stated)
    try:
        treatment = read_treatment(row)
    except ValueError as error:
        raise UnreadableBundle(f"line {where}: {error}") from error
    return CarriedLine(where, stated, row.get("hts10") or None, row.get("origin") or None, treatment)


def _text(line: Mapping[str, Any], name: str) -> str | None:
    value = line.get(name)
    return value if isinstance(value, str) else None


#: Document kind -> the reader of its treatment. Of other kinds only the hash is checked.
READERS: Final[Mapping[str, LineReader]] = {
    "cci_json": json_lines,
    "cci_csv": csv_lines,
    "cci_xlsx": xlsx_lines,
    "cci_ubl": ubl_lines,
    "cci_consolidated": merged_lines,
    "entry_estimate": merged_lines,
    "packing_list": json_lines,
    "manifest": json_lines,
}
