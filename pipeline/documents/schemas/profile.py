"""The configuration of a customs broker's own file: its columns, their order and their words; closed, camelCase."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from pipeline.exports.schemas.plan import StrictModel, Text

MAX_COLUMNS: Final = 200

PartnerQualifier = Annotated[str, Field(pattern=r"^[A-Z0-9]{2}$", description="ISA05 and ISA07, such as ZZ or 01")]
PartnerCode = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9 ._-]{0,13}[A-Z0-9]$", description="ISA06 and GS02")]

CargoWiseCode = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,3}$")]

#: Names that Windows does not allow for a file, with any extension.
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
    field: str | None = Field(
        None, max_length=64, description="The field of this column; docs/broker-profiles.md lists all"
    )
    constant: Annotated[Text, Field(description="The same text in every row")] | None = None
    default: Annotated[Text, Field(description="The text if the field is empty")] | None = None
    date_format: DateFormat | None = None
    values: dict[str, Text] = Field(
        default_factory=dict, max_length=300, description="The broker's word for a value; other values stay unchanged"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ProfileColumn":
        if (self.field is None) == (self.constant is None):
            raise ValueError("a column must have either a field or a constant; give exactly one of them")
        if self.constant is not None and (self.default or self.date_format or self.values):
            raise ValueError("a constant must not have default, dateFormat or values; remove them")
        if self.date_format is not None and not all(self.date_format.count(part) for part in ("YY", "MM", "DD")):
            raise ValueError("dateFormat must have year, month and day exactly once, such as YYYY-MM-DD")
        return self


class BrokerProfile(StrictModel):
    """A file that the service makes for this broker at each handoff: one file per unit."""

    name: Text
    filename: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(?:csv|txt|xlsx|json)$")]
    format: Literal["csv", "xlsx", "json"]
    delimiter: Literal[",", ";", "\t", "|"] = ","
    header_row: bool = Field(True, description="For a CSV file: whether the first row names the columns")
    byte_order_mark: bool = Field(True, description="For a CSV file: without it Excel does not recognise UTF-8")
    sheet: Annotated[Text, Field(max_length=31, pattern=r"^[^\[\]:*?/\\']+$")] = "Lines"
    rows: Literal["lines", "entry_lines"] = Field(
        "lines",
        exclude_if=lambda value: value == "lines",
        description="One row for each line of the invoice, or for each line of the entry: those with equal customs facts merged",
    )
    columns: list[ProfileColumn] = Field(min_length=1, max_length=MAX_COLUMNS)

    @model_validator(mode="after")
    def _is_consistent(self) -> "BrokerProfile":
        ending = self.filename.rpartition(".")[2]
        if ending != self.format and (self.format, ending) != ("csv", "txt"):
            raise ValueError(f"filename must not end in .{ending} for format {self.format}; change one of them")
        _check_filename(self.filename)
        if self.format != "csv" and (self.delimiter, self.header_row, self.byte_order_mark) != (",", True, True):
            raise ValueError("delimiter, headerRow and byteOrderMark are only for format csv; remove them")
        if self.format != "xlsx" and self.sheet != "Lines":
            raise ValueError("sheet is only for format xlsx; remove it")
        if self.sheet.casefold() == "history":
            raise ValueError(f"sheet must not be {self.sheet}, which spreadsheets reserve; choose another name")
        headers = [column.header for column in self.columns]
        if len(set(headers)) != len(headers):
            twice = next(header for header in headers if headers.count(header) > 1)
            raise ValueError(f"two columns have the header {twice!r}; give each column its own header")
        return self


class X12Envelope(StrictModel):
    """The addresses of an X12 interchange, and the transaction sets in it."""

    transactions: list[Literal["810", "856"]] = Field(
        default=["810", "856"], min_length=1, max_length=2, description="810: the invoice; 856: the ship notice"
    )
    sender_qualifier: PartnerQualifier = "ZZ"
    sender_id: PartnerCode
    receiver_qualifier: PartnerQualifier = "ZZ"
    receiver_id: PartnerCode
    units: dict[str, Annotated[str, Field(pattern=r"^[A-Z0-9]{2}$")]] = Field(
        default_factory=dict,
        max_length=60,
        description="The broker's X12 code for a unit of quantity, such as DP for DPR",
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        _check_once(self.transactions)
        return self


class UniversalShipmentSettings(StrictModel):
    """The addresses of a CargoWise shipment in the broker's system."""

    target: Annotated[Text, Field(max_length=35, description="The type of the data target")] = "CustomsDeclaration"
    company_code: CargoWiseCode | None = None
    enterprise_id: CargoWiseCode | None = None
    server_id: CargoWiseCode | None = None
    organization_codes: dict[Text, Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,12}$")]] = Field(
        default_factory=dict,
        max_length=500,
        description="The broker's organization code by the name of a party in plans",
    )


class EntryRecordSettings(StrictModel):
    """The records of an entry, for comparison with those that the filer makes."""

    transactions: list[Literal["AE", "SE"]] = Field(
        default=["AE", "SE"], min_length=1, max_length=2, description="AE: entry summary; SE: cargo release"
    )
    filer_code: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$", description="The broker's filer code")] | None = None

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        _check_once(self.transactions)
        return self


class MessageProfile(StrictModel):
    """A message that the service makes for this broker at each handoff, in the form of a standard: one per unit.

    It has the settings of exactly one format.
    """

    name: Text
    filename: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(?:x12|edi|txt|xml)$")]
    x12: X12Envelope | None = Field(None, exclude_if=lambda value: value is None, description="For an X12 interchange")
    universal_shipment: UniversalShipmentSettings | None = Field(
        None, exclude_if=lambda value: value is None, description="For CargoWise Universal Shipment XML"
    )
    entry_records: EntryRecordSettings | None = Field(
        None, exclude_if=lambda value: value is None, description="For records shaped as CATAIR's AE and SE"
    )

    @property
    def format(self) -> str:
        """The name of the message's format."""
        return next(name for name in _ENDINGS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _has_one_format(self) -> Self:
        if sum(getattr(self, name) is not None for name in _ENDINGS) != 1:
            raise ValueError("a message has exactly one format; give one of x12, universalShipment and entryRecords")
        ending = self.filename.rpartition(".")[2]
        if ending not in _ENDINGS[self.format]:
            raise ValueError(f"filename must not end in .{ending} for this format; change it")
        _check_filename(self.filename)
        return self


_ENDINGS: Final[Mapping[str, frozenset[str]]] = {
    "x12": frozenset({"x12", "edi", "txt"}),
    "universal_shipment": frozenset({"xml"}),
    "entry_records": frozenset({"txt"}),
}

#: A broker's own file: a table, or a message.
OwnFile = BrokerProfile | MessageProfile


def read_own_file(stored: Mapping[str, Any]) -> OwnFile:
    """Return the profile of a broker's own file, as it is stored."""
    return (BrokerProfile if "columns" in stored else MessageProfile).model_validate(stored)


def _check_once(transactions: Sequence[str]) -> None:
    if len(set(transactions)) != len(transactions):
        raise ValueError("transactions must name each one once; remove the second one")


def _check_filename(filename: str) -> None:
    if RESERVED_NAME.fullmatch(filename.partition(".")[0]):
        raise ValueError(f"filename {filename} is reserved on Windows; choose another")
