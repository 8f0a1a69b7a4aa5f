"""Views and the form of a customs broker's profile: its columns as rows, and its file as a table."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.json_input import parse_json
from pipeline.documents.broker_profile import FIELDS_OF_ROWS, list_rows
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MAX_COLUMNS, MessageProfile, OwnFile
from pipeline.interfaces.console.partners import message_fields
from pipeline.interfaces.console.partners.message_fields import InputGroup
from pipeline.interfaces.pages.input import (
    Choice,
    FormError,
    Input,
    fill_inputs,
    list_errors,
    read_text_lines,
    read_whole_number,
)
from pipeline.interfaces.pages.pages import Form

#: The source of a preview that is not one of the account's exports.
EXAMPLE: Final = "example"

#: The names that a column may have as its field.
FIELD_NAMES: Final = sorted(frozenset().union(*FIELDS_OF_ROWS.values()))

_MAX_DEPTH: Final = 6
_POSITION: Final = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?")
_MOST_ROWS: Final = 50
_BLANK_ROWS: Final = 3
_MORE_ROWS: Final = 10
_DELIMITERS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_FORMATS: Final = {"csv": "CSV", "xlsx": "Excel workbook (xlsx)", "json": "JSON"}
_ROWS: Final = {
    "lines": "lines of the invoice",
    "entry_lines": "entry lines: those with equal customs facts are merged",
}
#: The first columns of a new profile.
_FIRST: Final = (
    ("Invoice", "invoice_no"),
    ("Line", "line_no"),
    ("HTS", "hts10"),
    ("Description", "description"),
    ("Quantity", "qty"),
    ("Unit", "uom"),
    ("Value", "line_value"),
)
#: The cells of a row of the form, and the members of a column.
_CELLS: Final = {
    "header": "header",
    "field": "field",
    "constant": "constant",
    "default": "default",
    "date_format": "dateFormat",
}
_FILE_HELP: Final = (
    "Such as entry-import.csv. Its end must suit the format: .csv, .txt, .xlsx, .json, .x12, .edi or .xml."
)
_ALL_FORMATS: Final = [Choice(*each) for each in {**_FORMATS, **message_fields.FORMATS}.items()]
_INPUTS: Final = (
    Input(
        "name",
        "Name",
        help="It tells people what the file is, such as Entry import.",
        required=True,
        at="/profile/name",
    ),
    Input("filename", "File name", help=_FILE_HELP, required=True, at="/profile/filename"),
    Input("format", "Format", "select", "csv", required=True, choices=_ALL_FORMATS, at="/profile/format"),
    Input(
        "delimiter",
        "For CSV: separated by",
        "select",
        "comma",
        choices=[Choice(name, name) for name in _DELIMITERS],
        at="/profile/delimiter",
    ),
    Input("header_row", "For CSV: the first row names the columns", "checkbox"),
    Input(
        "byte_order_mark",
        "For CSV: begin with a byte order mark",
        "checkbox",
        help="Without it Excel does not recognise UTF-8.",
    ),
    Input(
        "sheet", "For Excel: name of the sheet", help="If it is empty, the sheet is named Lines.", at="/profile/sheet"
    ),
    Input(
        "row_kind",
        "Rows",
        "select",
        "lines",
        "The file has one row for each of them.",
        choices=[Choice(*each) for each in _ROWS.items()],
        at="/profile/rows",
    ),
)


@dataclass(frozen=True)
class ProfilePreview:
    """The file of one unit as a table, or the lines of a message. `refusal` says why there is none."""

    source: str
    title: str = ""
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    more: str = ""
    refusal: str = ""
    is_message: bool = False


@dataclass(frozen=True)
class ColumnRow:
    """A row of the form. `name` is the beginning of the names of its cells; `words` has a line for each value."""

    name: str
    number: int
    header: str
    field: str
    constant: str
    default: str
    date_format: str
    words: str
    error: str


@dataclass(frozen=True)
class ProfileForm:
    """The form of a profile. `count` is the number of its rows."""

    inputs: Sequence[Input]
    groups: Sequence[InputGroup]
    rows: Sequence[ColumnRow]
    count: int
    errors: Sequence[FormError]


def describe_form(profile: OwnFile) -> str:
    """Return the form of a profile's file in words."""
    if isinstance(profile, MessageProfile):
        return message_fields.describe_message(profile)
    form = _FORMATS[profile.format]
    if profile.format == "csv":
        delimiter = next(name for name, sign in _DELIMITERS.items() if sign == profile.delimiter)
        form += f", separated by {delimiter}" + ("" if profile.header_row else ", without a row of headers")
    if profile.format == "xlsx":
        form += f", sheet {profile.sheet}"
    return f"{form}, {_ROWS[profile.rows]}"


def build_preview(profile: OwnFile, invoice: Invoice, source: str) -> ProfilePreview:
    """Return the file of an invoice as a table. Raises ValidationFailed if the profile names an unknown field."""
    table = list_rows(profile, invoice)
    headers, *rows = islice(table, _MOST_ROWS + 1)
    count = len(rows) + sum(1 for _ in table)
    return ProfilePreview(
        source,
        title=f"{profile.filename} of invoice {invoice.header.number}, unit {invoice.provenance.unit_ref}",
        headers=headers,
        rows=rows,
        more=f"The first {_MOST_ROWS} of {count} rows." if count > _MOST_ROWS else "",
        is_message=isinstance(profile, MessageProfile),
    )


