"""The import of filed entries: the report of entry summary lines as CSV, and what became of each entry."""

from typing import Literal

from pydantic import Field

from pipeline.exports.schemas.plan_fields import StrictModel, Text


class FiledColumns(StrictModel):
    """The names of the columns; without one, that of CBP's report as it is known at second hand."""

    entry: Text | None = Field(None, description="The entry number")
    heading: Text | None = Field(None, description="The tariff number or the heading of chapter 99")
    duty: Text | None = Field(None, description="The duty of the heading on the line, in USD")
    line: Text | None = Field(None, description="The number of the line; `harborFee` needs it")
    processing_fee: Text | None = Field(
        None, description="The merchandise processing fee of the whole entry, in USD, on each of its rows"
    )
    harbor_fee: Text | None = Field(
        None, description="The harbor maintenance fee of the line, in USD, on each of its rows"
    )


class FiledEntriesRequest(StrictModel):
    """A report of entry summary lines."""

    text: str = Field(min_length=1, max_length=4_000_000, description="The CSV file, with its line of column names")
    columns: FiledColumns = FiledColumns()
    dry_run: bool = Field(False, description="Compare, and record nothing")


class BadRow(StrictModel):
    """A row of the file that cannot be read. Its entry is not recorded."""

    line: int = Field(description="The line of the file at which the row begins, counted from 1")
    entry_number: str | None
    text: str


class FiledEntry(StrictModel):
    """What became of one entry of the file."""

    entry_number: str
    source: str = Field(description="The rows of the entry, such as: entry summary CSV, lines 12-14")
    result: Literal["recorded", "repeated", "new", "unknown", "refused"] = Field(
        description="`new`: a dry run found it; `unknown`: the account has no such entry; `refused`: `text` says why"
    )
    export_id: str | None = None
    customs_package_number: str | None = None
    differs: bool | None = Field(None, description="Whether an amount differs from the estimate beyond its tolerance")
    differences: str | None = Field(None, description="At most five of them, with their arithmetic")
    not_compared: list[str] = Field(
        default_factory=list, description="At most 20 amounts of the estimate or the file without the other side"
    )
    text: str | None = None


class FiledEntriesReport(StrictModel):
    """What became of each entry. Each is recorded by itself, so that one wrong entry stops no other."""

    dry_run: bool
    entries: list[FiledEntry]
    bad_rows: list[BadRow] = Field(description="At most 200")
    bad_row_count: int
    columns: FiledColumns = Field(description="As they were read; null: the file lacks the column")
    columns_status: Literal["check", "given"] = Field(
        description="`check`: nobody confirmed the names of the columns that the request left out"
    )
    columns_source: str
    not_read: list[str] = Field(description="The fees that the file does not say")
