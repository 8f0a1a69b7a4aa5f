"""A customs broker's own import template, as configuration: which columns, in which order and words; closed, camelCase."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from pipeline.exports.schemas.plan import StrictModel, Text

MAX_COLUMNS: Final = 200

#: What no file can be named where the broker unpacks it, whatever the ending.
RESERVED_NAME: Final = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)

Header = Annotated[Text, Field(max_length=128)]

#: YYYY or YY, MM and DD in any order, with at most one sign between two of them.
DateFormat = Annotated[
    str,
    Field(
        max_length=10,
        pattern=r"^(?:YYYY|YY|MM|DD)[-/. ]?(?:YYYY|YY|MM|DD)[-/. ]?(?:YYYY|YY|MM|DD)$",
        description="Such as MM/DD/YYYY; without it YYYY-MM-DD",
        examples=["MM/DD/YYYY"],
    ),
]


class ProfileColumn(StrictModel):
    """One column: a field of the line, or a constant."""

    header: Header
    field: str | None = Field(None, max_length=64, description="The fact that stands here: see docs/broker-profiles.md")
    constant: Annotated[Text, Field(description="The same text in every row")] | None = None
    default: Annotated[Text, Field(description="What stands where the field is empty")] | None = None
    date_format: DateFormat | None = None
    values: dict[str, Text] = Field(
        default_factory=dict, max_length=300, description="The broker's word for a value; others stay as they are"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ProfileColumn:
        if (self.field is None) == (self.constant is None):
            raise ValueError("a column has a field or a constant, and not both")
        if self.constant is not None and (self.default or self.date_format or self.values):
            raise ValueError("a constant has no default, dateFormat or values")
        if self.date_format is not None and not all(self.date_format.count(part) for part in ("YY", "MM", "DD")):
            raise ValueError("a dateFormat names year, month and day once each")
        return self


class BrokerProfile(StrictModel):
    """A file that is made for this broker at the handoff of every export, one for each unit: a row for each line."""

    name: Text
    filename: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(?:csv|txt|xlsx|json)$")]
    format: Literal["csv", "xlsx", "json"]
    delimiter: Literal[",", ";", "\t", "|"] = ","
    header_row: bool = Field(True, description="Of a CSV file: whether its first row names the columns")
    byte_order_mark: bool = Field(True, description="Of a CSV file: Excel takes UTF-8 for what it is only behind one")
    sheet: Annotated[Text, Field(max_length=31, pattern=r"^[^\[\]:*?/\\']+$")] = "Lines"
    columns: list[ProfileColumn] = Field(min_length=1, max_length=MAX_COLUMNS)

    @model_validator(mode="after")
    def _is_consistent(self) -> BrokerProfile:
        ending = self.filename.rpartition(".")[2]
        if ending != self.format and (self.format, ending) != ("csv", "txt"):
            raise ValueError(f"a file in the format {self.format} does not end in .{ending}")
        if RESERVED_NAME.fullmatch(self.filename.partition(".")[0]):
            raise ValueError(f"Windows keeps the name {self.filename} for a device; choose another")
        if self.format != "csv" and (self.delimiter, self.header_row, self.byte_order_mark) != (",", True, True):
            raise ValueError("delimiter, headerRow and byteOrderMark are for the format csv alone; leave them out")
        if self.format != "xlsx" and self.sheet != "Lines":
            raise ValueError("sheet is for the format xlsx alone; leave it out")
        if self.sheet.casefold() == "history":
            raise ValueError(f"a sheet cannot be named {self.sheet}: spreadsheets keep that name for themselves")
        headers = [column.header for column in self.columns]
        if len(set(headers)) != len(headers):
            twice = next(header for header in headers if headers.count(header) > 1)
            raise ValueError(f"two columns have the header {twice!r}; name each column once")
        return self