def fill_fields(profile: OwnFile | None) -> dict[str, list[str]]:
    """Return the fields of a form that shows the profile; without one, its first columns."""
    if profile is None:
        cells = {
            f"c{at}.{cell}": [text]
            for at, row in enumerate(_FIRST)
            for cell, text in zip(("header", "field"), row, strict=True)
        }
        return cells | {
            "rows": [str(len(_FIRST))],
            "format": ["csv"],
            "header_row": ["yes"],
            "byte_order_mark": ["yes"],
        }
    if isinstance(profile, MessageProfile):
        return message_fields.fill_message_fields(profile)
    filled: dict[str, list[str]] = {
        "name": [profile.name],
        "filename": [profile.filename],
        "format": [profile.format],
        "delimiter": [name for name, sign in _DELIMITERS.items() if sign == profile.delimiter],
        "header_row": ["yes"] if profile.header_row else [],
        "byte_order_mark": ["yes"] if profile.byte_order_mark else [],
        "sheet": [profile.sheet],
        "row_kind": [profile.rows],
        "rows": [str(len(profile.columns))],
    }
    for at, column in enumerate(profile.columns):
        tree = column.model_dump(by_alias=True)
        filled |= {f"c{at}.{cell}": [tree[member]] for cell, member in _CELLS.items() if tree[member]}
        filled[f"c{at}.words"] = ["\n".join(f"{value}={word}" for value, word in column.values.items())]
    return filled


def build_form(fields: Form, errors: Mapping[str, str], *, more: bool = False) -> ProfileForm:
    """Return the form with what was typed, with each error at its place, and with blank rows at its end."""
    order = list(_list_used_rows(fields))
    at_rows: dict[int, str] = {}
    placed: dict[str, str] = {}
    for given, message in errors.items():
        pointer = given.replace("/messageProfile", "/profile")
        parts = pointer.split("/")[1:]
        if parts[:2] == ["profile", "columns"] and len(parts) > 2 and int(parts[2]) < len(order):
            cell = {member: cell for cell, member in _CELLS.items()}.get(parts[3], parts[3]) if len(parts) > 3 else ""
            text = f"{cell.replace('_', ' ')} {message}".strip()
            place = int(parts[2])
            at_rows[place] = f"{at_rows[place]}; {text}" if place in at_rows else text
        else:
            placed[pointer] = message
    blank = _MORE_ROWS if more else _BLANK_ROWS
    count = min(len(order) + blank, MAX_COLUMNS)
    rows = [_build_row(fields, name, place, at_rows.get(place, "")) for place, name in enumerate(order)]
    rows += [_build_row(Form({}), "", place, "") for place in range(len(order), count)]
    inputs = fill_inputs(_INPUTS, fields, placed)
    groups = message_fields.build_message_groups(fields, placed)
    every = [*inputs, *(each for group in groups for each in group.inputs)]
    listed = [FormError(f"Column {row.number}: {row.error}", f"{row.name}.header") for row in rows if row.error]
    return ProfileForm(inputs, groups, rows, count, [*list_errors(every, placed), *listed])


def _build_row(fields: Form, name: str, place: int, error: str) -> ColumnRow:
    typed = {cell: fields.get(f"{name}.{cell}") for cell in (*_CELLS, "words")}
    return ColumnRow(name=f"c{place}", number=place + 1, error=error, **typed)


def _list_used_rows(fields: Form) -> Iterator[str]:
    """Yield the names of the rows that are not empty, in the order of their positions."""
    count = read_whole_number(fields.get("rows"), 0, MAX_COLUMNS) or 0
    used = [
        (_read_position(fields.get(f"c{at}.at"), at), at)
        for at in range(count)
        if any(fields.get(f"c{at}.{cell}") for cell in (*_CELLS, "words"))
    ]
    return (f"c{at}" for _, at in sorted(used))


def _read_position(text: str, place: int) -> tuple[int, int]:
    """Return the position of a row: what was typed, such as 2.5 for a place between two rows, else its own."""
    found = _POSITION.fullmatch(text)
    return (place + 1, 0) if found is None else (int(found[1]), int((found[2] or "").ljust(4, "0")))


def read_profile(fields: Form) -> PartnerChanges:
    """Return the change that sets the profile of the form. Raises ValidationFailed, which names each wrong cell."""
    chosen = fields.get("format")
    tree: dict[str, Any] = {"name": fields.get("name"), "filename": fields.get("filename")}
    message = message_fields.read_message_settings(fields, chosen)
    if message is not None:
        # A message has no columns; those of the form are for a table.
        return _read_changes("messageProfile", tree | message)
    tree["format"] = chosen
    if chosen == "csv":
        tree["delimiter"] = _DELIMITERS.get(fields.get("delimiter", "comma"), "")
        tree |= {"headerRow": bool(fields.get("header_row")), "byteOrderMark": bool(fields.get("byte_order_mark"))}
    if chosen == "xlsx" and fields.get("sheet"):
        tree["sheet"] = fields.get("sheet")
    if row_kind := fields.get("row_kind"):
        tree["rows"] = row_kind
    tree["columns"] = [_read_column(fields, name) for name in _list_used_rows(fields)]
    return _read_changes("profile", tree)


def _read_changes(member: str, tree: Mapping[str, Any]) -> PartnerChanges:
    return parse_json(json.dumps({member: tree}).encode(), PartnerChanges, max_depth=_MAX_DEPTH).model


def _read_column(fields: Form, name: str) -> dict[str, Any]:
    column: dict[str, Any] = {member: text for cell, member in _CELLS.items() if (text := fields.get(f"{name}.{cell}"))}
    # A line without an equals sign has no word: the schema refuses the empty one.
    pairs = [line.partition("=") for line in read_text_lines(fields.get(f"{name}.words"))]
    if pairs:
        column["values"] = {value.strip(): word.strip() for value, _, word in pairs}
    return column
